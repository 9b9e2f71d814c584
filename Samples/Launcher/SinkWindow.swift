// Flockwork · Apache-2.0 · see LICENSE

// What whoever takes the results sees for a while: how long nothing came, and how long requests took.

import Flockwork
import Synchronization

/// Results between two moments; times in nanoseconds.
struct SinkWindow: Sendable {
    /// From post to result.
    private(set) var latencies = LatencyHistogram()
    /// The longest time without a result.
    private(set) var pause: UInt64 = 0
    private var last: UInt64

    init(at time: UInt64) { last = time }

    mutating func completed(_ count: Int, at time: UInt64, latency: UInt64) {
        latencies.record(latency, times: count)
        pass(time)
    }

    /// The time up to now counts, too.
    mutating func pass(_ time: UInt64) {
        pause = max(pause, time > last ? time - last : 0)
        last = max(last, time)
    }
}

extension DemoRun {
    /// What the sink sees while `body` runs, and until so much time has passed.
    func window(atLeast time: UInt64, _ body: () async throws -> Void) async throws -> SinkWindow {
        let start = Self.now()
        state.withLock { $0.openLoop?.window = SinkWindow(at: start) }
        try await body()
        let now = Self.now()
        if now < start + time { try await Task.sleep(for: .nanoseconds(Int64(start + time - now))) }
        let end = Self.now()
        return state.withLock { state in
            var window = state.openLoop?.window.take() ?? SinkWindow(at: start)
            window.pass(end)
            return window
        }
    }
}
