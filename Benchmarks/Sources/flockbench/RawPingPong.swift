// Flockwork · Apache-2.0 · see LICENSE

import CRawPingPong

/// The bare protocol between two processes, in the same run as the rows that are compared with it.
enum RawPingPong {
    /// What the child process runs.
    static func serve() throws {
        let status = raw_echo_serve { ChildProcess.isReady(port: Int($0)) }
        if status < 0 { throw BenchmarkError("libuv error \(status)") }
    }

    /// Messages of 64 bytes, `inFlight` of them on their way at a time.
    static func measure(inFlight: Int, seconds: Double, server: ChildProcess) throws -> Measured {
        let capacity = 4_000_000
        let times = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity)
        defer { times.deallocate() }
        var roundTrips: Int64 = 0
        let meter = try Meter(children: [server.id])
        let status = raw_ping(
            Int32(server.port), 64, Int32(inFlight), seconds, times, Int64(capacity), &roundTrips)
        if status < 0 { throw BenchmarkError("libuv error \(status)") }
        var measured = try meter.stop(items: Int(roundTrips))
        var latency = Latency()
        for index in 0..<min(capacity, Int(roundTrips)) { latency.record(times[index]) }
        measured.latency = latency
        return measured
    }

    /// One small message after each pause of 10 ms, over what `ping` says.
    static func measure(
        seconds: Double,
        by ping: (Double, UnsafeMutablePointer<UInt64>, Int64, UnsafeMutablePointer<Int64>) -> Int32
    ) throws -> Measured {
        let capacity = 100_000
        let times = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity)
        defer { times.deallocate() }
        var count: Int64 = 0
        let meter = try Meter()
        let code = ping(seconds, times, Int64(capacity), &count)
        if code != 0 { throw BenchmarkError("error \(code) of a bare link") }
        var latency = Latency()
        for index in 0..<Int(count) { latency.record(times[index]) }
        return try meter.stop(items: Int(count), latency: latency)
    }

    /// The row `raw-ping-N`, which others have as their limit.
    static func measure(_ suite: String, inFlight: Int, run: Run) async throws -> Measured? {
        let server = try ChildProcess(["echo"])
        defer { server.stop() }
        let measure = { (seconds: Double) in try Self.measure(inFlight: inFlight, seconds: seconds, server: server) }
        let name = "raw-ping-\(inFlight)"
        return try await inFlight == 1
            ? run.latency(suite, name, must: "the bare protocol", measure)
            : run.rate(suite, name, must: "the bare protocol", measure)
    }
}
