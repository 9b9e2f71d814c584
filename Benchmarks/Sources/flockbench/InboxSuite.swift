// Flockwork · Apache-2.0 · see LICENSE

/// A client process, a node process, TCP on loopback.
enum InboxSuite {
    static func measure(_ run: Run) async throws {
        let one = try await RawPingPong.best(inFlight: 1, run: run)
        try run.emit(.latency("inbox", "raw-ping-1", one, limit: nil, must: "the limit of ask-1"))
    }
}
