// Flockwork · Apache-2.0 · see LICENSE

// What a call of a stage costs: a fixed part and a part per item, learned from the calls that ended. Least squares over
// an exponentially forgotten past (L. Ljung, T. Söderström: Theory and Practice of Recursive Identification, 1983),
// with residuals clipped as in P. Huber: Robust Estimation of a Location Parameter, 1964: one call that a busy machine
// held up moves the estimate a little only. Several in a row on the same side are no accident but another cost, and the
// past is dropped.

/// Time of a call of `n` items, about `fixed + perItem * n`. In nanoseconds.
struct CostModel: Sendable {
    private struct Sums {
        var weight = 0.0
        var items = 0.0
        var time = 0.0
        var itemsSquared = 0.0
        var itemsTime = 0.0

        mutating func add(items: Double, time: Double) {
            weight = weight * forgetting + 1
            self.items = self.items * forgetting + items
            self.time = self.time * forgetting + time
            itemsSquared = itemsSquared * forgetting + items * items
            itemsTime = itemsTime * forgetting + items * time
        }
    }

    // About the last 100 calls count.
    private static let forgetting = 0.99
    private static let clippedAt = 3.0
    private static let smallestSpread = 0.05
    private static let unknownSpread = 0.5
    private static let changedAfter = 4
    /// One call in so many may take longer than `upper`.
    private static let exceeded = 0.02
    private static let marginStep = 0.05

    private(set) var fixed = 0.0
    private(set) var perItem = 0.0
    /// How much more than expected a slow, but not unusual, call takes: a factor.
    private(set) var margin = 1.25
    /// Largest call since the cost was last found to have changed; 0 = nothing is known.
    private(set) var largest = 0
    private var sums = Sums()
    /// Typical relative distance from the expected time.
    private var spread = unknownSpread
    /// The last calls that were all too slow, or all too fast.
    private var strays: [(items: Int, time: Double)] = []
    private var strayIsSlow = false

    var isKnown: Bool { largest > 0 }

    func expected(_ items: Int) -> Double { fixed + perItem * Double(items) }

    /// What few calls exceed.
    func upper(_ items: Int) -> Double { margin * expected(items) }

    /// Items per nanosecond in calls of that size.
    func rate(_ items: Int) -> Double { Double(items) / max(expected(items), 1) }

    /// The most items of a call that takes at most so long as a rule; zero if none does.
    func most(within time: Double) -> Int {
        let left = time - fixed
        guard left > 0 else { return 0 }
        let most = left / max(perItem, .leastNormalMagnitude)
        return most >= Double(Int32.max) ? Int(Int32.max) : Int(most)
    }

    /// A call of `items` items took `time` nanoseconds.
    mutating func observe(items: Int, time: Double) {
        guard items > 0, time.isFinite else { return }
        let time = max(time, 1)
        guard isKnown else { return restart([(items, time)]) }
        let expected = max(expected(items), 1)
        let distance = time / expected - 1
        let bound = Self.clippedAt * max(spread, Self.smallestSpread)
        if isStray(distance, bound), gathered(items, time, isSlow: distance > 0) { return }
        let clipped = min(max(distance, -bound), bound)
        spread += max(0.05, 1 / (sums.weight + 1)) * (abs(clipped) - spread)
        margin += Self.marginStep * ((distance + 1 > margin ? 1 : 0) - Self.exceeded)
        margin = min(max(margin, 1), 3)
        largest = max(largest, items)
        sums.add(items: Double(items), time: expected * (1 + clipped))
        fit()
    }

    private mutating func isStray(_ distance: Double, _ bound: Double) -> Bool {
        if abs(distance) > bound { return true }
        strays.removeAll(keepingCapacity: true)
        return false
    }

    /// True if there are enough of them for a new start.
    private mutating func gathered(_ items: Int, _ time: Double, isSlow: Bool) -> Bool {
        if isSlow != strayIsSlow { strays.removeAll(keepingCapacity: true) }
        strayIsSlow = isSlow
        strays.append((items, time))
        guard strays.count >= Self.changedAfter else { return false }
        restart(strays)
        return true
    }

    private mutating func restart(_ calls: [(items: Int, time: Double)]) {
        sums = Sums()
        for call in calls { sums.add(items: Double(call.items), time: call.time) }
        largest = calls.map(\.items).max() ?? 0
        strays.removeAll(keepingCapacity: true)
        spread = Self.unknownSpread
        fit()
    }

    private mutating func fit() {
        let meanItems = sums.items / sums.weight
        let meanTime = sums.time / sums.weight
        let variance = sums.itemsSquared / sums.weight - meanItems * meanItems
        // Calls of about one size say nothing about the two parts: their relation stays.
        guard variance > 0.01 * meanItems * meanItems else {
            let now = fixed + perItem * meanItems
            fixed = now > 0 ? fixed * meanTime / now : 0
            perItem = now > 0 ? perItem * meanTime / now : meanTime / meanItems
            return
        }
        let slope = (sums.itemsTime / sums.weight - meanItems * meanTime) / variance
        perItem = min(max(slope, 0), meanTime / meanItems)
        fixed = meanTime - perItem * meanItems
    }
}
