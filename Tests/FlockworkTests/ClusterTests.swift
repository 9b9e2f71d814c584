// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("Several nodes", .timeLimit(.minutes(1)), .logsOnFailure)
struct ClusterTests {
    private func ask(_ inbox: Inbox<Int, Int>, _ range: Range<Int>) async throws -> [Int: Int] {
        try await withThrowingTaskGroup(of: (Int, Int).self) { group in
            for item in range { group.addTask { (item, try await inbox.ask(item)) } }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
    }

    @Test("share the requests of one client")
    func share() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(nodes: 3, pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let answers = try await ask(inbox, 0..<600)
            #expect(answers.count == 600 && answers.allSatisfy { $0.value == $0.key + 1 })
            for status in try await flock.client.status() { #expect(status.accepted == 200) }
        }
    }

    @Test("a stage with one instance in the cluster is reached from all of them")
    func totalOne() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(instances: .total(1), AddOne.init)
        try await testCluster(nodes: 3, pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let answers = try await ask(inbox, 0..<300)
            #expect(answers.count == 300 && answers.allSatisfy { $0.value == $0.key + 1 })
            let items = try await flock.client.status().flatMap(\.stages).map(\.items)
            #expect(items == [300])
        }
    }

    @Test("lanes of different placement hand batches on, filters and failures included")
    func lanes() async throws {
        let pipeline = Pipeline("lanes", of: Int.self)
            .stage(instances: .total(1), AddOne.init)
            .filter { $0 % 3 != 0 }
            .stage(instances: .perNode(1), Superstitious.init)
            .stage(instances: .total(2), AddOne.init)
        try await testCluster(nodes: 3, pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let tickets = try await inbox.post(Array(0..<600))
            var left = Dictionary(uniqueKeysWithValues: zip(tickets, 0..<600))
            for await (ticket, outcome) in inbox.outbox() {
                let item = try #require(left[ticket], "answered twice")
                left[ticket] = nil
                switch outcome {
                case .filtered: #expect((item + 1) % 3 == 0)
                case .failure(let error): #expect(item == 12 && error.code == .stageFailed)
                case .value(let value): #expect(value == item + 2 && (item + 1) % 3 != 0 && item != 12)
                }
                if left.isEmpty { break }
            }
        }
    }

    @Test("runs of a lost host are handled by another one")
    func lostHost() async throws {
        let gate = Gate()
        let pipeline = Pipeline("gated", of: Int.self).stage(instances: .total(2)) { Gated(gate, actorSystem: $0) }
        try await testCluster(nodes: 3, pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            // The node without an instance sends its requests to the other two.
            let hosts = try await flock.client.status().filter { !$0.stages.isEmpty }.map(\.node)
            #expect(hosts.count == 2)
            let lone = try #require(flock.nodes.first { !hosts.contains($0.id) })
            let client = try await LocalCluster.connect(to: lone)
            let own = try await lone.inbox(of: pipeline)
            let asks = Task { try await ask(own, 0..<50) }
            await gate.arrived(1)
            let victim = try #require(flock.nodes.first { hosts.contains($0.id) })
            let end = Task { await victim.shutDown() }
            gate.open()
            await end.value
            let answers = try await asks.value
            #expect(answers.count == 50)
            _ = inbox
            await client.close()
        }
    }

    @Test("a client with the wrong cluster id is refused, and told why")
    func wrongCluster() async throws {
        try await testCluster(Pipeline("one", of: Int.self)) { flock in
            var configuration = ClientConfiguration()
            configuration.clusterID = "another"
            configuration.logger = .quiet
            let error = await #expect(throws: FlockError.self) {
                try await Client.connect(to: "127.0.0.1:\(flock.nodes[0].port ?? 0)", configuration: configuration)
            }
            #expect(error?.code == .incompatibleNode)
        }
    }

    @Test("a node whose port is taken says so")
    func portInUse() async throws {
        try await testCluster(Pipeline("one", of: Int.self)) { flock in
            let port = try #require(flock.nodes[0].port)
            let second = Node(
                pipelines: Pipeline("one", of: Int.self), configuration: NodeConfiguration(port: port, logger: .quiet))
            let error = await #expect(throws: FlockError.self) { try await second.start() }
            #expect(error?.code == .system)
            #expect(error?.message.contains("\(port)") == true)
        }
    }

    @Test("a node drains: what was accepted is answered, what comes after is refused")
    func drain() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            async let first = inbox.ask(1)
            await gate.arrived(1)
            let end = Task { await flock.nodes[0].shutDown() }
            var refusal: FlockError?
            while refusal == nil {
                do { _ = try await inbox.ask(2, deadline: .milliseconds(1)) } catch let error as FlockError
                    where error.code == .shuttingDown
                { refusal = error } catch {}
            }
            gate.open()
            #expect(try await first == 1)
            await end.value
        }
    }
}
