// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Synchronization
import Testing

@testable import Flockwork

/// Adds one, and notes on which node.
private distributed actor Located: Stage {
    typealias ActorSystem = FlockSystem
    let nodes: NodeList

    init(_ nodes: NodeList, actorSystem: FlockSystem) {
        self.nodes = nodes
        self.actorSystem = actorSystem
    }

    distributed func process(_ batch: [Int]) async throws -> [Int] {
        nodes.note(id.node)
        return batch.map { $0 + 1 }
    }
}

private final class NodeList: Sendable {
    private let seen = Mutex<Set<NodeID>>([])
    func note(_ node: NodeID) { seen.withLock { _ = $0.insert(node) } }
    /// Since the last look.
    func take() -> Set<NodeID> {
        seen.withLock { seen in
            defer { seen = [] }; return seen
        }
    }
}

@Suite("instances in a cluster whose views change", .timeLimit(.minutes(1)), .logsOnFailure, .serialized)
struct LivePlacementTests {
    private func ask(_ inbox: Inbox<Int, Int>, _ count: Int, plus more: Int = 1) async throws {
        let right = try await withThrowingTaskGroup(of: Bool.self) { group in
            for item in 0..<count { group.addTask { try await inbox.ask(item) == item + more } }
            return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(right == count)
    }

    /// Instances of each stage that has any, by node.
    private func instances(_ nodes: [Node], _ stage: String = "Located") async throws -> [NodeID: Int] {
        var found: [NodeID: Int] = [:]
        for node in nodes {
            let count = try await node.status().stages.filter { $0.stage == stage }.reduce(0) { $0 + $1.instances }
            if count > 0 { found[node.id] = count }
        }
        return found
    }

    @Test("one instance in the whole cluster answers for all nodes, and another node takes over when its own is lost")
    func single() async throws {
        let seen = NodeList()
        let pipeline = Pipeline("one", of: Int.self).stage(instances: .total(1)) { Located(seen, actorSystem: $0) }
        try await OperatedFlock.run(3, pipeline) { flock, nodes in
            try await eventually { try await instances(nodes).count == 1 }
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            try await ask(inbox, 200)
            let first = seen.take()
            #expect(first.count == 1)
            #expect(Set(try await instances(nodes).keys) == first)
            guard let host = nodes.first(where: { first.contains($0.id) }) else { return #expect(Bool(false)) }
            await host.abandon()
            let rest = nodes.filter { $0.id != host.id }
            try await ask(inbox, 200)
            let second = seen.take()
            #expect(second.count == 1 && second != first)
            #expect(try await instances(rest) == [second.first ?? "": 1])
            await client.close()
        }
    }

    @Test("instances follow the members: a drained node has none, and has its share again when it is taken back")
    func drained() async throws {
        let seen = NodeList()
        let pipeline = Pipeline("two", of: Int.self).stage(instances: .total(2)) { Located(seen, actorSystem: $0) }
        try await OperatedFlock.run(3, pipeline) { flock, nodes in
            try await eventually { try await instances(nodes).values.reduce(0, +) == 2 }
            let before = try await instances(nodes)
            guard let host = nodes.firstIndex(where: { before[$0.id] != nil }) else { return #expect(Bool(false)) }
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let admin = try await Operator.connect(to: flock.socket(host))
            try await admin.drain(nodes[host].id)
            try await eventually {
                let now = try await instances(nodes)
                return now[nodes[host].id] == nil && now.count == 2
            }
            _ = seen.take()
            try await ask(inbox, 200)
            #expect(!seen.take().contains(nodes[host].id))
            try await admin.undrain(nodes[host].id)
            try await eventually { try await instances(nodes) == before }
            try await ask(inbox, 50)
            await admin.close()
            await client.close()
        }
    }

    @Test(
        "a stage that asks for a label runs where it is, also behind one that runs everywhere; without it requests wait"
    )
    func labels() async throws {
        let seen = NodeList()
        let pipeline = Pipeline("labelled", of: Int.self).stage(AddOne.init)
            .stage(instances: .perNode(1), labels: ["gpu"]) { Located(seen, actorSystem: $0) }
        let isLabelled: @Sendable (Int) -> [String] = { $0 == 3 ? ["gpu"] : [] }
        let flock = try OperatedFlock(4, voters: 3)
        do {
            var nodes: [Node] = []
            for place in 0..<3 { nodes.append(try await flock.start(place, pipeline, labels: isLabelled(place))) }
            for node in nodes { try await node.joined() }
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let tickets = try await inbox.post(Array(0..<50))
            try await eventually {
                try await nodes[0].status().pipelines.first?.unplaced == ["Located: no node has the label gpu"]
            }
            #expect(seen.take().isEmpty)
            nodes.append(try await flock.start(3, pipeline, labels: isLabelled(3)))
            var answers: [Int] = []
            for try await (_, outcome) in inbox.outbox() {
                answers.append(try outcome.get())
                if answers.count == tickets.count { break }
            }
            #expect(answers.sorted() == (0..<50).map { $0 + 2 })
            #expect(seen.take() == ["node-3"])
            #expect(try await instances(nodes) == ["node-3": 1])
            let status = try await nodes[0].status()
            #expect(status.pipelines.first?.unplaced == [] && status.cluster?.members.last?.labels == ["gpu"])
            try await ask(inbox, 100, plus: 2)
            #expect(seen.take() == ["node-3"])
            await client.close()
        } catch {
            try await flock.stop()
            throw error
        }
        try await flock.stop()
    }

    @Test("a model that cannot be loaded where its instance is to be is tried again, and its requests wait")
    func retried() async throws {
        let tries = Atomic<Int>(0)
        let seen = NodeList()
        let pipeline = Pipeline("late", of: Int.self).stage(instances: .total(1)) { system in
            if tries.add(1, ordering: .relaxed).newValue < 3 { throw FlockError(.modelLoadFailed, "not yet") }
            return Located(seen, actorSystem: system)
        }
        try await OperatedFlock.run(1, voters: 1, pipeline) { flock, nodes in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            #expect(try await nodes[0].status().pipelines.first?.unplaced.count == 1)
            try await ask(inbox, 20)
            #expect(try await nodes[0].status().pipelines.first?.unplaced == [])
            #expect(tries.load(ordering: .relaxed) == 3)
            await client.close()
        }
    }

    @Test("nodes with a member list do not know each other's labels, and say so where that matters")
    func staticMembers() async throws {
        let pipeline = Pipeline("x", of: Int.self).stage(instances: .total(1), labels: ["gpu"], AddOne.init)
        let ports = try FreePorts.find(2)
        var configuration = NodeConfiguration(
            id: "a", port: ports[0],
            members: [
                try Member(id: "a", host: "127.0.0.1", port: ports[0]),
                try Member(id: "b", host: "127.0.0.1", port: ports[1]),
            ])
        configuration.labels = ["gpu"]
        let error = await #expect(throws: FlockError.self) {
            try await Node(pipelines: pipeline, configuration: configuration).start()
        }
        #expect(error?.code == .invalidInput && error?.message.contains("labels") == true)
        configuration.labels = ["not a label"]
        await #expect(throws: FlockError.self) {
            try await Node(pipelines: pipeline, configuration: configuration).start()
        }
    }
}
