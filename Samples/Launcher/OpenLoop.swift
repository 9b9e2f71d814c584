// Flockwork · Apache-2.0 · see LICENSE

// Load that does not wait for the system under test, and what is measured meanwhile: completions by time, and how long
// sessions hear no `accepted`.

import Flockwork
import Synchronization

/// Requests at an even pace from `start` on.
struct OpenLoop: Sendable {
    /// Completions are counted in steps of so many nanoseconds.
    static let step: UInt64 = 100_000_000
    private static let stepsPerSecond = 10

    /// Requests a second.
    let rate: Double
    let first: Int
    /// Nanoseconds.
    let start: UInt64
    private var completions: [Int] = []
    private var heard: [DemoRun.SessionKey: UInt64] = [:]
    private var gap: UInt64 = 0
    /// What the sink sees, while somebody wants to know.
    var window: SinkWindow?

    init(rate: Double, first: Int, start: UInt64) {
        self.rate = rate
        self.first = first
        self.start = start
    }

    /// Seconds until a request is due.
    func wait(for request: Int, at time: UInt64) -> Double {
        Double(request - first) / rate - (Double(time) - Double(start)) / 1e9
    }

    mutating func completed(_ count: Int, at time: UInt64, latency: UInt64) {
        guard time >= start else { return }
        window?.completed(count, at: time, latency: latency)
        let index = Int((time - start) / Self.step)
        if index >= completions.count { completions += repeatElement(0, count: index + 1 - completions.count) }
        completions[index] += count
    }

    /// From now on these sessions' times without `accepted` count.
    mutating func watch(_ sessions: [DemoRun.SessionKey], from time: UInt64) {
        heard = Dictionary(uniqueKeysWithValues: sessions.map { ($0, time) })
        gap = 0
    }

    mutating func accepted(_ session: DemoRun.SessionKey, at time: UInt64) {
        guard let before = heard[session], time > before else { return }
        gap = max(gap, time - before)
        heard[session] = time
    }

    /// The longest of them; nil if no session was watched. One that still waits counts with the time so far.
    func longestGap(at time: UInt64) -> UInt64? {
        heard.values.map { time > $0 ? time - $0 : 0 }.max().map { max(gap, $0) }
    }

    /// Completions of a second ÷ what was offered in it.
    func share(from time: UInt64) -> Double {
        let low = Int((time - start) / Self.step)
        let indices = (low..<low + Self.stepsPerSecond).clamped(to: completions.indices)
        return Double(completions[indices].reduce(0, +)) / rate
    }

    /// The worst second between two times, looked at in steps; nil if there is no whole second.
    func worstSecond(from low: UInt64, to high: UInt64) -> Double? {
        stride(from: low, through: max(low, high), by: Int(Self.step))
            .prefix { $0 + Self.step * UInt64(Self.stepsPerSecond) <= high }.map { share(from: $0) }.min()
    }
}

extension DemoRun {
    /// From now on so many requests a second, due at even distances.
    func offer(_ rate: Double) {
        state.withLock { $0.openLoop = OpenLoop(rate: rate, first: $0.nextRequest, start: Self.now()) }
    }

    /// Latencies count from now on: what went before waited behind more than is offered.
    func beginLatencies() {
        state.withLock { state in
            state.latencies = LatencyHistogram()
            state.latenciesFrom = Self.now()
        }
    }

    /// What was measured since.
    var openLoop: OpenLoop? { state.withLock { $0.openLoop } }

    /// Looks from now on how long the sessions of these partitions hear no `accepted`.
    func watchAcceptance(of partitions: Set<PartitionID>, from time: UInt64) {
        state.withLock { state in
            let sessions = state.ledgers.keys.filter { partitions.contains($0.partition) }
            state.openLoop?.watch(sessions, from: time)
        }
    }

    /// No request is claimed any more: the run ends when all that were have their outcomes.
    func finish() {
        state.withLock { state in
            state.end = state.nextRequest
            state.checker.end(at: state.end)
        }
        finishIfDone()
    }
}
