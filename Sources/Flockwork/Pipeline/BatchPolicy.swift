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
    /// The time from an item's arrival at the stage to its result that batches are to keep; nil = none.
    public var objective: Duration?

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

    /// Takes as many as keep the time from an item's arrival at the stage to its result within `objective`, up to
    /// `limit`.
    ///
    /// What a call costs is learned from the calls themselves, as a fixed part and a part per item, and followed when
    /// it changes. Requests with a deadline that the next batch cannot keep end with `deadlineExceeded` before anything
    /// is spent on them. The objective bounds batches, not load: a stage that cannot keep it, or has more to do than it
    /// can, works on in batches that are worth their fixed part.
    public static func within(_ objective: Duration, upTo limit: Int? = nil) -> BatchPolicy {
        precondition(objective > .zero && limit.map { $0 > 0 } ?? true, "\(limit ?? 1) items within \(objective)")
        return BatchPolicy(limit: limit, objective: objective)
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

    func decide(
        items: Int, bytes: Int, waited: Duration, idle: Int, draining: Bool, limits: Limits, atMost: Int = .max
    ) -> Decision {
        let limit = min(limit ?? limits.batchItems, limits.batchItems, atMost)
        let limitBytes = min(limitBytes ?? limits.batchBytes, limits.batchBytes)
        if linger > .zero, !draining, items < limit, bytes < limitBytes, waited < linger {
            return .wait(linger - waited)
        }
        // Idle instances get a share: one that took all would leave them without work while it computes.
        let share = (items + idle) / (idle + 1)
        return .take(items: min(limit, max(share, min(items, Self.grain))), bytes: limitBytes)
    }
}
