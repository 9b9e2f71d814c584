// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The instances of one lane on one node, behind their common mailbox. Each instance is one task that takes a batch,
// runs the lane's steps over it and says what became of it; nobody else calls `process`.

/// A batch and what became of it.
struct FinishedBatch: Sendable {
    var runs: [WorkRun]
    var result: BatchResult
}

final class LaneRunner: Sendable {
    let name: String
    let instances: Int
    let mailbox: Mailbox
    let observation = StageObservation()
    private let limits: Limits
    private let counters = Mutex(StageCounters())
    private let tasks = Mutex<[Task<Void, Never>]>([])
    private let onFinished: @Sendable (FinishedBatch) -> Void

    /// `onFinished` is called on the instances' tasks.
    init(
        _ shape: LaneShape, instances: Int, limits: Limits, loop: EventLoop,
        onFinished: @escaping @Sendable (FinishedBatch) -> Void
    ) {
        name = shape.name
        self.instances = instances
        mailbox = Mailbox(policy: shape.batch, limits: limits, loop: loop)
        self.limits = limits
        self.onFinished = onFinished
    }

    /// Starts one task for each instance's step.
    func start(_ steps: [EncodedStep]) {
        tasks.withLock { tasks in
            for step in steps {
                let execution = BatchExecution(step: step, stage: name, limits: limits)
                tasks.append(Task { await self.drain(with: execution) })
            }
        }
    }

    /// Finishes what waits, then ends the instances.
    func stop() async {
        mailbox.close()
        let tasks = tasks.withLock { tasks in
            defer { tasks = [] }
            return tasks
        }
        for task in tasks { await task.value }
    }

    func currentStatus(of pipeline: String) -> StageStatus {
        let counters = counters.withLock { $0 }
        return StageStatus(
            pipeline: pipeline, stage: name, instances: instances, waiting: mailbox.backlog.items,
            batches: counters.batches, items: counters.items, bisected: counters.bisected,
            busyNanoseconds: counters.busy.clampedNanoseconds, waitedNanoseconds: counters.waited.clampedNanoseconds,
            batchSizes: counters.sizes)
    }

    private func drain(with execution: BatchExecution) async {
        while let runs = await mailbox.take() {
            let start = EventLoop.now
            let (due, expired) = Self.sort(runs, at: start)
            if !expired.isEmpty { onFinished(Self.expire(expired)) }
            guard !due.isEmpty else { continue }
            let items = due.count == 1 ? due[0].items : ItemBuffer.joined(due.map(\.items))
            let result = await observation.run(due) { await execution.run(items) }
            let busy = EventLoop.now - start
            counters.withLock {
                $0.count(items: items.count, busy: busy, waited: start - due[0].arrived, parts: result.parts.count)
            }
            onFinished(FinishedBatch(runs: due, result: result))
        }
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
        let error = FlockError(.deadlineExceeded, "The deadline passed while the request waited for a free instance.")
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
