// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

/// The names of this process's threads that begin like this.
private func threads(named prefix: String) throws -> [String] {
    let tasks = "/proc/self/task"
    return try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap { task in
        // A thread may end between the two looks.
        guard let name = try? String(contentsOfFile: "\(tasks)/\(task)/comm", encoding: .utf8) else { return nil }
        return name.hasPrefix(prefix) ? name.trimmingCharacters(in: .newlines) : nil
    }.sorted()
}

private var currentThread: String {
    do {
        return try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8).trimmingCharacters(in: .newlines)
    } catch {
        return "\(error)"
    }
}

/// Blocks the threads that come to it, as a C library does that waits.
private final class Barrier: Sendable {
    private let inside = Atomic<Int>(0)
    private let gate = DispatchSemaphore(value: 0)
    let names = Collected<String>()

    var count: Int { inside.load(ordering: .relaxed) }

    func pass() {
        names.append(currentThread)
        inside.add(1, ordering: .relaxed)
        // Not for ever: on the pool's threads it would keep the whole test run.
        if gate.wait(timeout: .now() + 20) == .success { gate.signal() }
    }

    func open() { gate.signal() }
}

/// A model that blocks in each call. Its name is the threads' name.
private struct Waiter: Model {
    let barrier: Barrier
    var inputWidth: Int { 1 }
    var outputWidth: Int { 1 }
    var isBlocking: Bool { true }
    func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) {
        barrier.pass()
        rows.withElements { elements in _ = scores.update(fromContentsOf: elements) }
    }
}

/// A model that notes its thread.
private struct Noting: Model {
    let names: Collected<String>
    var isBlocking = false
    var inputWidth: Int { 1 }
    var outputWidth: Int { 1 }
    func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) {
        names.append(currentThread)
        rows.withElements { elements in _ = scores.update(fromContentsOf: elements) }
    }
}

/// A user's stage that notes its thread, before and after it was suspended, and in a child task.
distributed actor NotingStage: RowStage {
    private let names: Collected<String>
    init(_ names: Collected<String>, actorSystem: FlockSystem) {
        self.names = names
        self.actorSystem = actorSystem
    }
    distributed func process(_ rows: Rows<Float>) async throws -> Rows<Float> {
        note()
        await Task.yield()
        note()
        async let child: Void = note()
        await child
        return rows
    }
    private func note() { names.append(currentThread) }
}

@Suite("A thread for each instance", .timeLimit(.minutes(1)), .logsOnFailure)
struct OwnThreadTests {
    private static let cores = ProcessInfo.processInfo.activeProcessorCount

    @Test("lets more calls block at once than the pool has threads, and the pool goes on")
    func blocking() async throws {
        let barrier = Barrier()
        let instances = 2 * Self.cores
        let slow = Pipeline("slow", rowsOf: 1)
            .model(.swift(Waiter(barrier: barrier)), batch: .upTo(1), instances: .perNode(instances))
        let quick = Pipeline("quick", of: Int.self).stage(AddOne.init)
        let node = Node(pipelines: slow, quick, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        // A thread gives itself its name when it first runs.
        try await eventually { try threads(named: "Waiter-") == (1...instances).map { "Waiter-\($0)" }.sorted() }
        let inbox = try await node.inbox(of: slow)
        _ = try await inbox.post((0..<instances).map { Row([Float($0)]) })
        try await eventually { barrier.count == instances }
        #expect(try await node.inbox(of: quick).ask(41) == 42)
        #expect(barrier.names.all.sorted() == (1...instances).map { "Waiter-\($0)" }.sorted(), "one call a thread")
        barrier.open()
        var values: Set<Float> = []
        for await (_, outcome) in inbox.outbox() {
            if case .value(let value) = outcome { values.insert(value) }
            if values.count == instances { break }
        }
        #expect(values == Set((0..<instances).map { Float($0) }))
        await node.shutDown()
        #expect(try threads(named: "Waiter-").isEmpty, "joined")
    }

    /// The threads on which a pipeline's steps ran, for a few batches one after another.
    private func names(_ pipeline: Pipeline<Row, Float>) async throws {
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        let inbox = try await node.inbox(of: pipeline)
        for number in 0..<5 { #expect(try await inbox.ask(Row([Float(number)])) == Float(number)) }
        await node.shutDown()
    }

    @Test("is had by a whole lane: a stage beside a blocking model runs on the model's thread, also after a wait")
    func fused() async throws {
        let (stage, model) = (Collected<String>(), Collected<String>())
        try await names(
            Pipeline("fused", rowsOf: 1)
                .stage(instances: .perNode(1)) { NotingStage(stage, actorSystem: $0) }
                .model(.swift(Noting(names: model, isBlocking: true))))
        #expect(Set(model.all) == ["Noting-1"] && Set(stage.all) == ["Noting-1"])
        #expect(model.all.count == 5 && stage.all.count == 15)
    }

    @Test("is not had by the lane before, nor by a model that does not block or that is told not to")
    func pool() async throws {
        let (stage, model) = (Collected<String>(), Collected<String>())
        try await names(
            Pipeline("two lanes", rowsOf: 1)
                .stage { NotingStage(stage, actorSystem: $0) }
                .model(.swift(Noting(names: model)), thread: .own))
        #expect(model.all.allSatisfy { $0.hasPrefix("Noting-") })
        #expect(!stage.all.isEmpty && !stage.all.contains { $0.hasPrefix("Noting") })
        for source in [Noting(names: stage), Noting(names: stage, isBlocking: true)] {
            try await names(Pipeline("pool", rowsOf: 1).model(.swift(source), thread: source.isBlocking ? .pool : nil))
        }
        #expect(!stage.all.contains { $0.hasPrefix("Noting") })
    }

    @Test("is had by a user's stage that asks for it")
    func stage() async throws {
        let names = Collected<String>()
        try await self.names(
            Pipeline("own", rowsOf: 1)
                .stage(instances: .perNode(1), thread: .own) { NotingStage(names, actorSystem: $0) }
                .map { $0.values[0] })
        #expect(Set(names.all) == ["NotingStage-1"])
    }

    @Test("is had by each lane of a bounded job, and ends with it")
    func job() async throws {
        let names = Collected<String>()
        let rows = Rows((0..<64).map { Float($0) }, width: 1)
        let sink = ArraySink<Float>()
        let pipeline = Pipeline("job", rowsOf: 1).model(.swift(Noting(names: names, isBlocking: true)))
        let report = try await pipeline.run(from: RowsSource(rows, batchSize: 4), into: sink, lanes: 3)
        #expect(report.items == 64 && sink.items == (0..<64).map { Float($0) })
        #expect(names.all.count == 16)
        #expect(Set(names.all).subtracting(["Noting-1", "Noting-2", "Noting-3"]) == [])
    }

    @Test("is given up with a call that blocks for ever; another instance takes its place, and the node can stop")
    func hung() async throws {
        var limits = Limits()
        limits.attemptTime = .milliseconds(250)
        let barrier = Barrier()
        let blocks = Counter()
        let pipeline = Pipeline("hung", of: Int.self)
            .stage(instances: .perNode(1), thread: .own) { Blocked(barrier, blocks, actorSystem: $0) }
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, limits: limits, logger: .quiet))
        try await node.start()
        let inbox = try await node.inbox(of: pipeline)
        #expect(try await inbox.ask(13) == 13, "by the second attempt")
        #expect(barrier.count == 1)
        #expect(try threads(named: "Blocked-") == ["Blocked-1", "Blocked-2"])
        await node.shutDown()
        #expect(try threads(named: "Blocked-") == ["Blocked-1"], "it blocks still")
        barrier.open()
        try await eventually { try threads(named: "Blocked-").isEmpty }
    }
}

/// Blocks its thread in its first call.
distributed actor Blocked: Stage {
    private let barrier: any Sendable
    private let blocks: Counter

    fileprivate init(_ barrier: Barrier, _ blocks: Counter, actorSystem: FlockSystem) {
        self.barrier = barrier
        self.blocks = blocks
        self.actorSystem = actorSystem
    }

    distributed func process(_ batch: [Int]) async throws -> [Int] {
        blocks.add()
        if blocks.value == 1, let barrier = barrier as? Barrier { barrier.pass() }
        return batch
    }
}
