// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Synchronization

/// Posts runs of 64 from one task and takes the outcomes in another, checking every one.
final class Posting<Item: Codable & Sendable>: Sendable {
    private let inbox: Inbox<Item, Float>
    private let runs: Int
    /// The answer of each row.
    private let expected: [Float]
    private let post: @Sendable (_ run: Int) async throws -> Tickets
    private let state = Mutex(State())

    private struct State {
        /// The sequence of the first item of this measurement.
        var first: UInt64?
        /// When each of the last runs was posted.
        var times = [UInt64](repeating: 0, count: 4096)
        var posted = 0
        /// No run comes after those that are counted in `posted`.
        var isLast = false
    }

    init(
        inbox: Inbox<Item, Float>, runs: Int, expected: [Float] = Served.expected,
        post: @escaping @Sendable (_ run: Int) async throws -> Tickets
    ) {
        self.inbox = inbox
        self.runs = runs
        self.expected = expected
        self.post = post
    }

    func measure(seconds: Double, children: [Int32] = []) async throws -> Measured {
        let meter = try Meter(children: children)
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        // The first run alone, so that its ticket says which sequence is which row.
        try await postNext()
        async let produced: Void = produce(until: end)
        let (taken, latency) = try await consume()
        try await produced
        let measured = try meter.stop(items: taken, latency: latency)
        await inbox.close()
        return measured
    }

    private func postNext(isLast: Bool = false) async throws {
        let index = state.withLock { state in
            defer { state.posted += 1 }
            state.isLast = isLast
            state.times[state.posted % state.times.count] = monotonicNanoseconds()
            return state.posted
        }
        let tickets = try await post(index % runs)
        guard index == 0 else { return }
        guard tickets.runs.count == 1 else { throw BenchmarkError("the first run was split") }
        state.withLock { $0.first = tickets.runs[0].sequences.first }
    }

    private func produce(until end: UInt64) async throws {
        while monotonicNanoseconds() < end, !Task.isCancelled { try await postNext() }
        // Said before it is posted, so that the consumer, who looks when an outcome comes, cannot miss it.
        try await postNext(isLast: true)
    }

    /// Takes outcomes until all are there that were posted.
    private func consume() async throws -> (taken: Int, latency: Latency) {
        let period = runs * InboxSuite.run
        let first = state.withLock { $0.first } ?? 0
        var latency = Latency()
        var taken = 0
        var next = first
        var early: [UInt64: Int] = [:]
        for await batch in inbox.outbox().batches {
            let sequence = batch.requests.sequences.first
            guard let values = try batch.values() else {
                throw BenchmarkError("an outcome is no value: \(batch.outcomes()[0])")
            }
            let start = Int(sequence - first)
            let count = batch.count
            let wrong = values.withScores { scores in
                (0..<count).first { abs(scores[$0] - expected[(start + $0) % period]) >= Served.tolerance }
            }
            if let wrong { throw BenchmarkError("item \(start + wrong) has a wrong outcome") }
            // Batches may come out of order; what came early waits here until the gap before it is closed. One that
            // came twice, or overlaps another, leaves a gap or an entry behind.
            guard early.updateValue(count, forKey: sequence) == nil else {
                throw BenchmarkError("item \(start) has two outcomes")
            }
            while let length = early.removeValue(forKey: next) { next += UInt64(length) }
            taken += count
            let now = monotonicNanoseconds()
            let (all, time) = state.withLock { state in
                (
                    state.isLast ? state.posted * InboxSuite.run : nil,
                    state.times[start / InboxSuite.run % state.times.count]
                )
            }
            latency.record(now - min(time, now), count: count)
            if taken == all { break }
        }
        guard early.isEmpty, Int(next - first) == taken else { throw BenchmarkError("outcomes are missing") }
        return (taken, latency)
    }
}
