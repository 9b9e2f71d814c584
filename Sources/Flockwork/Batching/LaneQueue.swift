// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

// What waits in front of a lane, and who is next. A lane that several pipelines share has a flow for each: a batch is
// of one flow, and flows take turns by the time that their batches take, so that one which floods the lane delays the
// others by its share and no more. Pure.

struct LaneQueue: Sendable {
    /// What an instance is to do.
    enum Next {
        /// Work on these, of one flow; the late ones are not worth a call. Either may be empty.
        case batch(Taken)
        /// Ask again when more came, or after that time.
        case wait(Duration)
        /// Nothing waits.
        case empty
    }

    /// A batch of a flow.
    struct Taken: Sendable {
        var flow = 0
        var runs: [WorkRun]
        /// Not worth a call: they would be through too late.
        var late: [WorkRun] = []
        /// The bound of the node, not of the stage's policy, that left something behind.
        var limit: Limit?
    }

    private struct Flow: Sendable {
        var queue = WorkQueue()
        var objective: LatencyObjective
        /// When something of each priority came last.
        var seen: [Tick?] = Array(repeating: nil, count: RequestPriority.allCases.count)
    }

    /// A round of all flows that wait takes so long where no objective says it.
    private static let round = Duration.milliseconds(10)
    /// Who came so long ago may come again any time.
    private static let memory = Duration.seconds(1)
    /// What a batch is taken to cost while nothing is known, in nanoseconds.
    private static let unknownCost = 1_000_000.0

    let policy: BatchPolicy
    private let limits: Limits
    private let weights: [Int]
    private var flows: [Flow]
    private var turns: DeficitRoundRobin
    private(set) var items = 0

    /// One flow for each weight.
    init(policy: BatchPolicy, weights: [Int] = [1], limits: Limits) {
        self.policy = policy
        self.limits = limits
        self.weights = weights
        let flow = Flow(objective: LatencyObjective(policy.objective ?? Self.round * 2))
        flows = Array(repeating: flow, count: weights.count)
        turns = DeficitRoundRobin(weights: weights)
    }

    /// Costs are learned where they decide something.
    var learns: Bool { policy.objective != nil || flows.count > 1 }
    var isEmpty: Bool { items == 0 }

    /// Items and bytes of a flow that wait.
    func backlog(of flow: Int) -> (items: Int, bytes: Int) { (flows[flow].queue.items, flows[flow].queue.bytes) }

    mutating func append(_ run: WorkRun, to flow: Int) {
        items += run.run.count
        flows[flow].queue.append(run)
        if learns { flows[flow].seen[Int(run.priority.rawValue)] = run.arrived }
    }

    /// A batch of so many items has ended, all with results.
    mutating func finished(_ flow: Int, items: Int, took time: Duration) {
        if learns { flows[flow].objective.finished(items: items, took: time) }
    }

    /// Takes out what waits of a run.
    mutating func revoke(_ run: RequestRun, of flow: Int) -> [WorkRun] {
        let revoked = flows[flow].queue.revoke(run)
        items -= revoked.reduce(0) { $0 + $1.run.count }
        return revoked
    }

    mutating func removeAll() -> [WorkRun] {
        items = 0
        return flows.indices.flatMap { flows[$0].queue.removeAll() }
    }

    // MARK: The next batch

    /// What the instance that asks is to do, while `idle` others have nothing to do.
    ///
    /// `isClosing`: nothing more will come, so nothing is waited for.
    mutating func next(idle: Int, isClosing: Bool, now: @autoclosure () -> Tick) -> Next {
        guard !isEmpty else { return .empty }
        if flows.count == 1, !learns, policy.linger == .zero {
            return .batch(takePlain(0, waited: .zero, idle: idle, isClosing: isClosing))
        }
        let now = now()
        if let wait = lingers(idle: idle, isClosing: isClosing, now: now) { return .wait(wait) }
        let turn = turn(isClosing: isClosing, now: now)
        let taken =
            policy.objective == nil && turn.time == nil
            ? takePlain(turn.flow, waited: policy.linger, idle: idle, isClosing: isClosing)
            : takeInTime(turn.flow, credit: turn.time, idle: idle, now: now)
        if turn.isContested, let time = turn.time { charge(taken, credit: time) }
        return .batch(taken)
    }

    /// Enough has come to end a wait for more, since it began.
    var isComplete: Bool { flows.contains { isComplete($0.queue) } }

    private func isComplete(_ queue: WorkQueue) -> Bool {
        guard !queue.isEmpty else { return false }
        if case .take = decide(queue, waited: .zero, idle: 0, isClosing: false) { return true }
        return false
    }

    private func decide(
        _ queue: WorkQueue, waited: Duration, idle: Int, isClosing: Bool, atMost: Int = .max
    ) -> BatchPolicy.Decision {
        policy.decide(
            items: queue.items, bytes: queue.bytes, waited: waited, idle: idle, draining: isClosing, limits: limits,
            atMost: atMost)
    }

    private func isReady(_ flow: Int, isClosing: Bool, now: Tick) -> Bool {
        let queue = flows[flow].queue
        guard let oldest = queue.oldest else { return false }
        if policy.linger == .zero || isClosing || now - oldest >= policy.linger { return true }
        return isComplete(queue)
    }

    /// How long to wait if no flow is ready.
    private func lingers(idle: Int, isClosing: Bool, now: Tick) -> Duration? {
        guard policy.linger > .zero, !flows.indices.contains(where: { isReady($0, isClosing: isClosing, now: now) })
        else { return nil }
        return flows.compactMap { $0.queue.oldest.map { policy.linger - (now - $0) } }.min()
    }

    private struct Turn {
        var flow: Int
        /// Nanoseconds that the batch may take; nil = as long as the policy lets it.
        var time: Double?
        /// Other flows wait, too.
        var isContested = false
    }

    private mutating func turn(isClosing: Bool, now: Tick) -> Turn {
        let ready = flows.indices.filter { isReady($0, isClosing: isClosing, now: now) }
        let half = (policy.objective.map { $0 / 2 } ?? Self.round).clampedNanoseconds
        if ready.count == 1 {
            let isBounded = flows.count > 1 && !isAlone(now: now)
            return Turn(flow: ready[0], time: isBounded ? Double(half) : nil)
        }
        let quantum = max(1, Int(half) / ready.reduce(0) { $0 + weights[$1] })
        guard let (flow, credit) = turns.next(quantum: quantum, isWaiting: { ready.contains($0) }) else {
            preconditionFailure("nobody's turn, and \(ready) are ready")
        }
        return Turn(flow: flow, time: Double(credit), isContested: true)
    }

    private mutating func charge(_ taken: Taken, credit: Double) {
        let count = taken.runs.reduce(0) { $0 + $1.run.count }
        guard count > 0 else { return turns.endTurn() }
        let cost = flows[taken.flow].objective.cost
        let time = cost.isKnown ? cost.expected(count) : Self.unknownCost
        turns.take(Int(min(time, Double(Int32.max) * 1000)), from: taken.flow)
        // Too little for another one like it, which it keeps.
        if credit < 2 * time { turns.endTurn() }
    }

    private mutating func takePlain(_ flow: Int, waited: Duration, idle: Int, isClosing: Bool) -> Taken {
        guard
            case .take(let items, let bytes) = decide(
                flows[flow].queue, waited: waited, idle: idle, isClosing: isClosing)
        else { preconditionFailure("\(policy) waits") }
        return cut(flow, items: items, bytes: bytes, late: [])
    }

    private mutating func cut(_ flow: Int, items: Int, bytes: Int, late: [WorkRun]) -> Taken {
        let runs = flows[flow].queue.cut(items: items, bytes: bytes)
        for run in runs { self.items -= run.run.count }
        for run in late { self.items -= run.run.count }
        return Taken(flow: flow, runs: runs, late: late, limit: bound(flow, runs, items: items))
    }

    private func bound(_ flow: Int, _ runs: [WorkRun], items: Int) -> Limit? {
        guard !runs.isEmpty, !flows[flow].queue.isEmpty else { return nil }
        let taken = runs.reduce(0) { $0 + $1.run.count }
        if taken == limits.batchItems { return .batchItems }
        return taken < items && policy.limitBytes ?? .max >= limits.batchBytes ? .batchBytes : nil
    }

    /// With a latency objective, or within a turn: what would be late goes out, then as much as is in time.
    private mutating func takeInTime(_ flow: Int, credit: Double?, idle: Int, now: Tick) -> Taken {
        let first = size(flow, credit: credit, idle: idle, now: now)
        var late: [WorkRun] = []
        if policy.objective != nil {
            let items = min(first.items, flows[flow].queue.items)
            late = flows[flow].queue.shed(endingAt: now + flows[flow].objective.upper(items), now: now)
        }
        guard !flows[flow].queue.isEmpty else { return cut(flow, items: 0, bytes: 0, late: late) }
        // Without those that had waited longest, there may be time for more.
        let size = late.isEmpty ? first : size(flow, credit: credit, idle: idle, now: now)
        return cut(flow, items: size.items, bytes: size.bytes, late: late)
    }

    private func size(_ flow: Int, credit: Double?, idle: Int, now: Tick) -> (items: Int, bytes: Int) {
        let queue = flows[flow].queue
        let objective = flows[flow].objective
        var most = Int.max
        if policy.objective != nil {
            let isAlone = isAlone(now: now)
            most = queue.heads.reduce(Int.max) { most, head in
                min(most, objective.limit(waiting: queue.items, waited: now - head, isAlone: isAlone))
            }
        }
        if let credit, objective.cost.isKnown { most = min(most, max(objective.cost.most(within: credit), 1)) }
        guard
            case .take(let items, let bytes) = decide(
                queue, waited: policy.linger, idle: idle, isClosing: true, atMost: most)
        else { preconditionFailure("\(policy) waits") }
        return (items, bytes)
    }

    /// All that came lately is of one flow and priority.
    private func isAlone(now: Tick) -> Bool {
        var recent = 0
        for other in flows {
            for seen in other.seen {
                if let seen, seen + Self.memory > now { recent += 1 }
            }
        }
        return recent <= 1
    }
}
