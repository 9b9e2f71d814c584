// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// How many items a batch may have so that they are through in time. An item that comes just after a batch began waits
// for that one, then for its own: a batch may take half of the objective, and all items keep it as long as the stage
// keeps up. Sizes are tried out by doubling, as a connection does that does not know its path (RFC 5681, slow start).

/// Sizes of batches for a latency objective: the time from an item's arrival at the stage to its result. Pure.
struct LatencyObjective: Sendable {
    private let objective: Double
    private(set) var cost = CostModel()

    init(_ objective: Duration) {
        self.objective = Double(objective.clampedNanoseconds)
    }

    /// A batch has ended, all its items with results.
    mutating func finished(items: Int, took time: Duration) {
        cost.observe(items: items, time: Double(time.clampedNanoseconds))
    }

    /// A smaller batch for an oldest item that has waited long must not cost more of the throughput than this leaves.
    private static let keptRate = 0.9

    /// The most items to take now: `waiting` wait, the oldest since `waited`. `isAlone`: nobody else may come who is to
    /// be in time while these are late.
    func limit(waiting: Int, waited: Duration, isAlone: Bool = true) -> Int {
        guard cost.isKnown else { return 1 }
        let tried = max(2 * cost.largest, 1)
        let sustained = min(sustained, tried)
        let taken = max(min(waiting, sustained), 1)
        let left = objective - Double(waited.clampedNanoseconds)
        if cost.upper(taken) <= left { return sustained }
        // Late with all: a smaller batch may be in time, if the others do not pay too much for it.
        let early = min(cost.most(within: left / cost.margin), tried)
        if early > 0, cost.rate(early) >= Self.keptRate * cost.rate(taken) { return early }
        guard isAlone else { return sustained }
        // Too late for the oldest: what counts is how soon the others are in time again, and large batches cost less.
        return min(max(cost.most(within: objective), sustained), tried)
    }

    /// For a stage that is always busy.
    private var sustained: Int {
        let half = cost.most(within: objective / 2)
        if half > 0 { return half }
        // Only an item that finds the stage idle is in time, or none: at least do not fall behind for nothing.
        let balanced = cost.perItem > 0 ? cost.fixed / cost.perItem : Double(Int32.max)
        return max(cost.most(within: objective), Int(min(balanced, Double(Int32.max))), 1)
    }

    /// How long a batch of so many items takes, but for a few; zero while nothing is known.
    func upper(_ items: Int) -> Duration {
        .nanoseconds(Int64(min(cost.upper(items), Double(Int32.max) * 1e6)))
    }
}
