// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Logging
internal import Synchronization

// The instances of one lane on one node, behind their common mailbox. Each instance is one task that takes a batch,
// runs the lane's steps over it and says what became of it; nobody else calls `process`.

/// A batch and what became of it.
struct FinishedBatch: Sendable {
    var flow = 0
    var runs: [WorkRun]
    var result: BatchResult

    var isSmall: Bool { runs.count <= 4 && runs.allSatisfy { $0.run.count <= 4 } }
}

final class LaneRunner: Sendable {
    /// Makes another instance.
    typealias InstanceFactory = @Sendable () async throws -> LaneInstance

    struct State {
        /// By flow.
        var counters: [StageCounters]
        var instances: LaneInstances<[WorkRun]>
        var tasks: [Int: Task<Void, Never>] = [:]
        /// Of the instances that have one and do not hang.
        var threads: [Int: OwnThread] = [:]
        /// Whoever waits for the last instance to end.
        var stopping: [UnsafeContinuation<Void, Never>] = []
    }

    let name: String
    let instances: Int
    let mailbox: Mailbox
    /// By flow.
    let observations: [StageObservation]
    let limits: Limits
    let loop: EventLoop
    let log: Logger?
    let makeInstance: InstanceFactory?
    let state: Mutex<State>
    private let onFinished: @Sendable (FinishedBatch) -> Void

    /// `weights` has one for each pipeline that shares the lane. `onFinished` is called on the instances' tasks.
    /// `makeInstance` is for those in the place of hung ones; without it they are missed.
    init(
        _ shape: LaneShape, instances: Int, weights: [Int] = [1], limits: Limits, loop: EventLoop, log: Logger? = nil,
        makeInstance: InstanceFactory? = nil, onFinished: @escaping @Sendable (FinishedBatch) -> Void
    ) {
        name = shape.name
        self.instances = instances
        mailbox = Mailbox(stage: shape.name, policy: shape.batch, weights: weights, limits: limits, loop: loop)
        observations = weights.map { _ in StageObservation() }
        self.limits = limits
        self.loop = loop
        self.log = log
        self.makeInstance = makeInstance
        state = Mutex(
            State(
                counters: weights.map { _ in StageCounters() },
                instances: LaneInstances(
                    wanted: instances, attemptTime: limits.attemptTime,
                    mayHang: makeInstance == nil ? 0 : 2 * instances)))
        self.onFinished = onFinished
    }

    /// Starts one task for each instance.
    /// - Throws: `system` when there is no thread for one; those before it run.
    func start(_ made: [LaneInstance]) throws(FlockError) {
        for instance in made {
            let number = state.withLock { $0.instances.add() }
            do throws(FlockError) {
                try start(instance, as: number)
            } catch {
                state.withLock { $0.instances.remove() }
                throw error
            }
        }
    }

    func start(_ made: LaneInstance, as instance: Int) throws(FlockError) {
        let thread = try made.threadName.map { (name) throws(FlockError) in try OwnThread(instance: instance, of: name)
        }
        start(made.step, as: instance, on: thread, near: thread == nil ? made.executor : nil)
    }

    private func start(
        _ step: @escaping EncodedStep, as instance: Int, on thread: OwnThread?, near executor: (any TaskExecutor)?
    ) {
        let goesOn: @Sendable () -> Bool = { [weak self] in
            self?.state.withLock { $0.instances.callAgain(instance, at: EventLoop.now) } ?? false
        }
        var execution = BatchExecution(step: step, stage: name, limits: limits, mayCallAgain: goesOn)
        execution.executor = executor
        state.withLock { state in
            state.threads[instance] = thread
            state.tasks[instance] = Task(executorPreference: thread ?? executor) { [execution] in
                await StepCall.$current.withValue(StepCall(goesOn: goesOn)) {
                    await self.drain(instance, with: execution, on: thread)
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
        let threads = state.withLock { state in
            defer { state.threads = [:] }
            return state.threads.values
        }
        for thread in threads { thread.join() }
    }

    /// Batches that were given up because a call did not return, and instances that still hang.
    var hung: (batches: UInt64, instances: Int) {
        state.withLock { ($0.instances.abandoned, $0.instances.hangingCount) }
    }

    func currentStatus(of pipeline: String, flow: Int = 0) -> StageStatus {
        let counters = state.withLock { $0.counters[flow] }
        return StageStatus(
            pipeline: pipeline, stage: name, instances: instances, waiting: mailbox.backlog(of: flow).items,
            batches: counters.batches, items: counters.items, bisected: counters.bisected,
            busyNanoseconds: counters.busy.clampedNanoseconds, waitedNanoseconds: counters.waited.clampedNanoseconds,
            batchSizes: counters.sizes)
    }

    private func drain(_ instance: Int, with execution: BatchExecution, on thread: OwnThread?) async {
        while let taken = await mailbox.take() {
            let began = EventLoop.now
            let (due, expired) = Self.sort(taken.runs, at: began)
            if !expired.isEmpty { onFinished(Self.expire(expired, taken.flow)) }
            if !taken.late.isEmpty { onFinished(Self.expire(taken.late, taken.flow)) }
            guard !due.isEmpty else { continue }
            if let delay = state.withLock({ $0.instances.begin(instance, due, at: began) }) { watch(after: delay) }
            let items = due.count == 1 ? due[0].items : ItemBuffer.joined(due.map(\.items))
            var execution = execution
            execution.flow = taken.flow
            let result = await observations[taken.flow].run(due) { [execution] in await execution.runWherever(items) }
            let busy = EventLoop.now - began
            let ending = state.withLock { state in
                let ending = state.instances.end(instance)
                if ending == .counts {
                    state.counters[taken.flow].count(
                        items: items.count, busy: busy, waited: began - due[0].arrived, parts: result.parts.count)
                }
                return ending
            }
            switch ending {
            case .counts:
                if result.isWhole { mailbox.finished(flow: taken.flow, items: items.count, took: busy) }
                onFinished(FinishedBatch(flow: taken.flow, runs: due, result: result))
            case .late(let goesOn):
                log?.notice("a hung call has returned", metadata: ["stage": "\(name)", "after": "\(busy)"])
                guard goesOn else { return end(instance, on: thread, wasAlive: false) }
                mailbox.accept()
                // In a task of its own, for this one was cancelled.
                return start(execution.step, as: instance, on: thread, near: execution.executor)
            }
        }
        end(instance, on: thread, wasAlive: true)
    }

    private func end(_ instance: Int, on thread: OwnThread?, wasAlive: Bool) {
        thread?.end()
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

    private static func expire(_ runs: [WorkRun], _ flow: Int) -> FinishedBatch {
        let count = runs.reduce(0) { $0 + $1.run.count }
        let error = FlockError(
            .deadlineExceeded, "The request waited too long for a free instance: its deadline passed, or would have.")
        return FinishedBatch(
            flow: flow, runs: runs,
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
