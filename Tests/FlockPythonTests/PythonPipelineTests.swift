// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import FlockTestKit
import FlockWire
import Flockwork
import Testing

@Suite("Python in pipelines", .timeLimit(.minutes(3)))
struct PythonPipelineTests {
    @Test("strings go through a Python function to their callers")
    func strings() async throws {
        let folder = try HandlerFolder("def score(items):\n    return ['reply-' + x for x in items]\n")
        let pipeline = Pipeline("echo", of: String.self)
            .model(.python(folder.path, handler: "score", options: HandlerFolder.options), instances: .perNode(2))
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
            let children = try await node.status().children
            #expect(children.count { $0.state == "serving" } == 2)
        }
    }
}

func withNode(
    _ pipeline: any ServablePipeline, limits: Limits = Limits(), _ body: (Node) async throws -> Void
) async throws {
    let capture = LogCapture()
    let configuration = NodeConfiguration(port: 0, limits: limits, logger: capture.logger(for: "node-1"), cores: 2)
    let node = Node(pipelines: pipeline, configuration: configuration)
    do {
        try await node.start()
        try await body(node)
    } catch {
        print(capture.text)
        await node.shutDown()
        throw error
    }
    await node.shutDown()
}
