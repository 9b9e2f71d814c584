// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Synchronization
import Testing

@testable import Flockwork

@Suite("A cluster whose views change", .timeLimit(.minutes(1)), .logsOnFailure, .serialized)
struct LiveClusterTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)

    /// Nodes of a cluster in this process that are started and ended one by one.
    private final class Flock: Sendable {
        let nodes = Mutex<[Node]>([])
        let ports: [Int]
        let limits: Limits
        let logs = LogCapture.current ?? LogCapture()

        init(_ count: Int) throws {
            ports = try FreePorts.find(count)
            var limits = Limits()
            limits.partitions = 16
            self.limits = limits
        }

        func node(_ place: Int, bootstrap: Int?, join: [Int], _ pipeline: any ServablePipeline) -> Node {
            let id = NodeID("node-\(place)")
            var configuration = NodeConfiguration(
                id: id, port: ports[place], limits: limits, logger: logs.logger(for: id), cores: 1)
            configuration.bootstrap = bootstrap
            configuration.join = join.map { "127.0.0.1:\(ports[$0])" }
            return Node(pipelines: [pipeline], configuration: configuration)
        }

        func start(_ node: Node) async throws {
            nodes.withLock { $0.append(node) }
            try await node.start()
        }

        func client() async throws -> Client {
            var configuration = ClientConfiguration()
            configuration.limits = limits
            configuration.window = 1024
            configuration.logger = logs.logger(for: "client")
            return try await Client.connect(to: ports.map { "127.0.0.1:\($0)" }, configuration: configuration)
        }

        func stop() async {
            for node in nodes.withLock({ $0 }) { await node.abandon() }
        }
    }

    private func withFlock(
        _ count: Int, spare: Int = 0, _ body: (Flock, [Node]) async throws -> Void
    ) async throws {
        let flock = try Flock(count + spare)
        do {
            var nodes: [Node] = []
            for place in 0..<count {
                let node = flock.node(place, bootstrap: count, join: Array(0..<count), pipeline)
                nodes.append(node)
                try await flock.start(node)
            }
            for node in nodes { try await node.joined() }
            try await body(flock, nodes)
            await flock.stop()
        } catch {
            await flock.stop()
            throw error
        }
    }

    @Test("three nodes agree on a view, and answer")
    func agree() async throws {
        try await withFlock(3) { flock, _ in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let answers = try await withThrowingTaskGroup(of: Bool.self) { group in
                for item in 0..<500 { group.addTask { try await inbox.ask(item) == item + 1 } }
                return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(answers == 500)
            await client.close()
        }
    }
}
