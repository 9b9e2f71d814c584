// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Flockwork
import Foundation
import Logging
import Testing

@testable import Flockwork

@Suite("Operators", .timeLimit(.minutes(1)), .logsOnFailure, .serialized)
struct OperatorTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)

    private func batches(_ admin: Operator, on node: NodeID) async throws -> UInt64 {
        try await admin.status().first { $0.node == node }?.stages.reduce(0) { $0 + $1.batches } ?? 0
    }

    @Test("a drained node leads and executes nothing while requests go on, and takes its share again")
    func drain() async throws {
        try await OperatedFlock.run(3, pipeline) { flock, _ in
            let client = try await flock.client()
            let load = SteadyCallers(try await client.inbox(of: pipeline))
            try await load.goOn()
            let admin = try await Operator.connect(to: flock.socket(0))
            #expect(admin.node == "node-0")
            try await admin.drain("node-1")
            let view = try #require(try await admin.status().first?.cluster)
            #expect(view.members.first { $0.node == "node-1" }?.phase == "draining")
            #expect(!view.partitions.contains { $0.primary == "node-1" })
            #expect(view.partitions.allSatisfy { $0.inSync.count == 3 }, "its copies stay: there are no others")
            // What it had is finished; after that it does nothing.
            try await load.goOn()
            let before = try await batches(admin, on: "node-1")
            try await load.goOn()
            #expect(try await batches(admin, on: "node-1") == before)
            try await admin.drain("node-1")
            try await admin.undrain("node-1")
            try await eventually {
                let view = try await admin.status().first?.cluster
                return view?.partitions.contains { $0.primary == "node-1" } == true
            }
            #expect(await load.end() == [:])
            await admin.close()
            await client.close()
        }
    }

    @Test("a node that is told to leave hands over, ends by itself, and nobody's request fails")
    func leave() async throws {
        try await OperatedFlock.run(4, pipeline) { flock, nodes in
            let client = try await flock.client()
            let load = SteadyCallers(try await client.inbox(of: pipeline))
            try await load.goOn()
            // Started already: `run` waits for the end.
            let running = [Task { try await nodes[3].run() }, Task { try await nodes[0].run() }]
            let admin = try await Operator.connect(to: flock.socket(0))
            try await admin.leave("node-3")
            #expect(try await admin.status().first?.cluster?.members.map(\.node).contains("node-3") == false)
            try await running[0].value
            try await load.goOn()
            try await admin.leave("node-0")
            try await running[1].value
            await admin.close()
            let other = try await Operator.connect(to: flock.socket(1))
            try await eventually {
                try await other.status().first?.cluster?.members.map(\.node).sorted() == ["node-1", "node-2"]
            }
            try await load.goOn()
            let error = await #expect(throws: FlockError.self) { try await other.leave("node-1") }
            #expect(error?.message.contains("nobody to hand over to") == true, "\(error as Any)")
            try await load.goOn()
            #expect(await load.end() == [:])
            await other.close()
            await client.close()
        }
    }

    @Test("a node that finds nobody to hand over to says so when its time is over, and not that requests were lost")
    func nobodyLeft() async throws {
        let logs = try #require(LogCapture.current)
        try await OperatedFlock.run(3, drainTime: .seconds(1), pipeline) { _, nodes in
            // From now on each partition has two copies at least.
            try await eventually { try await nodes[0].status().cluster?.toleratedFailures == 1 }
            await nodes[2].shutDown()
            try await eventually { try await nodes[0].status().cluster?.members.count == 2 }
            await nodes[1].shutDown()
        }
        let warnings = logs.entries(of: "node-1").filter { $0.level == .warning }.map(\.message)
        #expect(warnings.contains { $0.hasPrefix("node could not hand over its copies: fewer nodes are left") })
        #expect(!warnings.contains { $0.contains("accepted requests") }, "\(warnings)")
    }

    @Test("a suspended pipeline refuses before acceptance, finishes what it has, and goes on when resumed")
    func suspend() async throws {
        try await OperatedFlock.run(3, pipeline) { flock, _ in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let load = SteadyCallers(inbox)
            try await load.goOn()
            // Apart from the callers: the last outcomes that an outbox gives take room until it is asked again.
            let poster = try await client.inbox(of: pipeline)
            let tickets = try await poster.post(Array(0..<500))
            let admin = try await Operator.connect(to: flock.socket(1))
            try await admin.suspend("one")
            var taken = 0
            for await (_, outcome) in poster.outbox() {
                if case .value = outcome {} else { Issue.record("\(outcome)") }
                taken += 1
                if taken == tickets.count { break }
            }
            try await eventually {
                let nodes = try await admin.status()
                return nodes.count == 3 && nodes.allSatisfy { $0.pipelines.allSatisfy(\.isSuspended) }
            }
            let error = await #expect(throws: FlockError.self) { try await inbox.ask(7) }
            #expect(error?.code == .suspended && error?.retryAfter == .seconds(1), "\(error as Any)")
            let posted = await #expect(throws: FlockError.self) { try await inbox.post([1, 2, 3]) }
            #expect(posted?.code == .suspended)
            let accepted = try await admin.status().reduce(0) { $0 + $1.accepted }
            try await eventually { load.failed[.suspended, default: 0] > 50 }
            #expect(try await admin.status().reduce(0) { $0 + $1.accepted } == accepted, "something was accepted")
            try await admin.resume("one")
            try await load.goOn()
            let failures = await load.end()
            #expect(Set(failures.keys) == [.suspended], "\(failures)")
            await admin.close()
            await client.close()
        }
    }

    @Test("voters are added and replaced, and the cluster goes on with them")
    func voters() async throws {
        try await OperatedFlock.run(4, voters: 3, pipeline) { flock, nodes in
            let client = try await flock.client()
            let load = SteadyCallers(try await client.inbox(of: pipeline))
            let admin = try await Operator.connect(to: flock.socket(3))
            try await admin.replaceVoter("node-0", by: "node-3")
            var view = try #require(try await admin.status().first { $0.node == "node-3" }?.cluster)
            #expect(view.voters == ["node-1", "node-2", "node-3"] && view.comingVoter == nil)
            // Two of these three decide: without the exchange two of the three voters would be away.
            // One after the other: two copies at once are more than a partition survives.
            for (place, left) in [(0, 3), (1, 2)] {
                await nodes[place].abandon()
                try await eventually {
                    let view = try await admin.status().first?.cluster
                    return view?.members.count == left && view?.isWhole == true
                }
            }
            view = try #require(try await admin.status().first { $0.node == "node-3" }?.cluster)
            let again = await #expect(throws: FlockError.self) { try await admin.replaceVoter("node-1", by: "node-0") }
            #expect(again?.message.contains("never votes again under this name") == true, "\(again as Any)")
            // Who is gone goes: of the two that are left both decide.
            try await admin.removeVoter("node-1")
            view = try #require(try await admin.status().first { $0.node == "node-3" }?.cluster)
            #expect(view.voters == ["node-2", "node-3"])
            let present = await #expect(throws: FlockError.self) { try await admin.addVoter("node-2") }
            #expect(present?.message.contains("voter already") == true)
            try await load.goOn()
            #expect(await load.end() == [:])
            await admin.close()
            await client.close()
        }
    }

    @Test("wrong names are refused with the right ones")
    func wrongNames() async throws {
        try await OperatedFlock.run(3, pipeline) { flock, _ in
            let admin = try await Operator.connect(to: flock.socket(2))
            let orders: [(String, () async throws -> Void)] = [
                ("the members are node-0, node-1, node-2", { try await admin.drain("node-7") }),
                ("the members are node-0, node-1, node-2", { try await admin.undrain("node-7") }),
                ("the members are node-0, node-1, node-2", { try await admin.leave("node-7") }),
                ("the members are node-0, node-1, node-2", { try await admin.addVoter("node-7") }),
                ("is no voter", { try await admin.replaceVoter("node-7", by: "node-1") }),
                ("the nodes run one", { try await admin.suspend("two") }),
                ("the nodes run one", { try await admin.resume("two") }),
            ]
            for (text, order) in orders {
                let error = await #expect(throws: FlockError.self) { try await order() }
                #expect(error?.message.contains(text) == true, "\(error as Any)")
            }
            await admin.close()
        }
    }

    @Test("a node alone can be suspended and told to leave, and says that there is nothing to drain")
    func alone() async throws {
        let flock = try OperatedFlock(1, voters: 1)
        var configuration = NodeConfiguration(id: "solo", port: 0, logger: .quiet, cores: 1)
        configuration.adminSocket = flock.socket(0)
        let node = Node(pipelines: [pipeline], configuration: configuration)
        try await node.start()
        let admin = try await Operator.connect(to: flock.socket(0))
        let inbox = try await node.inbox(of: pipeline)
        #expect(try await inbox.ask(1) == 2)
        try await admin.suspend("one")
        let error = await #expect(throws: FlockError.self) { try await inbox.ask(2) }
        #expect(error?.code == .suspended)
        #expect(try await admin.status().first?.pipelines.first?.isSuspended == true)
        try await admin.resume("one")
        #expect(try await inbox.ask(3) == 4)
        let drain = await #expect(throws: FlockError.self) { try await admin.drain("solo") }
        #expect(drain?.message.contains("nothing to agree on") == true)
        let running = Task { try await node.run() }
        try await admin.leave("solo")
        try await running.value
        await admin.close()
        try await flock.stop()
    }

    @Test("who comes over the listener of nodes and clients finds no operator's actor, whatever it says it is")
    func otherListener() async throws {
        try await OperatedFlock.run(3, pipeline) { flock, _ in
            for role in PeerRole.allCases {
                let loop = try EventLoop(name: "stranger")
                let system = FlockSystem(
                    identity: Identity(clusterID: "flockwork", node: "stranger", role: role), loop: loop,
                    limits: Limits(), log: .quiet,
                    announcement: try Announcement(pipelines: []).encoded(limits: Limits()))
                let peer = try await system.connect(host: "127.0.0.1", port: flock.ports[0])
                let actor = try OperatorActor.resolve(
                    id: ActorAddress(named: OperatorActor.name, on: peer.identity.node), using: system)
                let error = await #expect(throws: FlockError.self) { try await actor.carryOut(.leave("node-0")) }
                #expect(error?.code == .notFound, "\(role): \(error as Any)")
                await #expect(throws: FlockError.self) { try await actor.status() }
                if role == .client {
                    let member = try MemberActor.resolve(
                        id: ActorAddress(named: MemberActor.name, on: peer.identity.node), using: system)
                    let refused = await #expect(throws: FlockError.self) { try await member.leave() }
                    #expect(refused?.code == .notFound)
                }
                await system.stop()
                await loop.stop()
            }
        }
    }

    @Test("the admin socket is its owner's alone, serves no clients, and is gone with the node")
    func socket() async throws {
        try await OperatedFlock.run(3, pipeline) { flock, nodes in
            var status = stat()
            #expect(lstat(flock.socket(0), &status) == 0 && status.st_mode & 0o777 == 0o600)
            let loop = try EventLoop(name: "client")
            // A client of the cluster's that was given the wrong address.
            let system = FlockSystem(
                identity: Identity(clusterID: "flockwork", node: "client", role: .client), loop: loop, limits: Limits(),
                log: .quiet)
            let error = await #expect(throws: FlockError.self) { try await system.connect(path: flock.socket(0)) }
            #expect(error?.code == .incompatibleNode)
            await system.stop()
            await loop.stop()
            await nodes[0].shutDown()
            let gone = await #expect(throws: FlockError.self) { try await Operator.connect(to: flock.socket(0)) }
            #expect(gone?.message.contains("there is no admin socket") == true)
        }
    }
}
