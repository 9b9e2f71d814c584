// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockCluster
import FlockTestKit
import FlockTransport
import FlockWire
import Testing

@testable import FlockActors
@testable import Flockwork

/// Two numbers become their sum.
distributed actor Adding: RowStage {
    distributed func process(_ rows: Rows<Float>) async throws -> Rows<Float> {
        Rows((0..<rows.count).map { rows[$0].reduce(0, +) }, width: 1)
    }
}

// Methods of distributed actors have been missing from release builds, or been found under the wrong type, so each one
// of the product is called over a socket. Run it with `swift test -c release` too.
@Suite("Every distributed method of the product", .timeLimit(.minutes(1)))
struct MethodCallTests {
    static let pipeline = Pipeline("methods", of: Int.self).stage(AddOne.init)

    /// A client and a node role over real sockets to one node that runs everything.
    struct Place: Sendable {
        let node: OpenNode
        let client: RawClient
        let peerNode: RawClient
    }

    /// By method: one call, and a check of what it did.
    static let calls: [String: @Sendable (Place) async throws -> Void] = [
        "InboxActor.open(_:)": { place in
            let token = try await place.client.open(pipeline, window: 100)
            #expect(token.pipeline == "methods" && token.window == 64 && token.node == "open")
        },
        "InboxActor.submit(_:)": { place in
            let token = try await place.client.open(pipeline)
            let stream = await place.client.fetch(token.key)
            let items = try ItemCodec<Int>().encode(Batch([41]))
            let run = SubmittedRun(first: 0, items: items, deadline: nil, trace: nil, notify: true)
            await place.client.submit(SubmitMessage(key: token.key, lowestOpen: 0, runs: [run]))
            try await stream.wait { $0.items == 1 }
            // The ordinary form of the same method.
            let next = SubmittedRun(first: 1, items: items, deadline: nil, trace: nil, notify: false)
            let message = encoded { SubmitMessage(key: token.key, lowestOpen: 0, runs: [next]).write(to: &$0) }
            try await place.client.inbox().submit(EncodedMessage(data: message))
            try await stream.wait { $0.items == 2 }
            #expect(stream.parts.all.contains { $0.accepted == 1 })
        },
        "InboxActor.fetch(_:)": { place in
            let token = try await place.client.open(pipeline)
            let first = await place.client.fetch(token.key)
            _ = await place.client.fetch(token.key)
            try await first.wait { !$0.ends.all.isEmpty }
            #expect(first.ends.all.first?.code == .moved)
            let error = await #expect(throws: FlockError.self) { try await place.client.inbox().fetch(token.key) }
            #expect(error?.code == .invalidInput)
        },
        "InboxActor.ack(_:)": { place in
            let token = try await place.client.open(pipeline)
            let stream = await place.client.fetch(token.key)
            let items = try ItemCodec<Int>().encode(Batch([1, 2]))
            let run = SubmittedRun(first: 0, items: items, deadline: nil, trace: nil, notify: true)
            await place.client.submit(SubmitMessage(key: token.key, lowestOpen: 0, runs: [run]))
            try await stream.wait { $0.items == 2 }
            let message = encoded { SubmitMessage(key: token.key, lowestOpen: 2).write(to: &$0) }
            try await place.client.inbox().ack(EncodedMessage(data: message))
            // Acknowledged outcomes are not delivered again.
            let again = await place.client.fetch(token.key)
            await place.client.isAlive()
            #expect(again.items == 0)
        },
        "InboxActor.cancel(_:)": { place in
            let token = try await place.client.open(pipeline)
            let stream = await place.client.fetch(token.key)
            // What was never submitted is committed as cancelled.
            await place.client.cancel(CancelMessage(key: token.key, sequences: SequenceRun(first: 0, count: 3)))
            try await stream.wait { $0.items == 3 }
            let message = encoded {
                CancelMessage(key: token.key, sequences: SequenceRun(first: 3, count: 1)).write(to: &$0)
            }
            try await place.client.inbox().cancel(EncodedMessage(data: message))
            try await stream.wait { $0.items == 4 }
            for run in stream.outcomes {
                guard case .failed(let error) = run.outcome else {
                    Issue.record("\(run)")
                    continue
                }
                #expect(error.code == .cancelled)
            }
        },
        "InboxActor.close(_:)": { place in
            let token = try await place.client.open(pipeline)
            let stream = await place.client.fetch(token.key)
            try await place.client.inbox().close(token)
            try await stream.wait { !$0.ends.all.isEmpty }
            let error = await #expect(throws: FlockError.self) { try await place.client.inbox().close(token) }
            #expect(error?.code == .notFound)
        },
        "InboxActor.describe()": { place in
            let description = try await place.client.inbox().describe()
            #expect(description.pipelines.map(\.name) == ["methods"])
            #expect(description.members.map(\.node) == ["open"])
        },
        "InboxActor.status()": { place in
            let status = try await place.client.inbox().status()
            #expect(status.node == "open" && status.stages.map(\.stage) == ["AddOne"])
        },
        "StageHost.run(_:)": { place in try await callStageHost(place) },
        "MemberActor.greet(_:)": { place in
            let answer = try await member(place).greet(Greeting(node: "new", host: "127.0.0.1", port: 1))
            #expect(answer.node == "open" && !answer.isFormed && answer.pipelines.map(\.name) == ["methods"])
        },
        "MemberActor.deliver(_:)": { place in
            let error = await #expect(throws: FlockError.self) {
                try await member(place).deliver(EncodedMessage(data: []))
            }
            #expect(error?.code == .invalidInput)
        },
        "MemberActor.leave()": { place in
            try await member(place).leave()
            await place.node.node.inbox.whenLocal { await $0.waitForOrderToLeave() }
        },
        "OperatorActor.status()": { place in
            let all = try await operatorActor("looks", place).status()
            #expect(all.contains { $0.node == "open" })
        },
        "OperatorActor.carryOut(_:)": { place in
            let remote = try await operatorActor("orders", place)
            try await remote.carryOut(.suspend("methods"))
            #expect(try await place.node.status().pipelines.map(\.isSuspended) == [true])
            try await remote.carryOut(.resume("methods"))
            let error = await #expect(throws: FlockError.self) { try await remote.carryOut(.suspend("none")) }
            #expect(error?.code == .notFound)
        },
        "OperatorActor.acceptLoss(of:)": { place in
            let remote = try await operatorActor("losses", place)
            let error = await #expect(throws: FlockError.self) { try await remote.acceptLoss(of: [PartitionID(0)]) }
            #expect(error?.code == .invalidInput)
        },
        "ModelInstance.score(_:)": { place in
            let name = "model"
            let held = await place.node.node.system.named(name, exportedTo: .nodes) {
                ModelInstance(Doubling(), name: "double", actorSystem: place.node.node.system)
            }
            let remote = try ModelInstance.resolve(id: held.id, using: place.peerNode.system)
            let scores = try await remote.score(Rows([1, 0, 0, 0, 4, 0, 0, 0], width: 4))
            #expect(scores == Rows([2, 8], width: 1))
            let error = await #expect(throws: FlockError.self) { try await remote.score(Rows([1], width: 1)) }
            #expect(error?.code == .invalidInput)
        },
    ]

    /// One in the node's own system: the real one has a system of its own, behind a socket of the file system.
    private static func operatorActor(_ name: String, _ place: Place) async throws -> OperatorActor {
        let node = place.node.node
        let held = await node.system.named(name, exportedTo: .nodes) {
            OperatorActor(inbox: node.inbox, actorSystem: node.system)
        }
        return try OperatorActor.resolve(id: held.id, using: place.peerNode.system)
    }

    private static func member(_ place: Place) throws -> MemberActor {
        let address = ActorAddress(named: MemberActor.name, on: place.peerNode.peer.identity.node)
        return try MemberActor.resolve(id: address, using: place.peerNode.system)
    }

    private static func callStageHost(_ place: Place) async throws {
        let peer = place.peerNode.peer
        let address = ActorAddress(
            named: StageHost.name(pipeline: pipeline.definition, lane: 0), on: peer.identity.node)
        let host = try StageHost.resolve(id: address, using: place.peerNode.system)
        let error = await #expect(throws: FlockError.self) { try await host.run(EncodedMessage(data: [])) }
        #expect(error?.code == .invalidInput)
        let sequences = SequenceRun(first: 10, count: 3)
        let requests = RequestRun(partition: PartitionID(1), session: SessionID(rawValue: 2), sequences: sequences)
        let ended = Collected<OutcomeRun>()
        let lost = Collected<Bool>()
        let work = WorkRun(
            run: requests, items: try ItemCodec<Int>().encode(Batch([1, 2, 3])), arrived: .zero,
            assignment: Assignment { _, ending in
                guard case .done(let runs) = ending else { return lost.append(true) }
                for run in runs { ended.append(run) }
                lost.append(false)
            })
        await place.peerNode.loop.run {
            StageHost.call(peer, pipeline: pipeline.definition, lane: 0, runs: [work], limits: Limits())
        }
        try await eventually { !lost.all.isEmpty }
        #expect(lost.all == [false] && ended.all.map(\.sequences) == [sequences])
        guard case .values(let items, nil)? = ended.all.first?.outcome else {
            Issue.record("\(ended.all)")
            return
        }
        #expect(try ItemCodec<Int>().decode(items).items == [2, 3, 4])
    }

    /// Methods of the product's own modules, not of tests, by type and name; by identifier where the type is unknown.
    private static func productMethods() -> Set<String> {
        let names = MethodNames.ofThisProgram
        let types: [any DistributedActor.Type] = [
            InboxActor.self, MemberActor.self, StageHost.self, ModelInstance.self, OperatorActor.self,
        ]
        // Those of FlockPython are called by its own `BundleTransferTests` and `ModelVersionTests`, in release as well.
        var methods = Set(
            names.all.map(\.identifier).filter { identifier in
                guard let module = module(of: identifier) else { return true }
                return !module.hasSuffix("Tests") && module != "FlockPython"
            })
        for type in types {
            for number in names.numbers(of: type) {
                methods.remove(names[number].identifier)
                methods.insert("\(type).\(names[number].name)")
            }
        }
        // The requirements of `Stage` and `RowStage`, and samples' stages, which are users' stages: both forms of
        // `process` are called below.
        let stage = #/\$s(12BreastCancer.*|9Flockwork(5Stage|8RowStage)P)7process.*FTE/#
        return methods.filter { $0.wholeMatch(of: stage) == nil }
    }

    /// "$s9Flockwork…" is of Flockwork.
    private static func module(of identifier: String) -> Substring? {
        guard let match = identifier.prefixMatch(of: #/\$s([1-9][0-9]*)/#), let length = Int(match.1) else {
            return nil
        }
        return identifier[match.range.upperBound...].prefix(length)
    }

    @Test("is called over a socket, and none is forgotten")
    func all() async throws {
        let methods = Self.productMethods()
        #expect(methods.subtracting(Self.calls.keys).sorted() == [], "write a call for each of these")
        #expect(Set(Self.calls.keys).subtracting(methods).sorted() == [], "these do not exist any more")
        try await withOpenNode(Self.pipeline) { node in
            let place = Place(
                node: node, client: try await .connect(port: node.port),
                peerNode: try await .connect(port: node.port, role: .node))
            for (name, call) in Self.calls.sorted(by: { $0.key < $1.key }) {
                do { try await call(place) } catch { Issue.record("\(name): \(error)") }
            }
            await place.client.stop()
            await place.peerNode.stop()
        }
    }

    @Test("process of a user's stage and of a row stage answers a remote call")
    func process() async throws {
        try await withOpenNode(Self.pipeline) { node in
            let system = node.node.system
            let stage = await system.named("measure", exportedTo: .nodes) { Measure(actorSystem: system) }
            let rowStage = await system.named("adding", exportedTo: .nodes) { Adding(actorSystem: system) }
            let other = try await RawClient.connect(port: node.port, role: .node)
            let remote = try Measure.resolve(id: stage.id, using: other.system)
            #expect(try await remote.process([Review(id: 3, text: "abc")]) == [Verdict(id: 3, length: 3)])
            let remoteRows = try Adding.resolve(id: rowStage.id, using: other.system)
            #expect(try await remoteRows.process(Rows([1, 2, 3, 4], width: 2)) == Rows([3, 7], width: 1))
            await other.stop()
        }
    }

    @Test("of a stage or a host is not for clients")
    func notForClients() async throws {
        try await withOpenNode(Self.pipeline) { node in
            let system = node.node.system
            let stage = await system.named("measure", exportedTo: .nodes) { Measure(actorSystem: system) }
            let client = try await RawClient.connect(port: node.port)
            let remote = try Measure.resolve(id: stage.id, using: client.system)
            let error = await #expect(throws: FlockError.self) { try await remote.process([]) }
            #expect(error?.code == .notFound)
            let address = ActorAddress(named: StageHost.name(pipeline: Self.pipeline.definition, lane: 0), on: "open")
            let host = try StageHost.resolve(id: address, using: client.system)
            let refusal = await #expect(throws: FlockError.self) { try await host.run(EncodedMessage(data: [])) }
            #expect(refusal?.code == .notFound)
            await client.stop()
        }
    }
}
