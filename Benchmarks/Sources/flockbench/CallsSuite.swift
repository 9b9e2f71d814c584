// Flockwork · Apache-2.0 · see LICENSE

/// Distributed calls between two processes.
enum CallsSuite {
    static func measure(_ run: Run) async throws {
        let one = try await RawPingPong.best(inFlight: 1, run: run)
        try run.emit(.latency("calls", "raw-ping-1", one, limit: nil, must: "the limit of call-1"))
        let many = try await RawPingPong.best(inFlight: 256, run: run)
        try run.emit(.rate("calls", "raw-ping-256", many, limit: nil, must: "the limit of call-256"))
    }
}
