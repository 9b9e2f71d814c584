// Flockwork · Apache-2.0 · see LICENSE

// Batch size follows load by itself: an instance that becomes free takes what waits. The policy only bounds that.

/// How many waiting items one call of a stage takes.
public struct BatchPolicy: Sendable, Hashable {
    /// Most items of a batch; nil = `Limits.batchItems`.
    public var limit: Int?
    /// Most item bytes of a batch; nil = `Limits.batchBytes`.
    public var limitBytes: Int?
    /// How long the first item may wait for others. Zero: an idle system adds no delay.
    public var linger: Duration = .zero

    /// Takes all that waits.
    public static let drain = BatchPolicy()

    /// Takes all that waits, up to `limit` items and `bytes` of encoded items.
    public static func upTo(_ limit: Int, bytes: Int? = nil) -> BatchPolicy {
        precondition(limit > 0, "a batch of at most \(limit) items")
        return BatchPolicy(limit: limit, limitBytes: bytes)
    }

    /// Waits up to `duration` for `limit` items to come together.
    public static func lingering(_ duration: Duration, upTo limit: Int) -> BatchPolicy {
        precondition(limit > 0 && duration >= .zero, "a batch of \(limit) items within \(duration)")
        return BatchPolicy(limit: limit, linger: duration)
    }

    /// What to do with `items` waiting items, the oldest since `waited`, when one instance asks and `idle` others do.
    enum Decision: Equatable {
        /// Take that many items now.
        case take(items: Int, bytes: Int)
        /// Ask again when more came, or after that time.
        case wait(Duration)
    }

    /// Fewer items than this are not worth another instance.
    static let grain = 256

    func decide(items: Int, bytes: Int, waited: Duration, idle: Int, draining: Bool, limits: Limits) -> Decision {
        let limit = min(limit ?? limits.batchItems, limits.batchItems)
        let limitBytes = min(limitBytes ?? limits.batchBytes, limits.batchBytes)
        if linger > .zero, !draining, items < limit, bytes < limitBytes, waited < linger {
            return .wait(linger - waited)
        }
        // Idle instances get a share: one that took all would leave them without work while it computes.
        let share = (items + idle) / (idle + 1)
        return .take(items: min(limit, max(share, min(items, Self.grain))), bytes: limitBytes)
    }
}
