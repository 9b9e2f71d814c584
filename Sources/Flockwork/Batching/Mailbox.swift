// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The queue in front of a lane's instances. Producers hand over lists of runs: one lock and at most one wake-up each,
// however many items. Instances that are free take batches as the policy says. It is bounded by the dispatchers'
// credits, which is why `put` never refuses.

/// A run of requests in front of a stage.
struct WorkRun: Sendable {
    var run: RequestRun
    var items: ItemBuffer
    var deadline: Tick?
    var arrived: Tick
    /// The caller's trace.
    var trace: TraceContext?
    /// Its share where it waits with others.
    var priority = RequestPriority.normal
    /// What hears of its end.
    let assignment: Assignment
}

final class Mailbox: Sendable {
    private struct State: ~Copyable {
        var queue: LaneQueue
        var waiting: [UnsafeContinuation<Bool, Never>] = []
        var isClosed = false
        /// No instance is left: what comes ends at once.
        var isRefusing = false
        var lingering = false
        /// An instance looks for work instead of parking, and needs no waking.
        var isSpinning = false
    }

    private let state: Mutex<State>
    private let stage: String
    private let learns: Bool
    private let loop: EventLoop
    /// Changes with every `put`, for an instance that looks for work.
    private let puts = Atomic<Int>(0)

    /// With one flow for each weight.
    init(stage: String, policy: BatchPolicy, weights: [Int] = [1], limits: Limits, loop: EventLoop) {
        self.stage = stage
        self.loop = loop
        let queue = LaneQueue(policy: policy, weights: weights, limits: limits)
        learns = queue.learns
        state = Mutex(State(queue: queue))
    }

    /// Items and bytes of a flow that wait.
    func backlog(of flow: Int = 0) -> (items: Int, bytes: Int) { state.withLock { $0.queue.backlog(of: flow) } }

    /// Hands runs over. Wakes only as many idle instances as there is work for.
    func put(_ runs: [WorkRun], flow: Int = 0) {
        let woken: [UnsafeContinuation<Bool, Never>]? = state.withLock { state in
            if state.isRefusing { return nil }
            for run in runs { state.queue.append(run, to: flow) }
            puts.add(1, ordering: .releasing)
            let busy = state.isSpinning ? 1 : 0
            let wanted = min(state.waiting.count, max(1, state.queue.items / BatchPolicy.grain) - busy)
            let woken = Array(state.waiting.suffix(wanted))
            state.waiting.removeLast(wanted)
            return woken
        }
        guard let woken else {
            // Not within this call: its caller may be in the middle of handing out the runs.
            return loop.execute { [stage] in for run in runs { Self.endRefused(run, stage: stage) } }
        }
        for continuation in woken { continuation.resume(returning: true) }
    }

    /// The next batch: runs of at most the policy's items and bytes. Nil once closed and empty.
    func take() async -> LaneQueue.Taken? {
        if loop.busyPoll { spin() }
        while true {
            switch attempt() {
            case .batch(let taken, let next):
                next?.resume(returning: true)
                return taken
            case .closed: return nil
            case .wait(let duration):
                if let duration { wakeAfter(duration) }
                _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Bool, Never>) in park(continuation)
                }
            }
        }
    }

    /// Where the loop polls, so does one idle instance: it holds a thread for that moment.
    private func spin() {
        let seen = puts.load(ordering: .acquiring)
        let spins = state.withLock { state in
            guard state.queue.isEmpty, !state.isClosed, !state.isSpinning else { return false }
            state.isSpinning = true
            return true
        }
        guard spins else { return }
        EventLoop.spin { puts.load(ordering: .acquiring) != seen }
        state.withLock { $0.isSpinning = false }
    }

    private enum Attempt {
        /// And an idle instance for what the batch left behind.
        case batch(LaneQueue.Taken, next: UnsafeContinuation<Bool, Never>?)
        case wait(Duration?)
        case closed
    }

    private func attempt() -> Attempt {
        state.withLock { state in
            let isClosed = state.isClosed
            switch state.queue.next(idle: state.waiting.count, isClosing: isClosed, now: EventLoop.now) {
            case .empty: return isClosed ? .closed : .wait(nil)
            case .batch(let taken):
                if let limit = taken.limit { loop.limitsReached.reached(limit) }
                // This instance is busy now: what is left must not wait for it while another one is idle.
                return .batch(taken, next: state.queue.isEmpty ? nil : state.waiting.popLast())
            case .wait(let duration):
                defer { state.lingering = true }
                return .wait(state.lingering ? nil : duration)
            }
        }
    }

    /// A batch of so many items of a flow has ended, all with results. Free where nothing is learned from it.
    func finished(flow: Int = 0, items: Int, took time: Duration) {
        guard learns else { return }
        state.withLock { $0.queue.finished(flow, items: items, took: time) }
    }

    /// Parks unless something came meanwhile.
    private func park(_ continuation: UnsafeContinuation<Bool, Never>) {
        let goOn = state.withLock { state in
            guard (state.queue.isEmpty || state.lingering) && !state.isClosed && !state.queue.isComplete else {
                return true
            }
            state.waiting.append(continuation)
            return false
        }
        if goOn { continuation.resume(returning: true) }
    }

    private func wakeAfter(_ duration: Duration) {
        _ = loop.schedule(after: duration) { [self] in
            let woken = state.withLock { state in
                state.lingering = false
                return state.waiting.popLast()
            }
            woken?.resume(returning: true)
        }
    }

    /// Takes out what waits of a run that nobody wants any more.
    func revoke(_ run: RequestRun, flow: Int = 0) -> [WorkRun] {
        state.withLock { $0.queue.revoke(run, of: flow) }
    }

    /// No instance is left. Takes out what waits; what comes from now on ends as that does.
    func refuse() -> [WorkRun] {
        state.withLock { state in
            state.isRefusing = true
            return state.queue.removeAll()
        }
    }

    /// There is an instance again.
    func accept() {
        state.withLock { $0.isRefusing = false }
    }

    /// On the loop. An outcome and not another attempt: the same lane of the same node would be asked again.
    static func endRefused(_ work: WorkRun, stage: String) {
        let error = FlockError(
            .unavailable, "All instances of the stage hang: their calls did not return in time.", stage: stage)
        let outcome = OutcomeRun(sequences: work.run.sequences, outcome: .failed(error))
        work.assignment.ended(work.run, .done([outcome]))
    }

    /// No more runs will come; those that wait are still handed out.
    func close() {
        let woken = state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in woken { continuation.resume(returning: true) }
    }
}

extension WorkRun {
    /// The first `count` items, and the others.
    func split(at count: Int) -> (WorkRun, WorkRun) {
        (part(from: 0, count: count), part(from: count, count: run.count - count))
    }

    func part(from first: Int, count: Int) -> WorkRun {
        var part = self
        part.run.sequences = SequenceRun(first: run.sequences.first + UInt64(first), count: count)
        part.items = items.slice(from: first, count: count)
        return part
    }

    /// The parts of this run inside and outside of `range`, in order.
    func parts(by range: SequenceRun) -> [(WorkRun, isInside: Bool)] {
        let own = run.sequences
        let low = min(max(range.first, own.first), own.end)
        let high = max(min(range.end, own.end), low)
        let cuts = [(own.first, low, false), (low, high, true), (high, own.end, false)]
        return cuts.compactMap { start, end, inside in
            start < end ? (part(from: Int(start - own.first), count: Int(end - start)), inside) : nil
        }
    }
}
