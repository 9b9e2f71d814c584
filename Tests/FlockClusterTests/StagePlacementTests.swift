// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockCluster

@Suite("instances of stages")
struct StagePlacementTests {
    private static func members(_ count: Int, _ change: (inout Member) -> Void = { _ in }) -> [Member] {
        (0..<count).map { place in
            var member = Member(
                number: MemberNumber(rawValue: UInt32(place + 1)), node: NodeID("n\(place)"), incarnation: 1, phase: .up
            )
            change(&member)
            return member
        }
    }

    private static func counts(_ stage: StagePlacement, _ members: [Member]) -> [Int] {
        members.map { stage.count(on: $0.node, of: members, cores: 4) }
    }

    @Test("shares add up, are even, and move only to who came or from who went")
    func shares() {
        for total in [1, 2, 3, 5, 7, 16, 100] {
            for name in 0..<20 {
                let stage = StagePlacement(name: "stage-\(name)", instances: .total(total))
                var before: [Int] = []
                for count in 1...9 {
                    let now = Self.counts(stage, Self.members(count))
                    #expect(now.reduce(0, +) == total)
                    #expect((now.max() ?? 0) - (now.min() ?? 0) <= 1, "\(now)")
                    // Nobody has more because somebody came; so all that moved went to the new one, and back again.
                    #expect(zip(before, now).allSatisfy { $0 >= $1 }, "\(before) became \(now)")
                    before = now
                }
            }
        }
    }

    @Test("any one of the members may go, and only its share moves")
    func gone() {
        var random = SeededRandom(seed: 4)
        for _ in 0..<200 {
            let stage = StagePlacement(
                name: "s\(random.next())", instances: .total(Int.random(in: 1...40, using: &random)))
            var members = Self.members(Int.random(in: 2...9, using: &random))
            let before = members.map { ($0.node, stage.count(on: $0.node, of: members, cores: 1)) }
            let out = members.remove(at: Int.random(in: 0..<members.count, using: &random))
            for (node, count) in before where node != out.node {
                #expect(stage.count(on: node, of: members, cores: 1) >= count)
            }
        }
    }

    @Test("only members with all the labels have instances, of each kind of number")
    func labels() {
        let members = Self.members(6) { member in
            if member.number.rawValue % 2 == 0 { member.labels = ["gpu"] }
            if member.number.rawValue == 4 { member.labels = ["gpu", "large"] }
        }
        func counts(_ instances: InstanceCount, _ labels: [String]) -> [Int] {
            Self.counts(StagePlacement(name: "s", instances: instances, labels: labels), members)
        }
        #expect(counts(.perCore, ["gpu"]) == [0, 4, 0, 4, 0, 4])
        #expect(counts(.perNode(2), ["gpu", "large"]) == [0, 0, 0, 2, 0, 0])
        #expect(counts(.total(9), ["gpu"]) == [0, 3, 0, 3, 0, 3])
        #expect(counts(.total(3), ["tpu"]) == [0, 0, 0, 0, 0, 0])
        let stage = StagePlacement(name: "s", instances: .total(3))
        #expect(stage.count(on: "other", of: members, cores: 1) == 0, "no member")
    }

    @Test("who is suspected, drained or leaves shares instances only where nobody better is")
    func ranks() {
        let stage = StagePlacement(name: "s", instances: .total(4))
        var members = Self.members(4)
        members[0].phase = .draining
        members[1].isSuspected = true
        members[2].phase = .leaving
        #expect(Self.counts(stage, members) == [0, 0, 0, 4])
        members.removeLast()
        #expect(Self.counts(stage, members) == [4, 0, 0])
        members.removeFirst()
        #expect(Self.counts(stage, members) == [0, 4], "it lives, as far as is known")
        members.removeLast()
        #expect(Self.counts(stage, members) == [4])
        let everywhere = StagePlacement(name: "s", instances: .perNode(1))
        members[0].phase = .draining
        #expect(Self.counts(everywhere, members) == [1], "a number for each node is the node's own business")
    }

    @Test(
        "labels are names", arguments: ["", "a b", "a,b", "a=b", String(repeating: "x", count: 256), "tab\t", "\u{7F}"])
    func badLabel(label: String) {
        #expect(throws: FlockError.self) { try NodeLabels.checked(["gpu", label]) }
    }

    @Test("labels are sorted, each once, and not too many")
    func goodLabels() throws {
        #expect(try NodeLabels.checked(["large", "gpu", "large"]) == ["gpu", "large"])
        #expect(try NodeLabels.checked((0..<16).map { "l\($0)" }).count == 16)
        let error = #expect(throws: FlockError.self) { try NodeLabels.checked((0..<17).map { "l\($0)" }) }
        #expect(error?.message.contains("17 labels") == true)
    }

    // MARK: In a node

    /// Member 4, `a`, of four; the stages are as given, one pipeline each unless `pipelines` says otherwise.
    private static func node(
        _ stages: [StagePlacement], pipelines: [[Int]]? = nil
    ) -> (node: ClusterNode, view: ControlState) {
        var node = ClusterNode(
            configuration: ClusterNodeTests.configuration(partitions: 1, isBootstrap: false), record: nil,
            plan: StagePlan(stages: stages, pipelines: pipelines ?? stages.indices.map { [$0] }, cores: 2),
            limits: Limits(), seed: 1, now: .zero)
        var view = ControlState.sample(members: 3, voters: 3, partitions: 1)
        view.members.append(Candidate(node: "a", incarnation: 9).admitted(as: MemberNumber(rawValue: 4)))
        view.nextMember = 5
        view.partitions[0].primary = view.members[0].number
        var out: [NodeDirective] = []
        node.step(.hosts(stages.map { _ in 0 }), now: .zero, out: &out)
        return (node, view)
    }

    private static func install(_ view: inout ControlState, _ node: inout ClusterNode) -> [NodeDirective] {
        view.version += 1
        return step(&node, .message(from: "v", .control(.view(view))))
    }

    private static func step(_ node: inout ClusterNode, _ event: NodeEvent) -> [NodeDirective] {
        var out: [NodeDirective] = []
        node.step(event, now: node.now, out: &out)
        return out
    }

    /// The next message of a member to the node.
    private static func say(
        _ message: WorkMessage, _ number: UInt64 = 1, from peer: Member, _ node: inout ClusterNode
    ) -> [NodeDirective] {
        let frame = WorkFrame(
            from: peer.number, to: MemberNumber(rawValue: 4), first: number, expected: 1, messages: [message])
        return step(&node, .message(from: peer.node, .work(frame)))
    }

    private static func placed(_ out: [NodeDirective]) -> [[Int]] {
        out.compactMap { if case .place(let counts) = $0 { counts } else { nil } }
    }

    private static func said(_ out: [NodeDirective]) -> [WorkMessage] {
        out.flatMap { directive -> [WorkMessage] in
            guard case .send(_, .work(let frame)) = directive else { return [] }
            return frame.messages
        }
    }

    /// A name whose only instance is on that node of the view.
    private static func name(for node: NodeID, in view: ControlState) -> String {
        for number in 0..<1000 {
            let stage = StagePlacement(name: "s\(number)", instances: .total(1))
            if stage.count(on: node, of: view.members, cores: 1) == 1 { return stage.name }
        }
        return ""
    }

    @Test("a node is told its share with the view that changes it, and tells the others when it has the instances")
    func told() {
        let (_, sample) = Self.node([StagePlacement(name: "s")])
        let stages = [
            StagePlacement(name: Self.name(for: "a", in: sample), instances: .total(1)),
            StagePlacement(name: "every", instances: .perNode(3)), StagePlacement(name: "gpu", labels: ["gpu"]),
        ]
        var (node, view) = Self.node(stages)
        let out = Self.install(&view, &node)
        #expect(Self.placed(out) == [[1, 3, 0]])
        #expect(Self.said(out).isEmpty, "nothing is there yet")
        let told = Self.said(Self.step(&node, .hosts([1, 3, 0])))
        #expect(told.count == 3, "every other member")
        for case .hosts(let stages) in told { #expect(stages == [0, 1]) }
        #expect(Self.said(Self.step(&node, .hosts([1, 2, 0]))).isEmpty, "the same stages")
        view.members[3].labels = ["gpu"]
        #expect(Self.placed(Self.install(&view, &node)) == [[1, 3, 2]])
        #expect(node.unplaceable.isEmpty)
    }

    @Test("a node whose share went to another goes on until that one has instances")
    func handedOver() {
        let (_, sample) = Self.node([StagePlacement(name: "s")])
        let stage = StagePlacement(name: Self.name(for: "a", in: sample), instances: .total(1))
        var (node, view) = Self.node([stage])
        _ = Self.install(&view, &node)
        _ = Self.step(&node, .hosts([1]))
        view.members[3].phase = .draining
        #expect(Self.placed(Self.install(&view, &node)).isEmpty, "nobody has instances yet")
        #expect(node.isOpenHere == [true], "and so it gets runs")
        guard let taker = view.members.first(where: { stage.count(on: $0.node, of: view.members, cores: 1) == 1 })
        else {
            return #expect(Bool(false))
        }
        let out = Self.say(.hosts([0]), from: taker, &node)
        #expect(Self.placed(out) == [[0]])
        #expect(node.isOpenHere == [false] && node.links.map { $0.isOpen[0] }.filter { $0 }.count == 1)
        let told = Self.said(Self.step(&node, .hosts([0])))
        for case .hosts(let stages) in told { #expect(stages.isEmpty) }
        #expect(told.count == 3)
        #expect(node.nodes(hosting: 0) == [taker.node])
    }

    @Test("runs of a stage that has no instances here any more go back, which is no attempt")
    func returned() {
        var (node, view) = Self.node([StagePlacement(name: "s", instances: .perNode(1))])
        _ = Self.install(&view, &node)
        let run = AssignedRun(epoch: view.partitions[0].epoch, run: DispatcherClusterTests.run(0, 3, partition: 0))
        let out = Self.say(.runs(lane: 0, [run]), from: view.members[0], &node)
        #expect(!out.contains { if case .execute = $0 { true } else { false } })
        let back = Self.said(out).contains { message in
            guard case .returned(0, let runs) = message else { return false }
            return runs == [run.run.requests]
        }
        #expect(back)
        _ = Self.step(&node, .hosts([1]))
        let again = Self.say(.runs(lane: 0, [run]), 2, from: view.members[0], &node)
        #expect(again.contains { if case .execute = $0 { true } else { false } })
    }

    @Test("a pipeline's runs go out only while each of its lanes has instances somewhere")
    func laterLanes() {
        var (node, view) = Self.node(
            [StagePlacement(name: "s"), StagePlacement(name: "t", labels: ["gpu"])], pipelines: [[0, 1]])
        _ = Self.install(&view, &node)
        _ = Self.step(&node, .hosts([2, 0]))
        #expect(node.isOpenHere == [false] && node.unplaceable == [1])
        view.members[0].labels = ["gpu"]
        _ = Self.install(&view, &node)
        #expect(node.isOpenHere == [false] && node.unplaceable.isEmpty)
        _ = Self.say(.hosts([0, 1]), from: view.members[0], &node)
        #expect(node.isOpenHere == [true])
        view.members[0].isSuspected = true
        _ = Self.install(&view, &node)
        #expect(node.isOpenHere == [false], "it cannot be reached")
    }

    @Test("who leaves hands over to others that have instances, and says that it has none once it is drained")
    func leaving() {
        var (node, view) = Self.node([StagePlacement(name: "s", instances: .perNode(1))])
        _ = Self.install(&view, &node)
        _ = Self.step(&node, .hosts([1]))
        _ = Self.say(.hosts([0]), from: view.members[1], &node)
        #expect(node.isOpenHere == [true])
        _ = Self.step(&node, .leave)
        view.members[3].phase = .leaving
        let out = Self.install(&view, &node)
        #expect(node.isDrained && node.isOpenHere == [false])
        #expect(Self.said(out).contains { if case .hosts(let stages) = $0 { stages.isEmpty } else { false } })
    }
}
