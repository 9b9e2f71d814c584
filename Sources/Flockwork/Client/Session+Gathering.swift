// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire

// Callers that are answered together ask again one after the other. A loop that sends what it finds at once sends them
// in many small frames, each of which is an entry in the log of every copy. So while many requests are out, it waits
// for an eighth of them to gather, or for an eighth of the time that a request takes: then it looks by itself.

extension Session {
    /// Requests that must be open; with fewer each is sent as it comes.
    private static let manyRequests: UInt64 = 64

    /// Outcomes have come: how long they took is learned from them.
    func followed(_ outcomes: [OutcomeRun]) {
        guard port.isRouted else { return }
        loopState.with { $0.roundTrip.received(outcomes, at: EventLoop.now) }
    }

    /// Callers are answered, and are about to ask again.
    func gather() {
        guard port.isRouted, let pause = loopState.with({ $0.roundTrip.pause }) else { return }
        let begins = pending.withLock { pending in
            guard !pending.isGathering, pending.open >= Self.manyRequests else { return false }
            pending.isGathering = true
            return true
        }
        guard begins else { return }
        port.loop.schedule(after: pause) {
            self.pending.withLock { $0.isGathering = false }
            self.flush()
        }
    }
}

/// How long a session's requests take, as the loop sees it. One request at a time is followed.
struct RoundTrip: Sendable {
    private var followed: (sequence: UInt64, since: Tick)?
    private var nanoseconds: UInt64 = 0

    /// The longest time that requests are gathered for.
    private static let longestPause = Duration.microseconds(500)
    /// A request that takes longer than this says something about itself and not about the way.
    private static let patience = Duration.milliseconds(100)

    /// Requests gather for so long; nil before anything is known.
    var pause: Duration? {
        guard nanoseconds > 0 else { return nil }
        return min(.nanoseconds(Int64(clamping: nanoseconds / PendingRequests.frames)), Self.longestPause)
    }

    mutating func sent(_ sequence: UInt64, at now: Tick) {
        if let followed, now - followed.since < Self.patience { return }
        followed = (sequence, now)
    }

    mutating func received(_ outcomes: [OutcomeRun], at now: Tick) {
        guard let (sequence, since) = followed,
            outcomes.contains(where: { $0.sequences.first <= sequence && sequence < $0.sequences.end })
        else { return }
        followed = nil
        let time = (now - since).clampedNanoseconds
        // The mean of the last few.
        nanoseconds = nanoseconds == 0 ? time : nanoseconds - nanoseconds / 4 + time / 4
    }
}
