// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockTransport
public import FlockWire
internal import Foundation
internal import Logging
internal import Synchronization

// A bounded job is a pipeline without an inbox: no ids, no log, no network. Each lane is one task with instances of its
// own that pulls a batch, awaits every step and delivers the result; it has a thread if one of the steps needs one.
// Back-pressure is simply that it has not asked yet.

/// What a bounded job did.
public struct JobReport: Sendable, Equatable {
    /// Items that the source gave.
    public var items = 0
    public var batches = 0
    /// Items of failed batches, after the search for the bad ones.
    public var failed = 0
    /// Items that the pipeline filtered.
    public var filtered = 0
    /// The first failures, at most 16: where in the source, and why.
    public var failures: [Failure] = []

    /// Nothing done yet.
    public init() {}

    /// An item that failed.
    public struct Failure: Sendable, Equatable {
        public var position: Int
        public var error: FlockError
    }

    mutating func add(_ other: JobReport) {
        items += other.items
        batches += other.batches
        failed += other.failed
        filtered += other.filtered
        failures = Array((failures + other.failures).sorted { $0.position < $1.position }.prefix(16))
    }
}

extension Pipeline {
    /// Runs every batch of a source through the pipeline and hands the results to a sink.
    ///
    /// `lanes` batches are under way at once, each through instances of its own; nil: one a core. A batch that throws
    /// is halved until its bad items are found: they are counted and reported, and the job goes on.
    /// - Throws: what the source or the sink throws, and `FlockError` where a model cannot be loaded.
    public func run<Source: BatchSource<Input>, Sink: BatchSink<Output>>(
        from source: Source, into sink: Sink, lanes: Int? = nil
    ) async throws -> JobReport {
        let lanes = max(1, lanes ?? ProcessInfo.processInfo.activeProcessorCount)
        let loop = try EventLoop(name: "flock-job")
        let identity = Identity(clusterID: "job", node: "job", role: .node, membersHash: 0, token: nil)
        let system = FlockSystem(identity: identity, loop: loop, limits: Limits(), log: Logger(label: "flockwork.job"))
        let result: Result<JobReport, any Error>
        do {
            result = .success(try await run(from: source, into: sink, lanes: lanes, system: system))
        } catch {
            result = .failure(error)
        }
        await system.stop()
        await loop.stop()
        return try result.get()
    }

    private func run<Source: BatchSource<Input>, Sink: BatchSink<Output>>(
        from source: Source, into sink: Sink, lanes: Int, system: FlockSystem
    ) async throws -> JobReport {
        let node = NodeContext(
            node: "job", limits: system.limits, log: Logger(label: "flockwork.job"),
            cores: ProcessInfo.processInfo.activeProcessorCount)
        let result: Result<JobReport, any Error>
        do {
            result = .success(try await run(from: source, into: sink, lanes: lanes, system: system, node: node))
        } catch {
            result = .failure(error)
        }
        await node.end()
        return try result.get()
    }

    private func run<Source: BatchSource<Input>, Sink: BatchSink<Output>>(
        from source: Source, into sink: Sink, lanes: Int, system: FlockSystem, node: NodeContext
    ) async throws -> JobReport {
        var threads: [OwnThread] = []
        defer {
            for thread in threads { thread.end() }
            for thread in threads { thread.join() }
        }
        return try await withThrowingTaskGroup(of: JobReport.self) { group in
            for number in 1...lanes {
                let context = InstanceContext(system: system, node: node, instances: lanes)
                let lane = JobLane(step: try await wholeStep(context), limits: system.limits)
                let thread = try context.threadName.map { name throws(FlockError) in
                    try OwnThread(instance: number, of: name)
                }
                if let thread { threads.append(thread) }
                group.addTask(executorPreference: thread) { try await lane.run(from: source, into: sink) }
            }
            var report = JobReport()
            for try await part in group { report.add(part) }
            return report
        }
    }

    /// All lanes of the pipeline as one step.
    private func wholeStep(_ context: InstanceContext) async throws -> Step<Output> {
        let last = try await makeStep(context.inJob(shape))
        var earlier: [EncodedStep] = []
        for definition in closed { earlier.append(try await definition.makeStep(context.inJob(definition.shape))) }
        guard !earlier.isEmpty else { return last }
        let steps = earlier
        return { input in
            var input = input
            var origins: [Int32]?
            for step in steps {
                let output = try await step(input)
                origins = output.composed(after: origins)
                input = .encoded(output.items)
            }
            var batch = try await last(input)
            if let origins { batch.origins = (0..<batch.count).map { origins[batch.origin(of: $0)] } }
            return batch
        }
    }
}

extension InstanceContext {
    /// Of a job's lanes, `window` share an instance.
    fileprivate func inJob(_ shape: LaneShape) -> InstanceContext {
        var context = self
        context.instances = (instances + shape.window - 1) / shape.window
        return context
    }
}

extension LaneOutput {
    /// Where these items were before an earlier lane, given where that lane's input was.
    func composed(after earlier: [Int32]?) -> [Int32]? {
        guard let earlier else { return origins }
        return origins.map { $0.map { earlier[Int($0)] } } ?? earlier
    }
}

/// One lane of a job.
private struct JobLane<Output: Sendable>: Sendable {
    let step: Step<Output>
    let limits: Limits

    func run<Source: BatchSource, Sink: BatchSink<Output>>(from source: Source, into sink: Sink) async throws
        -> JobReport
    {
        var report = JobReport()
        while let batch = try await source.next() {
            try Task.checkCancellation()
            report.items += batch.count
            report.batches += 1
            do {
                try await deliver(try await step(.batch(batch)), of: batch, to: sink, &report)
            } catch let error as SinkError {
                throw error.cause
            } catch {
                var budget = limits.bisectionCalls
                try await bisect(batch, error, to: sink, &report, &budget)
            }
        }
        return report
    }

    /// An error of the sink ends the job; one of the pipeline does not.
    private struct SinkError: Error {
        let cause: any Error
    }

    private func deliver<Sink: BatchSink<Output>, Input>(
        _ result: Batch<Output>, of batch: Batch<Input>, to sink: Sink, _ report: inout JobReport
    ) async throws {
        report.filtered += batch.count - result.count
        var result = result
        result.position = batch.position
        do {
            try await sink.receive(result)
        } catch {
            throw SinkError(cause: error)
        }
    }

    private func bisect<Sink: BatchSink<Output>, Input>(
        _ batch: Batch<Input>, _ error: any Error, to sink: Sink, _ report: inout JobReport, _ budget: inout Int
    ) async throws {
        guard batch.count > 1, budget > 0, StepCall.maySucceedInParts(after: error) else {
            report.failed += batch.count
            if report.failures.count < 16 {
                report.failures.append(.init(position: batch.position, error: FlockError.ofStage(error)))
            }
            return
        }
        let half = batch.count / 2
        for part in [batch.part(from: 0, count: half), batch.part(from: half, count: batch.count - half)] {
            budget -= 1
            do {
                let result = try await StepCall.again(after: error) { try await step(.batch(part)) }
                try await deliver(result, of: part, to: sink, &report)
            } catch let error as SinkError {
                throw error.cause
            } catch {
                try await bisect(part, error, to: sink, &report, &budget)
            }
        }
    }
}

extension Batch {
    /// The items `first ..< first + count` of a batch as it came from its source.
    func part(from first: Int, count: Int) -> Batch {
        var part =
            switch storage {
            case .items(let items): Batch(Array(items[first..<first + count]))
            case .rows(let rows):
                Batch(storage: .rows(rows.slice(from: first, count: count)), origins: nil, position: 0)
            }
        part.position = position + first
        return part
    }
}
