// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// Pauses between attempts: doubling up to a maximum, each shortened by up to a half at random, so that nodes that lost
/// the same peer do not come back in step. Pure: randomness comes in.
struct Backoff: Equatable {
    private let minimum: Duration
    private let maximum: Duration
    private var current: Duration

    init(minimum: Duration, maximum: Duration) {
        precondition(minimum > .zero && minimum <= maximum, "back-off from \(minimum) to \(maximum)")
        self.minimum = minimum
        self.maximum = maximum
        current = minimum
    }

    /// The next pause, between a half and the whole of the current step.
    mutating func next(random: UInt64) -> Duration {
        let half = current.clampedNanoseconds / 2
        let pause = Duration.nanoseconds(Int64(clamping: half + random % max(half + 1, 1)))
        current = min(current * 2, maximum)
        return pause
    }

    /// A connection that lived for `age` was lost. One that lived long enough starts from the minimum again; a peer
    /// that accepts and closes at once is not hammered.
    mutating func lost(after age: Duration) {
        if age >= maximum { current = minimum }
    }
}
