// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Testing

@Suite("Python in pipelines", .timeLimit(.minutes(3)))
struct PythonPipelineTests {
    @Test("strings go through a Python function to their callers")
    func strings() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return ['reply-' + x for x in items]\n")
        let pipeline = Pipeline("echo", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), instances: .perNode(2))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<500 {
                    group.addTask {
                        let answer = try await inbox.ask("\(index)")
                        #expect(answer == "reply-\(index)")
                    }
                }
                try await group.waitForAll()
            }
            try await eventually { try await node.status().children.reduce(0) { $0 + $1.items } == 500 }
            let children = try await node.status().children
            #expect(children.count { $0.state == "serving" } == 2)
            #expect(children.allSatisfy { $0.restarts == 0 && $0.lastError == "" })
        }
    }

    @Test("bytes go through a Python function, and a closure follows in the same lane")
    func bytes() async throws {
        let folder = try HandlerFolder("def flip(items):\n    return [x[::-1] for x in items]\n")
        let pipeline = Pipeline("flip", of: Bytes.self)
            .model(
                .python(folder.path, handler: "handler:flip", options: HandlerFolder.options), instances: .perNode(1)
            )
            .map { $0.array }
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            #expect(try await inbox.ask(Bytes([0, 255, 3])) == [3, 255, 0])
        }
    }

    @Test("rows are one array for the function, and its numbers are the scores", .enabled(if: HandlerFolder.hasNumPy))
    func rows() async throws {
        let folder = try HandlerFolder(
            """
            def score(x):
                assert x.dtype == 'float32' and x.shape[1] == 16 and x.ctypes.data % 64 == 0, (x.dtype, x.shape)
                return x.sum(axis=1)
            def pairs(x):
                return x[:, :2].astype('float64') * 2
            def listed(x):
                return [float(row[0]) for row in x]
            """)
        func model(_ handler: String) -> PythonModel {
            .python(folder.path, handler: handler, options: HandlerFolder.options)
        }
        let score = Pipeline("score", rowsOf: 16).model(model("score"), instances: .perNode(1)).map { $0 + 1 }
        let pairs = Pipeline("pairs", rowsOf: 16).model(model("pairs"), outputs: 2, instances: .perNode(1))
        let listed = Pipeline("listed", rowsOf: 16).model(model("listed"), instances: .perNode(1))
        try await withNode([score, pairs, listed]) { node in
            let scores = try await node.inbox(of: score)
            let doubles = try await node.inbox(of: pairs)
            let firsts = try await node.inbox(of: listed)
            for index in 0..<20 {
                let row = Row((0..<16).map { Float($0 * index) })
                #expect(try await scores.ask(row) == Float(120 * index + 1))
                #expect(try await doubles.ask(row) == [0, Float(2 * index)])
                #expect(try await firsts.ask(row) == 0)
            }
        }
    }

    @Test("tensors are stacked, and a score is combined with its item", .enabled(if: HandlerFolder.hasNumPy))
    func tensors() async throws {
        struct Customer: Codable, Sendable {
            var id: Int
            var features: Row
        }
        let folder = try HandlerFolder(
            "def twice(x):\n    return x * 2\ndef first(x):\n    return x[:, 0]\n")
        let twice = Pipeline("twice", of: Tensor.self)
            .model(.python(folder.path, handler: "twice", options: HandlerFolder.options), instances: .perNode(1))
        let scored = Pipeline("scored", of: Customer.self)
            .score(
                .python(folder.path, handler: "first", options: HandlerFolder.options), on: \.features,
                instances: .perNode(1)
            ) { customer, score in "\(customer.id): \(score)" }
        try await withNode([twice, scored]) { node in
            let tensor = Tensor([1, 2, 3, 4, 5, 6] as [Int64], shape: [2, 3])
            let doubled = try await node.inbox(of: twice).ask(tensor)
            #expect(doubled == Tensor([2, 4, 6, 8, 10, 12] as [Int64], shape: [2, 3]))
            let text = try await node.inbox(of: scored).ask(Customer(id: 7, features: [0.5, 1]))
            #expect(text == "7: 0.5")
        }
    }

    @Test("a bounded job uses the same processes, and ends them")
    func job() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return [x.upper() for x in items]\n")
        let pipeline = Pipeline("upper", of: String.self).model(.python(folder.path, options: HandlerFolder.options))
        let sink = Collected()
        let report = try await pipeline.run(
            from: Arrayed((0..<300).map { "item-\($0)" }, by: 50), into: sink, lanes: 2)
        #expect(report.items == 300 && report.failed == 0)
        #expect(Set(await sink.items) == Set((0..<300).map { "ITEM-\($0)" }))
    }

    @Test("load is called before the first batch, unload at the end, and the node waits for it")
    func lifecycle() async throws {
        let folder = try HandlerFolder(
            """
            import os
            word = None
            def load():
                global word
                word = open('word.txt').read()
            def unload():
                open('unloaded', 'w').write(word)
            def transform_list(items):
                return [word for x in items]
            """)
        try "hello".write(toFile: folder.path + "/word.txt", atomically: true, encoding: .utf8)
        let pipeline = Pipeline("load", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), instances: .perNode(1))
        try await withNode(pipeline) { node in
            let word = try await node.inbox(of: pipeline).ask("x")
            #expect(word == "hello")
        }
        #expect(try String(contentsOfFile: folder.path + "/unloaded", encoding: .utf8) == "hello")
    }

    @Test("a child sees what it is given and no more: no secrets, a private folder, few threads")
    func environment() async throws {
        setenv("FLOCKWORK_SECRET_FOR_TEST", "hidden", 1)
        let folder = try HandlerFolder(
            """
            import os, json, stat
            def transform_list(items):
                mode = stat.S_IMODE(os.stat(os.environ['TMPDIR']).st_mode)
                return [json.dumps([dict(os.environ), mode, len(os.listdir('/proc/self/fd'))]) for x in items]
            """)
        var options = HandlerFolder.options
        options.environment.variables = ["MODEL": "big"]
        let pipeline = Pipeline("env", of: String.self)
            .model(.python(folder.path, options: options), instances: .perNode(2))
        try await withNode(pipeline) { node in
            let text = try await node.inbox(of: pipeline).ask("x")
            #expect(!text.contains("hidden") && text.contains("\"MODEL\": \"big\""))
            #expect(text.contains("\"OMP_NUM_THREADS\": \"1\"") && text.contains("\"PYTHONUNBUFFERED\": \"1\""))
            #expect(text.contains("}, \(0o700), "), "\(text)")
            let list = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [Any])
            // 0 to 4, gRPC's own, and the listing itself; none of the node's sockets.
            #expect((list[2] as? Int ?? 100) <= 14)
        }
    }
}

private actor Arrayed: BatchSource {
    private var batches: ArraySlice<Batch<String>>

    init(_ items: [String], by count: Int) {
        batches = stride(from: 0, to: items.count, by: count).map { Batch(Array(items[$0..<$0 + count])) }[...]
    }

    func next() -> Batch<String>? { batches.popFirst() }
}

private actor Collected: BatchSink {
    var items: [String] = []
    func receive(_ batch: Batch<String>) { items += batch.items }
}

func withNode(
    _ pipelines: any ServablePipeline..., limits: Limits = Limits(), logs: LogCapture = LogCapture(),
    _ body: (Node) async throws -> Void
) async throws {
    try await withNode(pipelines, limits: limits, logs: logs, body)
}

func withNode(
    _ pipelines: [any ServablePipeline], limits: Limits = Limits(), logs: LogCapture = LogCapture(),
    _ body: (Node) async throws -> Void
) async throws {
    let configuration = NodeConfiguration(port: 0, limits: limits, logger: logs.logger(for: "node-1"), cores: 2)
    let node = Node(pipelines: pipelines, configuration: configuration)
    do {
        try await node.start()
        try await body(node)
    } catch {
        print(logs.text)
        await node.shutDown()
        throw error
    }
    await node.shutDown()
}
