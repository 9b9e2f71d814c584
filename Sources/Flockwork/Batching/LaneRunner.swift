// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Logging
internal import Synchronization

// The instances of one lane on one node, behind their common mailbox. Each instance is one task that takes a batch,
// runs the lane's steps over it and says what became of it; nobody else calls `process`.

/// A batch and what became of it.
struct FinishedBatch: Sendable {
    var runs: [WorkRun]
    var result: BatchResult
}

final class LaneRunner: Sendable {
    /// Makes the step of another instance.
    typealias StepFactory = @Sendable () async throws -> EncodedStep

    struct State {
        var counters = StageCounters()
        var instances: LaneInstances<[WorkRun]>
        var tasks: [Int: Task<Void, Never>] = [:]
        /// Whoever waits for the last instance to end.
        var stopping: [UnsafeContinuation<Void, Never>] = []
    }

    let name: String
    let instances: Int
    let mailbox: Mailbox
    let observation = StageObservation()
    let limits: Limits
    let loop: EventLoop
    let log: Logger?
    let makeStep: StepFactory?
    let state: Mutex<State>
    private let onFinished: @Sendable (FinishedBatch) -> Void

    /// `onFinished` is called on the instances' tasks. `makeStep` is for instances in the place of hung ones; without
    /// it they are missed.
    init(
        _ shape: LaneShape, instances: Int, limits: Limits, loop: EventLoop, log: Logger? = nil,
        makeStep: StepFactory? = nil, onFinished: @escaping @Sendable (FinishedBatch) -> Void
    ) {
        name = shape.name
        self.instances = instances
        mailbox = Mailbox(stage: shape.name, policy: shape.batch, limits: limits, loop: loop)
        self.limits = limits
        self.loop = loop
        self.log = log
        self.makeStep = makeStep
        state = Mutex(
            State(
                instances: LaneInstances(
                    wanted: instances, attemptTime: limits.attemptTime,
                    mayHang: makeStep == nil ? 0 : 2 * instances)))
        self.onFinished = onFinished
    }

    /// Starts one task for each instance's step.
    func start(_ steps: [EncodedStep]) {
        for step in steps { start(step, as: state.withLock { $0.instances.add() }) }
    }

    func start(_ step: @escaping EncodedStep, as instance: Int) {
        let goesOn: @Sendable () -> Bool = { [weak self] in
            self?.state.withLock { $0.instances.callAgain(instance, at: EventLoop.now) } ?? false
        }
        let execution = BatchExecution(step: step, stage: name, limits: limits, mayCallAgain: goesOn)
        state.withLock { state in
            state.tasks[instance] = Task {
                await StepCall.$current.withValue(StepCall(goesOn: goesOn)) {
                    await self.drain(instance, with: execution)
                }
            }
        }
    }

    /// Finishes what waits, then ends the instances. Those that hang are not waited for.
    func stop() async {
        mailbox.close()
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isOver = state.withLock { state in
                if state.instances.alive == 0 { return true }
                state.stopping.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    /// Batches that were given up because a call did not return, and instances that still hang.
    var hung: (batches: UInt64, instances: Int) {
        state.withLock { ($0.instances.abandoned, $0.instances.hangingCount) }
    }

    func currentStatus(of pipeline: String) -> StageStatus {
        let counters = state.withLock { $0.counters }
        return StageStatus(
            pipeline: pipeline, stage: name, instances: instances, waiting: mailbox.backlog.items,
            batches: counters.batches, items: counters.items, bisected: counters.bisected,
            busyNanoseconds: counters.busy.clampedNanoseconds, waitedNanoseconds: counters.waited.clampedNanoseconds,
            batchSizes: counters.sizes)
    }

    private func drain(_ instance: Int, with execution: BatchExecution) async {
        while let taken = await mailbox.take() {
            let began = EventLoop.now
            let (due, expired) = Self.sort(taken.runs, at: began)
            if !expired.isEmpty { onFinished(Self.expire(expired)) }
            if !taken.late.isEmpty { onFinished(Self.expire(taken.late)) }
            guard !due.isEmpty else { continue }
            if let delay = state.withLock({ $0.instances.begin(instance, due, at: began) }) { watch(after: delay) }
            let items = due.count == 1 ? due[0].items : ItemBuffer.joined(due.map(\.items))
            let result = await observation.run(due) { await execution.run(items) }
            let busy = EventLoop.now - began
            let ending = state.withLock { state in
                let ending = state.instances.end(instance)
                if ending == .counts {
                    state.counters.count(
                        items: items.count, busy: busy, waited: began - due[0].arrived, parts: result.parts.count)
                }
                return ending
            }
            switch ending {
            case .counts:
                if result.isWhole { mailbox.finished(items: items.count, took: busy) }
                onFinished(FinishedBatch(runs: due, result: result))
            case .late(let goesOn):
                log?.notice("a hung call has returned", metadata: ["stage": "\(name)", "after": "\(busy)"])
                guard goesOn else { return end(instance, wasAlive: false) }
                mailbox.accept()
                // In a task of its own, for this one was cancelled.
                return start(execution.step, as: instance)
            }
        }
        end(instance, wasAlive: true)
    }

    private func end(_ instance: Int, wasAlive: Bool) {
        let stopping = state.withLock { state in
            state.tasks[instance] = nil
            if wasAlive { state.instances.remove() }
            return state.takeStopping()
        }
        for continuation in stopping { continuation.resume() }
    }

    /// Expired requests go out first: nobody waits for them any more.
    private static func sort(_ runs: [WorkRun], at now: Tick) -> (due: [WorkRun], expired: [WorkRun]) {
        guard runs.contains(where: { $0.deadline.map { $0 <= now } ?? false }) else { return (runs, []) }
        var due: [WorkRun] = []
        var expired: [WorkRun] = []
        for run in runs {
            if let deadline = run.deadline, deadline <= now { expired.append(run) } else { due.append(run) }
        }
        return (due, expired)
    }

    private static func expire(_ runs: [WorkRun]) -> FinishedBatch {
        let count = runs.reduce(0) { $0 + $1.run.count }
        let error = FlockError(
            .deadlineExceeded, "The request waited too long for a free instance: its deadline passed, or would have.")
        return FinishedBatch(
            runs: runs,
            result: BatchResult(parts: [BatchResult.Part(start: 0, count: count, ending: .failed(error))]))
    }
}

/// What a lane's instances did so far.
struct StageCounters: Sendable {
    var batches: UInt64 = 0
    var items: UInt64 = 0
    /// Batches that were halved because they threw.
    var bisected: UInt64 = 0
    var busy: Duration = .zero
    /// Time that the oldest item of each batch had waited.
    var waited: Duration = .zero
    /// Batches by size: bucket `b` counts those of 2^b ..< 2^(b+1) items.
    var sizes: [UInt64] = Array(repeating: 0, count: 21)

    mutating func count(items count: Int, busy: Duration, waited: Duration, parts: Int) {
        batches += 1
        items += UInt64(count)
        if parts > 1 { bisected += 1 }
        self.busy += busy
        self.waited += waited
        sizes[min(sizes.count - 1, Int.bitWidth - 1 - max(count, 1).leadingZeroBitCount)] += 1
    }
}
