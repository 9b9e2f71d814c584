// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import Flockwork
import Foundation
import Synchronization

/// A bounded job over one batch again and again.
enum PythonJob {
    /// What the job took: this process, and the worker processes.
    struct Result {
        var own: Measured
        var children: Measured
    }

    static func strings(_ model: PythonModel, workers: Int, batch: Int, seconds: Double) async throws -> Result {
        let items = (0..<batch).map { "item \($0 + 1_000_000_000)" }
        let replies = items.map { "reply-" + $0 }
        let pipeline = Pipeline("echo", of: String.self).model(model, instances: .perNode(workers))
        let sink = Compared<String> { $0.items == replies }
        return try await job(pipeline, Repeated(Batch(items), seconds), sink, workers * model.options.window)
    }

    /// Rows as Benchmarks/Python/bare.py makes them.
    static func rows(count: Int) -> Rows<Float> {
        Rows(count: count, width: 16) { elements in
            for index in elements.indices {
                let step = (index / 16 * 31 + index % 16 * 17) % 64
                elements[index] = Float(step) / 64 - 0.5
            }
        }
    }

    static func rows(_ model: PythonModel, expected: [Float], seconds: Double) async throws -> Result {
        let pipeline = Pipeline("logreg", rowsOf: 16).model(model, instances: .perNode(1))
        let sink = Compared<Float> { batch in batch.withScores { $0.elementsEqual(expected) } }
        let source = Repeated(Batch(rows(count: expected.count)), seconds)
        return try await job(pipeline, source, sink, model.options.window)
    }

    private static func job<Input, Output>(
        _ pipeline: Pipeline<Input, Output>, _ source: Repeated<Input>, _ sink: Compared<Output>, _ lanes: Int
    ) async throws -> Result {
        let report = try await pipeline.run(from: source, into: sink, lanes: lanes)
        guard report.failed == 0 else { throw BenchmarkError("\(report.failures)") }
        return try source.result(items: report.items)
    }
}

extension Run {
    /// A row about a job: its rate, and this process's CPU.
    func rate(
        _ suite: String, _ name: String, must: String, _ measure: (_ seconds: Double) async throws -> PythonJob.Result
    ) async throws {
        try await rate(suite, name, must: must) { seconds -> Measured in try await measure(seconds).own }
    }
}

/// A moment of a job.
private struct Moment {
    let nanoseconds = monotonicNanoseconds()
    let own = ownProcessorSeconds()
    let children = childProcesses().reduce(0.0) { sum, child in sum + ((try? processorSeconds(of: child)) ?? 0) }
}

private final class Repeated<Item: Sendable>: BatchSource {
    private let batch: Batch<Item>
    private let seconds: Double
    private let state = Mutex((begin: Moment?.none, end: Moment?.none))

    init(_ batch: Batch<Item>, _ seconds: Double) {
        self.batch = batch
        self.seconds = seconds
    }

    /// Time counts from the first batch: the processes are there by then. It ends while they are still there.
    func next() -> Batch<Item>? {
        state.withLock { state in
            guard let begin = state.begin else {
                state.begin = Moment()
                return batch
            }
            if monotonicNanoseconds() < begin.nanoseconds + UInt64(seconds * 1e9) { return batch }
            if state.end == nil { state.end = Moment() }
            return nil
        }
    }

    func result(items: Int) throws -> PythonJob.Result {
        let (begin, end) = state.withLock { $0 }
        guard let begin, let end else { throw BenchmarkError("a job that did not end") }
        let wall = Double(end.nanoseconds - begin.nanoseconds) / 1e9
        return PythonJob.Result(
            own: Measured(items: items, wallSeconds: wall, processorSeconds: end.own - begin.own),
            children: Measured(items: items, wallSeconds: wall, processorSeconds: end.children - begin.children))
    }
}

private struct Compared<Item: Sendable>: BatchSink {
    let isRight: @Sendable (Batch<Item>) -> Bool

    init(_ isRight: @escaping @Sendable (Batch<Item>) -> Bool) { self.isRight = isRight }

    func receive(_ batch: Batch<Item>) throws {
        guard isRight(batch) else { throw BenchmarkError("a wrong answer") }
    }
}
