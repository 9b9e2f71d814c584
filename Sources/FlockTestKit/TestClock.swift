// Flockwork · Apache-2.0 · see LICENSE

internal import Synchronization

// Code that takes a clock can be tested without waiting: its sleeps end when the test moves the time, and not before.

/// A clock that stands still until a test moves it.
public final class TestClock: Clock, Sendable {
    /// Time since the clock was made.
    public struct Instant: InstantProtocol, CustomStringConvertible {
        /// Since the clock was made.
        public let offset: Duration
        /// An instant so long after the clock was made.
        public init(_ offset: Duration) { self.offset = offset }
        public func advanced(by duration: Duration) -> Instant { Instant(offset + duration) }
        public func duration(to other: Instant) -> Duration { other.offset - offset }
        public static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
        public var description: String { "\(offset)" }
    }

    private struct Sleeper {
        let number: Int
        let until: Instant
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var now = Instant(.zero)
        var nextNumber = 0
        var sleepers: [Sleeper] = []
        var watchers: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
        /// Sleeps that were cancelled before they began.
        var cancelled: Set<Int> = []
    }

    private let state = Mutex(State())

    /// A clock at zero.
    public init() {}

    public var now: Instant { state.withLock { $0.now } }
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Tasks that sleep on this clock now.
    public var sleeperCount: Int { state.withLock { $0.sleepers.count } }

    /// Returns when the test has moved the clock to `deadline`. Throws `CancellationError` if the task is cancelled.
    public func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        let number = state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        let isInTime = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                park(Sleeper(number: number, until: deadline, continuation: continuation))
            }
        } onCancel: {
            cancel(number)
        }
        if !isInTime { throw CancellationError() }
    }

    private func park(_ sleeper: Sleeper) {
        let (answer, watchers) = state.withLock { state -> (Bool?, [CheckedContinuation<Void, Never>]) in
            if state.cancelled.remove(sleeper.number) != nil { return (false, []) }
            if sleeper.until <= state.now { return (true, []) }
            state.sleepers.append(sleeper)
            let count = state.sleepers.count
            let met = state.watchers.filter { $0.count <= count }.map(\.continuation)
            state.watchers.removeAll { $0.count <= count }
            return (nil, met)
        }
        if let answer { sleeper.continuation.resume(returning: answer) }
        for watcher in watchers { watcher.resume() }
    }

    private func cancel(_ number: Int) {
        let sleeper = state.withLock { state -> Sleeper? in
            guard let index = state.sleepers.firstIndex(where: { $0.number == number }) else {
                state.cancelled.insert(number)
                return nil
            }
            return state.sleepers.remove(at: index)
        }
        sleeper?.continuation.resume(returning: false)
    }

    /// Moves the time and ends the sleeps that are due, the earliest first.
    public func advance(by duration: Duration) {
        precondition(duration >= .zero, "time does not go back: \(duration)")
        let due = state.withLock { state -> [Sleeper] in
            state.now = state.now.advanced(by: duration)
            let now = state.now
            let due = state.sleepers.filter { $0.until <= now }
            state.sleepers.removeAll { $0.until <= now }
            return due.sorted { ($0.until, $0.number) < ($1.until, $1.number) }
        }
        for sleeper in due { sleeper.continuation.resume(returning: true) }
    }

    /// Returns once `count` tasks sleep: then it makes sense to move the time.
    public func whenSleeping(_ count: Int = 1) async {
        await withCheckedContinuation { continuation in
            let isMet = state.withLock { state in
                if state.sleepers.count >= count { return true }
                state.watchers.append((count, continuation))
                return false
            }
            if isMet { continuation.resume() }
        }
    }
}
