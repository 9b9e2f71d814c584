// Flockwork · Apache-2.0 · see LICENSE

/// The bounded job and the open loop, within one process.
enum NativeSuite {
    static let lanes = 4

    static func measure(_ run: Run) async throws {
        let limit = try await run.fastest { try Dataset.bareLoop(threads: lanes, seconds: $0) }
        try run.emit(.rate("native", "bare-loop", limit, limit: nil, must: "the limit of the rows below"))
    }
}
