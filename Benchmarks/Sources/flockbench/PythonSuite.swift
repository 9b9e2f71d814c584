// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import Flockwork
import Foundation
import Glibc
import Synchronization

/// Python functions in child processes: one bounded job for each rate, a node in this process for the others. Every
/// answer is compared. CPU is that of this process only.
enum PythonSuite {
    private static let code = """
        def echo(items):
            return ['reply-' + x for x in items]
        def total(x):
            return x.sum(axis=1)
        """

    static func measure(_ run: Run) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("flockbench-\(getpid())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { remove(folder) }
        try code.write(toFile: folder + "/handler.py", atomically: true, encoding: .utf8)
        var options = PythonModel.Options()
        options.environment.interpreter =
            ProcessInfo.processInfo.environment["FLOCKWORK_BENCH_PYTHON"] ?? "/usr/bin/python3"
        options.window = 4
        let echo = PythonModel.python(folder, handler: "echo", options: options)
        for batch in [256, 1024] {
            try await run.rate("python", "echo-1-\(batch)", must: "4 M/s (aim 8 M/s)") {
                try await strings(echo, workers: 1, batch: batch, seconds: $0)
            }
        }
        try await run.rate("python", "echo-4-1024", must: "8 M/s (aim 18 M/s)") {
            try await strings(echo, workers: 4, batch: 1024, seconds: $0)
        }
        try await run.rate("python", "tensor-1-256", must: "-") {
            try await rows(
                .python(folder, handler: "total", options: options), batch: 256, seconds: $0)
        }
        try await served(run, .python(folder, handler: "echo", options: options))
    }

    private static func remove(_ folder: String) {
        // A temporary folder.
        try? FileManager.default.removeItem(atPath: folder)
    }

    // MARK: Rates

    private static func strings(
        _ model: PythonModel, workers: Int, batch: Int, seconds: Double
    ) async throws -> Measured {
        let items = (0..<batch).map { "item \($0 + 1_000_000_000)" }
        let replies = items.map { "reply-" + $0 }
        let pipeline = Pipeline("echo", of: String.self).model(model, instances: .perNode(workers))
        let source = Repeated(Batch(items), seconds: seconds)
        let sink = Compared<String> { $0.items == replies }
        return try await job(pipeline, source, sink, lanes: workers * model.options.window, workers: workers)
    }

    private static func rows(_ model: PythonModel, batch: Int, seconds: Double) async throws -> Measured {
        let rows = Rows<Float>((0..<batch * 16).map { Float($0 % 16) }, width: 16)
        let pipeline = Pipeline("total", rowsOf: 16).model(model, instances: .perNode(1))
        let source = Repeated(Batch(rows), seconds: seconds)
        let sink = Compared<Float> { batch in batch.withScores { scores in scores.allSatisfy { $0 == 120 } } }
        return try await job(pipeline, source, sink, lanes: model.options.window, workers: 1)
    }

    private static func job<Input, Output>(
        _ pipeline: Pipeline<Input, Output>, _ source: Repeated<Input>, _ sink: Compared<Output>, lanes: Int,
        workers: Int
    ) async throws -> Measured {
        let own = ownProcessorSeconds()
        let report = try await pipeline.run(from: source, into: sink, lanes: lanes)
        guard report.failed == 0 else { throw BenchmarkError("\(report.failures)") }
        let wall = Double(monotonicNanoseconds() - source.began) / 1e9
        return Measured(items: report.items, wallSeconds: wall, processorSeconds: ownProcessorSeconds() - own)
    }

    // MARK: Latency

    private static func served(_ run: Run, _ model: PythonModel) async throws {
        let pipeline = Pipeline("echo", of: String.self).model(model, instances: .perNode(1))
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        do {
            let inbox = try await node.inbox(of: pipeline)
            try await run.latency("python", "low-load", must: "0.35 ms (aim 0.2 ms)") { seconds in
                try await ClosedLoop.measure(tasks: 1, seconds: seconds, children: []) { turn in
                    guard try await inbox.ask("x") == "reply-x" else { throw BenchmarkError("a wrong answer") }
                    return 1
                }
            }
            try await killed(node, inbox)
        } catch {
            await node.shutDown()
            throw error
        }
        await node.shutDown()
    }

    /// Longest time without an answer when the one worker is killed under load.
    private static func killed(_ node: Node, _ inbox: Inbox<String, String>) async throws {
        var gaps: [Double] = []
        for _ in 0..<5 {
            let last = Gap()
            let end = monotonicNanoseconds() + 1_000_000_000
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<32 {
                    group.addTask {
                        var number = 0
                        while monotonicNanoseconds() < end {
                            number += 1
                            let text = "\(task)/\(number)"
                            guard try await inbox.ask(text) == "reply-" + text else {
                                throw BenchmarkError("a wrong answer")
                            }
                            last.answered()
                        }
                    }
                }
                try await Task.sleep(for: .milliseconds(500))
                let quiet = last.take()
                let children = try await node.status().children
                guard let victim = children.first(where: { $0.state == "serving" })?.process, victim > 0 else {
                    throw BenchmarkError("nobody serves")
                }
                kill(victim, SIGKILL)
                try await group.waitForAll()
                gaps.append(Double(last.take()) / 1e6)
                let before = Double(quiet) / 1e6
                print("child-killed: 0 failures, longest gap \(gaps[gaps.count - 1]) ms; \(before) ms before")
            }
        }
        print("child-killed: median gap \(gaps.sorted()[2]) ms")
    }
}

/// The longest time between two answers.
private final class Gap: Sendable {
    private let state = Mutex((at: monotonicNanoseconds(), longest: UInt64(0)))

    func answered() {
        state.withLock { state in
            let now = monotonicNanoseconds()
            state = (now, max(state.longest, now - state.at))
        }
    }

    /// And begins anew.
    func take() -> UInt64 {
        state.withLock { state in
            defer { state.longest = 0 }
            return state.longest
        }
    }
}

private final class Repeated<Item: Sendable>: BatchSource {
    private let batch: Batch<Item>
    private let seconds: Double
    private let start = Atomic<UInt64>(0)

    init(_ batch: Batch<Item>, seconds: Double) {
        self.batch = batch
        self.seconds = seconds
    }

    var began: UInt64 { start.load(ordering: .relaxed) }

    /// Time counts from the first batch: the processes are there by then.
    func next() -> Batch<Item>? {
        let now = monotonicNanoseconds()
        let began = start.compareExchange(expected: 0, desired: now, ordering: .relaxed).original
        return began == 0 || now < began + UInt64(seconds * 1e9) ? batch : nil
    }
}

private struct Compared<Item: Sendable>: BatchSink {
    let isRight: @Sendable (Batch<Item>) -> Bool

    init(_ isRight: @escaping @Sendable (Batch<Item>) -> Bool) { self.isRight = isRight }

    func receive(_ batch: Batch<Item>) throws {
        guard isRight(batch) else { throw BenchmarkError("a wrong answer") }
    }
}
