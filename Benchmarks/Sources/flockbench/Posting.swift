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
        /// What went to each session: with several nodes there is one for each.
        var sessions: [Place: Sent] = [:]
        /// When each of the last runs was posted.
        var times = [UInt64](repeating: 0, count: 4096)
        var posted = 0
        /// No run comes after those that are counted in `posted`.
        var isLast = false
    }

    private struct Place: Hashable {
        var partition: PartitionID
        var session: SessionID
    }

    private struct Sent {
        /// The sequence of the first item of this measurement.
        var first: UInt64
        /// The runs of 64 that went there, in order.
        var runs: [Int] = []
    }

    /// Outcomes of a session that were taken.
    private struct Taken {
        var next: UInt64
        /// What came before the gap in front of it was closed.
        var early: [UInt64: Int] = [:]

        mutating func add(_ sequence: UInt64, _ count: Int) throws {
            // Batches may come out of order. One that came twice, or overlaps another, leaves a gap or an entry behind.
            guard sequence >= next, early.updateValue(count, forKey: sequence) == nil else {
                throw BenchmarkError("item \(sequence) has two outcomes")
            }
            while let length = early.removeValue(forKey: next) { next += UInt64(length) }
        }
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
        guard tickets.runs.count == 1 else { throw BenchmarkError("the run \(index) was split") }
        let run = tickets.runs[0]
        state.withLock { state in
            let place = Place(partition: run.partition, session: run.session)
            state.sessions[place, default: Sent(first: run.sequences.first)].runs.append(index)
        }
    }

    private func produce(until end: UInt64) async throws {
        while monotonicNanoseconds() < end, !Task.isCancelled { try await postNext() }
        // Said before it is posted, so that the consumer, who looks when an outcome comes, cannot miss it.
        try await postNext(isLast: true)
    }

    /// Takes outcomes until all are there that were posted.
    private func consume() async throws -> (taken: Int, latency: Latency) {
        var latency = Latency()
        var taken = 0
        var sessions: [Place: Taken] = [:]
        for await batch in inbox.outbox().batches {
            guard let values = try batch.values() else {
                throw BenchmarkError("an outcome is no value: \(batch.outcomes()[0])")
            }
            let place = Place(partition: batch.requests.partition, session: batch.requests.session)
            let (sequence, count) = (batch.requests.sequences.first, batch.count)
            var first: UInt64 = 0
            var time: UInt64 = 0
            var done = 0
            while done < count {
                guard let posted = run(of: sequence + UInt64(done), in: place) else {
                    // The outcome was faster than the producer's note of what it had posted.
                    await Task.yield()
                    continue
                }
                if done == 0 { (first, time) = (posted.first, posted.time) }
                let part = min(count - done, InboxSuite.run - posted.offset)
                let row = posted.index % runs * InboxSuite.run + posted.offset
                let wrong = values.withScores { scores in
                    (0..<part).first { abs(scores[done + $0] - expected[row + $0]) >= Served.tolerance }
                }
                if let wrong { throw BenchmarkError("row \(row + wrong) has a wrong outcome") }
                done += part
            }
            try sessions[place, default: Taken(next: first)].add(sequence, count)
            taken += count
            let now = monotonicNanoseconds()
            latency.record(now - min(time, now), count: count)
            if taken == state.withLock({ $0.isLast ? $0.posted * InboxSuite.run : nil }) { break }
        }
        let isWhole = sessions.allSatisfy { $0.value.early.isEmpty }
        guard isWhole, sessions.values.reduce(0, { $0 + Int($1.next) }) == taken + firsts() else {
            throw BenchmarkError("outcomes are missing")
        }
        return (taken, latency)
    }

    private func firsts() -> Int { state.withLock { $0.sessions.values.reduce(0) { $0 + Int($1.first) } } }

    /// Which run an outcome belongs to, where in it, and when it was posted.
    private func run(
        of sequence: UInt64, in place: Place
    ) -> (first: UInt64, index: Int, offset: Int, time: UInt64)? {
        state.withLock { state in
            guard let first = state.sessions[place]?.first, let count = state.sessions[place]?.runs.count else {
                return nil
            }
            let distance = Int(sequence - first)
            let order = distance / InboxSuite.run
            guard order < count, let index = state.sessions[place]?.runs[order] else { return nil }
            return (first, index, distance % InboxSuite.run, state.times[index % state.times.count])
        }
    }
}
