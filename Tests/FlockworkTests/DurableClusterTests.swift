// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

@testable import Flockwork

/// Counts what comes out of an inbox.
private final class Outcomes: Sendable {
    private let seen = Mutex<[Ticket: [String]]>([:])
    private let reader = Mutex<Task<Void, Never>?>(nil)

    init<Output>(of inbox: Inbox<Int, Output>) {
        reader.withLock {
            $0 = Task {
                for await (ticket, outcome) in inbox.outbox() {
                    seen.withLock { $0[ticket, default: []].append("\(outcome)") }
                }
            }
        }
    }

    var all: [Ticket: [String]] { seen.withLock { $0 } }
    func end() { reader.withLock { $0?.cancel() } }
}

@Suite("A durable cluster", .timeLimit(.minutes(2)), .logsOnFailure, .serialized)
struct DurableClusterTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init).kept(.durable)

    /// Nodes in this process, each with a folder, that are killed and started again.
    private final class Flock: Sendable {
        let nodes = Mutex<[Int: Node]>([:])
        let ports: [Int]
        let folder: URL
        let limits: Limits
        let logs = LogCapture.current ?? LogCapture()

        init(_ count: Int) throws {
            ports = try FreePorts.find(count)
            folder = FileManager.default.temporaryDirectory.appending(path: "flockwork-durable-\(UUID())")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            var limits = Limits()
            limits.partitions = 8
            self.limits = limits
        }

        func start(_ place: Int, _ pipelines: any ServablePipeline..., folder name: String? = nil) async throws {
            let id = NodeID("node-\(place)")
            var configuration = NodeConfiguration(
                id: id, port: ports[place], limits: limits, logger: logs.logger(for: id), cores: 1)
            configuration.bootstrap = ports.count
            configuration.join = ports.map { "127.0.0.1:\($0)" }
            configuration.dataFolder = folder.appending(path: name ?? "\(place)").path
            let node = Node(pipelines: pipelines, configuration: configuration)
            nodes.withLock { $0[place] = node }
            try await node.start()
        }

        func node(_ place: Int) throws -> Node { try #require(nodes.withLock { $0[place] }) }

        func joined() async throws {
            for node in nodes.withLock({ Array($0.values) }) { try await node.joined() }
        }

        func kill(_ place: Int) async {
            await nodes.withLock { $0.removeValue(forKey: place) }?.abandon()
        }

        func killAll() async {
            for place in ports.indices { await kill(place) }
        }

        func client() async throws -> Client { try await .connect(toPorts: ports, limits: limits, logs: logs) }

        func settled() async throws {
            let (count, node) = (ports.count, try node(0))
            try await eventually {
                guard let cluster = try await node.status().cluster, cluster.members.count == count else {
                    return false
                }
                return cluster.partitions.allSatisfy {
                    $0.primary != nil && $0.inSync.count == count && $0.learners.isEmpty
                }
            }
        }
    }

    private func withFlock(_ count: Int, _ body: (Flock) async throws -> Void) async throws {
        let flock = try Flock(count)
        do {
            for place in 0..<count { try await flock.start(place, pipeline) }
            try await flock.joined()
            try await body(flock)
        } catch {
            await flock.killAll()
            try FileManager.default.removeItem(at: flock.folder)
            throw error
        }
        await flock.killAll()
        try FileManager.default.removeItem(at: flock.folder)
    }

    @Test("all nodes are killed and started again: what was accepted has one outcome, and callers get it")
    func fullRestart() async throws {
        try await withFlock(3) { flock in
            try await flock.settled()
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let outcomes = Outcomes(of: inbox)
            var tickets: [Ticket] = []
            for round in 0..<60 {
                tickets += try await inbox.post(Array(round * 50..<round * 50 + 50))
                guard round % 20 == 10 else { continue }
                await flock.killAll()
                for place in 0..<3 { try await flock.start(place, pipeline) }
            }
            let posted = Set(tickets)
            #expect(posted.count == 3000)
            try await eventually { outcomes.all.count == posted.count }
            #expect(Set(outcomes.all.keys) == posted && outcomes.all.values.allSatisfy { $0.count == 1 })
            #expect(outcomes.all.values.allSatisfy { $0[0].hasPrefix("value") })
            outcomes.end()
            await client.close()
        }
    }

    @Test("a majority of a stopped cluster goes on, and the last node comes in later")
    func majority() async throws {
        try await withFlock(3) { flock in
            try await flock.settled()
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            #expect(try await inbox.ask(1) == 2)
            await flock.killAll()
            for place in [0, 2] { try await flock.start(place, pipeline) }
            #expect(try await inbox.ask(2) == 3)
            try await flock.start(1, pipeline)
            try await flock.settled()
            #expect(try await inbox.ask(3) == 4)
            await client.close()
        }
    }

    @Test("partitions whose disks are all gone wait, until an operator gives them up: then they begin empty")
    func acceptLoss() async throws {
        try await withFlock(3) { flock in
            try await flock.settled()
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            #expect(try await inbox.ask(1) == 2)
            let socket = flock.folder.appending(path: "1").path
            var admin = try await Operator.connect(to: socket)
            let early = await #expect(throws: FlockError.self) { try await admin.acceptLoss(of: [PartitionID(3)]) }
            #expect(early?.message.contains("nothing of p3 is lost: node-0, node-1, node-2 has") == true)
            #expect(try await admin.acceptLoss(of: nil) == [])
            await admin.close()
            await flock.killAll()
            for place in 0..<3 {
                let folder = flock.folder.appending(path: "\(place)")
                for file in try FileManager.default.contentsOfDirectory(atPath: folder.path)
                where file.hasPrefix("wal-") {
                    try FileManager.default.removeItem(at: folder.appending(path: file))
                }
                try await flock.start(place, pipeline)
            }
            try await flock.joined()
            let node = try flock.node(1)
            // The three came with other disks, and their views say so.
            try await eventually {
                guard let cluster = try await node.status().cluster else { return false }
                return cluster.members.count == 3 && cluster.partitions.allSatisfy(\.inSync.isEmpty)
            }
            admin = try await Operator.connect(to: socket)
            let one = try await admin.acceptLoss(of: [PartitionID(3)])
            let others = try await admin.acceptLoss(of: nil)
            #expect(one == [PartitionID(3)] && others.count == 7 && !others.contains(PartitionID(3)))
            try await flock.settled()
            let again = try await client.inbox(of: pipeline)
            #expect(try await again.ask(2) == 3)
            #expect(try await admin.acceptLoss(of: nil) == [])
            await admin.close()
            await client.close()
        }
    }

    @Test("one node alone keeps what it was asked")
    func alone() async throws {
        try await withFlock(1) { flock in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let outcomes = Outcomes(of: inbox)
            var tickets = Array(try await inbox.post(Array(0..<100)))
            await flock.kill(0)
            try await flock.start(0, pipeline)
            tickets += try await inbox.post(Array(100..<200))
            try await eventually { outcomes.all.count == 200 }
            #expect(Set(outcomes.all.keys) == Set(tickets) && outcomes.all.values.allSatisfy { $0.count == 1 })
            outcomes.end()
            await client.close()
        }
    }

    @Test("pipelines of both groups share a cluster, each with partitions of its own")
    func bothGroups() async throws {
        let flock = try Flock(1)
        let memory = Pipeline("two", of: Int.self).stage(AddOne.init)
        try await flock.start(0, pipeline, memory)
        try await flock.joined()
        let client = try await flock.client()
        let kept = try await client.inbox(of: pipeline)
        let replicated = try await client.inbox(of: memory)
        for number in 0..<20 {
            #expect(try await kept.ask(number) == number + 1)
            #expect(try await replicated.ask(number) == number + 1)
        }
        await client.close()
        await flock.killAll()
        try FileManager.default.removeItem(at: flock.folder)
    }

    @Test("a node that keeps a pipeline in another group is not taken in, and hears why")
    func otherGroup() async throws {
        let flock = try Flock(3)
        for place in 0..<2 { try await flock.start(place, pipeline) }
        try await flock.start(2, Pipeline("one", of: Int.self).stage(AddOne.init))
        do {
            try await flock.node(2).joined()
            Issue.record("it joined")
        } catch let error as FlockError {
            #expect(error.code == .incompatibleNode && error.message.contains("partition group"), "\(error)")
        }
        await flock.killAll()
        try FileManager.default.removeItem(at: flock.folder)
    }

    @Test("a durable pipeline needs a cluster and a folder")
    func needsFolder() async throws {
        for bootstrap in [1, nil] {
            var configuration = NodeConfiguration(port: 0)
            configuration.bootstrap = bootstrap
            if bootstrap == nil { configuration.dataFolder = "/tmp" }
            let node = Node(pipelines: pipeline, configuration: configuration)
            await #expect(throws: FlockError(.invalidInput, "")) { try await node.start() }
        }
    }
}
