// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("A node as one value")
struct ClusterNodeTests {
    static func configuration(partitions: Int = 4, isBootstrap: Bool = true) -> ControlConfiguration {
        ControlConfiguration(
            candidate: Candidate(node: "a", incarnation: 9), voters: isBootstrap ? ["a"] : ["v"],
            isBootstrap: isBootstrap, partitions: partitions)
    }

    static func node(_ configuration: ControlConfiguration) -> ClusterNode {
        var node = ClusterNode(
            configuration: configuration, record: nil, plan: .everywhere(1), limits: Limits(), seed: 1, now: .zero)
        node.hosted = [1]
        return node
    }

    /// Lets a single node run for two seconds; its disk is quick.
    static func run(_ node: inout ClusterNode) -> [NodeDirective] {
        var all: [NodeDirective] = []
        var now = Tick.zero
        for _ in 0..<400 {
            var out: [NodeDirective] = []
            node.step(.tick, now: now, out: &out)
            var place = 0
            while place < out.count {
                if case .persist(_, let token) = out[place] { node.step(.persisted(token), now: now, out: &out) }
                place += 1
            }
            all += out
            now = now + .milliseconds(5)
        }
        return all
    }

    static func refusals(_ directives: [NodeDirective]) -> [FlockError] {
        directives.compactMap { if case .refused(let error) = $0 { error } else { nil } }
    }

    @Test("an operator's new minimum reaches replicas whose seats stay as they are")
    func minimum() {
        var node = Self.node(Self.configuration())
        _ = Self.run(&node)
        guard var view = node.view, let seats = view.partitions.first else { return #expect(Bool(false)) }
        #expect(node.replicas.allSatisfy { $0?.minimumInSync == 1 && $0?.isSufficient == true })
        for minimum in [2, 1] {
            view.version += 1
            view.minimumInSync = minimum
            var out: [NodeDirective] = []
            node.step(.message(from: "b", .control(.view(view))), now: node.now, out: &out)
            #expect(node.seats[0] == seats, "the same epoch")
            #expect(
                node.replicas.allSatisfy { $0?.minimumInSync == minimum && $0?.isSufficient == (minimum == 1) })
        }
    }

    @Test("a node that joins has as many partitions as the cluster, whatever it was configured with")
    func tables() {
        var node = Self.node(Self.configuration(partitions: 2, isBootstrap: false))
        var state = ControlState.sample(members: 3, voters: 3, partitions: 6)
        state.members.append(Candidate(node: "a", incarnation: 9).admitted(as: MemberNumber(rawValue: 4)))
        state.nextMember = 5
        for place in 0..<6 { state.partitions[place].learners = [MemberNumber(rawValue: 4)] }
        var out: [NodeDirective] = []
        node.step(.message(from: "v", .control(.view(state))), now: .zero, out: &out)
        #expect(node.member == MemberNumber(rawValue: 4) && node.replicas.count == 6)
        #expect(node.replicas.allSatisfy { $0?.role == .learner })
    }

    @Test("a bootstrap voter with another number of partitions says so and stops")
    func mismatch() {
        var node = Self.node(Self.configuration(partitions: 2))
        var out: [NodeDirective] = []
        let state = ControlState.sample(members: 3, voters: 3, partitions: 6)
        node.step(.message(from: "v", .control(.view(state))), now: .zero, out: &out)
        #expect(
            Self.refusals(out).map(\.message) == [
                "the cluster has 6 partitions, this voter is configured with 2"
            ])
        #expect(node.view == nil && Self.run(&node).isEmpty)
    }

    @Test("copies in memory have no place in a durable cluster: the node says so and stops")
    func durable() {
        var configuration = Self.configuration()
        configuration.durablePartitions = configuration.partitions
        var founder = Self.node(configuration)
        #expect(Self.refusals(Self.run(&founder)).count == 1 && founder.view == nil)
        var joiner = Self.node(Self.configuration(isBootstrap: false))
        var state = ControlState.sample(members: 3, voters: 3, partitions: 4)
        state.durablePartitions = state.partitions.count
        state.members.append(Candidate(node: "a", incarnation: 9).admitted(as: MemberNumber(rawValue: 4)))
        state.nextMember = 5
        var out: [NodeDirective] = []
        joiner.step(.message(from: "v", .control(.view(state))), now: .zero, out: &out)
        #expect(Self.refusals(out).count == 1 && joiner.replicas.allSatisfy { $0 == nil })
        #expect(Self.run(&joiner).isEmpty)
    }
}
