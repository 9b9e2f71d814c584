// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// Whether a request that comes now can be done in time: the way from acceptance to outcome is measured as a whole, with
// all its queues, lanes and nodes, on a few requests at a time. What took how long behind how many others gives a fixed
// part and a part per item, by the same estimator as a stage's cost.

/// How long requests of one pipeline and priority take, from what became of those before. Pure.
struct QueueForecast: Sendable {
    private struct Probe: Sendable {
        /// The last request of a run.
        var request: RequestRun
        /// Items that it has to wait for, and itself.
        var items: Int
        var began: Tick
    }

    private static let probesAtOnce = 16

    private var probes: [Probe] = []
    private(set) var cost = CostModel()

    /// A run goes on its way, `open` items with it.
    mutating func began(_ run: RequestRun, open: Int, at now: Tick) {
        // Spread over the time that one takes, so that a change shows soon however long the queue is.
        if let last = probes.last {
            let spacing = cost.isKnown ? cost.expected(open) / Double(Self.probesAtOnce) : 0
            guard Double((now - last.began).clampedNanoseconds) >= spacing else { return }
        }
        // The oldest may be one that nobody answers any more.
        if probes.count == Self.probesAtOnce { probes.removeFirst() }
        var request = run
        request.sequences = SequenceRun(first: run.sequences.end - 1, count: 1)
        probes.append(Probe(request: request, items: open, began: now))
    }

    /// A run, or a part of it, is over. `isDone`: with an outcome, and not because nobody wanted it any more.
    mutating func ended(_ run: RequestRun, isDone: Bool, at now: Tick) {
        guard !probes.isEmpty, let index = probes.firstIndex(where: { Self.isPart($0.request, of: run) }) else {
            return
        }
        let probe = probes.remove(at: index)
        let time = Double((now - probe.began).clampedNanoseconds)
        // What was given up would have taken at least so long.
        if isDone || time > cost.expected(probe.items) { cost.observe(items: probe.items, time: time) }
    }

    private static func isPart(_ probe: RequestRun, of run: RequestRun) -> Bool {
        probe.session == run.session && probe.partition == run.partition
            && run.sequences.first <= probe.sequences.first && probe.sequences.end <= run.sequences.end
    }

    /// How many of a run of `count` items can be in time behind `open` others: all if nobody knows.
    ///
    /// Behind none it is one at least: an estimate that nobody tests stays wrong.
    func room(for count: Int, deadline: Duration, behind open: Int, limits: Limits) -> Int {
        guard cost.isKnown else { return count }
        let most = cost.most(within: allowed(of: deadline, limits))
        return min(count, max(most - open, open == 0 ? 1 : 0))
    }

    /// The time that a request may take, in nanoseconds.
    private func allowed(of deadline: Duration, _ limits: Limits) -> Double {
        Double(deadline.clampedNanoseconds) * min(limits.deadlineShare, 1 / cost.margin)
    }

    /// Why no more is accepted behind `open` others.
    func refusal(deadline: Duration, behind open: Int, limits: Limits) -> FlockError {
        let allowed = allowed(of: deadline, limits)
        if cost.most(within: allowed) == 0 {
            return FlockError(
                .deadlineExceeded, "The request would not be done before its deadline, even if nothing waited.")
        }
        let excess = Duration.nanoseconds(Int64(min(max(cost.expected(open + 1) - allowed, 0), 60e9)))
        return FlockError(
            .overloaded, "The request would not be done before its deadline: \(open) others wait.",
            retryAfter: max(excess, limits.retryAfter), limit: .deadlineShare)
    }
}
