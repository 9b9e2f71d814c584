// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Control of a cluster")
struct ControlTests {
    /// A settled cluster.
    static func settled(
        seed: UInt64 = 1, nodes: Int, voters: Int, partitions: Int = 16,
        configure: (Int, inout ControlConfiguration) -> Void = { _, _ in }
    ) -> ControlWorld {
        var world = ControlWorld(seed: seed, nodes: nodes, voters: voters, partitions: partitions, configure: configure)
        let time = world.run(atMost: 10_000) { $0.isSettled }
        #expect(time != nil, "seed \(seed): \(world.summary)")
        return world
    }

    static func expectPeace(_ world: ControlWorld, _ location: SourceLocation = #_sourceLocation) {
        #expect(world.problems.isEmpty, "\(world.problems.prefix(3))", sourceLocation: location)
    }

    @Test("three voters bootstrap a cluster: all are members, every partition has three copies", arguments: [1, 2, 3])
    func bootstrap(seed: UInt64) {
        let world = Self.settled(seed: seed, nodes: 3, voters: 3)
        Self.expectPeace(world)
        let view = world.audit.last
        #expect(view?.replicationFactor == 3 && view?.minimumInSync == 2 && view?.toleratedFailures == 1)
        #expect(view?.members.allSatisfy { $0.phase == .up } == true)
        #expect(world.now.nanoseconds < 1_000_000_000)
    }

    @Test("one and two nodes have what they can, and a third raises copies without a stop")
    func growth() {
        var world = Self.settled(nodes: 1, voters: 1)
        #expect(world.audit.last?.replicationFactor == 1 && world.audit.last?.toleratedFailures == 0)
        world.join(voters: 1)
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil)
        #expect(world.audit.last?.replicationFactor == 2 && world.audit.last?.minimumInSync == 1)
        world.join(voters: 1)
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil)
        #expect(world.audit.last?.replicationFactor == 3 && world.audit.last?.minimumInSync == 2)
        for (_, state) in world.audit.states {
            #expect(state.partitions.allSatisfy { $0.epoch == 0 || $0.inSync.count >= state.minimumInSync })
        }
        Self.expectPeace(world)
    }

    @Test("bootstrap voters begin nothing before all of them have met, however often each starts")
    func lateVoter() {
        var world = ControlWorld(seed: 4, nodes: 3, voters: 3)
        world.crash(2)
        #expect(world.run(atMost: 3000) { $0.isServing } == nil, "\(world.summary)")
        world.crash(1)
        world.restart(1)
        world.restart(2)
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil, "\(world.summary)")
        Self.expectPeace(world)
    }

    @Test("once the last of the voters is there all of them vote, whenever the others would have asked it again")
    func lastVoter() {
        for waited in stride(from: 400, through: 600, by: 40) {
            var world = ControlWorld(seed: 4, nodes: 3, voters: 3)
            world.crash(2)
            world.run(for: UInt64(waited))
            world.restart(2)
            world.run(for: 30)
            #expect(world.processes.allSatisfy { $0.node.isVoter }, "after \(waited) ms: \(world.summary)")
        }
    }

    @Test("a bootstrap voter whose disk was wiped is a member and votes no more, until it is exchanged")
    func wipedVoter() {
        var world = Self.settled(nodes: 4, voters: 3)
        world.crash(0)
        world.processes[0].disk = nil
        world.restart(0)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(!world.processes[0].node.isVoter && world.processes[0].node.member != nil)
        let version = world.audit.last?.version
        world.crash(1)
        world.run(for: 3000)
        #expect(world.audit.last?.version == version, "one voter and one that lost its record decide nothing")
        world.restart(1)
        world.step(3, .command(.replaceVoter(ControlWorld.name(0), by: ControlWorld.name(3))))
        let isDone: (ControlWorld) -> Bool = { $0.audit.last?.voters == [1, 2, 3].map(ControlWorld.name) }
        #expect(world.run(atMost: 8000, until: isDone) != nil, "\(world.summary)")
        Self.expectPeace(world)
    }

    @Test("while no bootstrap voter has voted a wiped disk does no harm; afterwards it is known by another mark")
    func marks() {
        var record = VoterRecord()
        record.founders = [.init(node: "a", mark: 1)]
        record.isFounded = false
        var acceptor = Acceptor(record: record, rules: .all)
        var out: [ControlDirective] = []
        acceptor.begin(out: &out)
        func meet(_ node: NodeID, mark: UInt64) -> Bool { acceptor.meet(node, mark: mark) }
        func confirm(_ node: NodeID, mark: UInt64) -> Bool {
            acceptor.confirm(node, mark: mark, of: ["a", "b", "c"], own: "a", out: &out)
        }
        #expect(!confirm("b", mark: 2))
        #expect(meet("b", mark: 3), "its disk was wiped before anybody voted")
        #expect(!confirm("c", mark: 4), "the new one of b did not answer yet")
        acceptor.prepare(from: "b", Ballot(round: 1, proposer: 1), known: .zero, out: &out)
        acceptor.persisted(9)
        #expect(acceptor.takeAnswers().isEmpty, "it does not vote yet")
        #expect(confirm("b", mark: 3))
        #expect(meet("b", mark: 3) && !meet("b", mark: 5) && !meet("d", mark: 1))
        let again = acceptor.record.encoded()
        #expect((try? VoterRecord(decoding: again)) == acceptor.record && acceptor.record.isFounded)
    }

    @Test("one of three bootstrap voters begins nothing")
    func minority() {
        var world = ControlWorld(seed: 5, nodes: 3, voters: 3)
        world.crash(1)
        world.crash(2)
        world.run(for: 5000)
        #expect(world.processes[0].node.view == nil)
    }

    @Test(
        "a node that dies is replaced: in 300 ms if its connections are reset, in 1 s if it is silent",
        arguments: [(true, 300), (false, 1000)], 0..<10)
    func crash(how: (resets: Bool, limit: UInt64), seed: UInt64) {
        var world = Self.settled(seed: seed, nodes: 5, voters: 3)
        let old = world.audit.last
        world.crash(Int(seed) % 5, resets: how.resets)
        let time = world.run(atMost: how.limit) { $0.isServing }
        #expect(time != nil, "seed \(seed): \(world.summary)")
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "seed \(seed): \(world.summary)")
        #expect(world.audit.last?.partitions.map(\.generation) == old?.partitions.map(\.generation))
        Self.expectPeace(world)
    }

    @Test("a restarted voter is a new member and keeps its seat, with nothing but its record")
    func restartedVoter() {
        var world = Self.settled(nodes: 3, voters: 3)
        for index in 0..<3 {
            let before = world.processes[index].node.member
            world.crash(index)
            world.run(for: 50)
            world.restart(index)
            #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
            #expect(world.processes[index].node.member.map { $0 > before ?? $0 } == true)
            #expect(world.processes[index].node.isVoter)
        }
        #expect(world.audit.last?.voters.count == 3)
        Self.expectPeace(world)
    }

    @Test("all voters at once restart from their records, and the members that lived go on")
    func allVoters() {
        var world = Self.settled(nodes: 6, voters: 3)
        let before = world.audit.last?.version ?? 0
        for index in 0..<3 { world.crash(index) }
        world.run(for: 2000)
        for index in 0..<3 { world.restart(index) }
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(world.audit.last?.version ?? 0 > before)
        Self.expectPeace(world)
    }

    @Test("a voter without its record never votes again, and the others go on")
    func lostRecord() {
        var world = Self.settled(nodes: 4, voters: 3)
        world.crash(0)
        world.processes[0].disk = nil
        world.configurations[0].isBootstrap = false
        world.restart(0)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(!world.processes[0].node.isVoter)
        world.crash(1)
        world.run(for: 3000)
        let version = world.audit.last?.version
        world.run(for: 3000)
        #expect(world.audit.last?.version == version, "one voter of three decides nothing")
        Self.expectPeace(world)
    }

    @Test("a member that was cut off until it was evicted hears of it, and comes back as another")
    func evicted() {
        var world = Self.settled(nodes: 5, voters: 3)
        let before = world.processes[4].node.member
        world.split([4])
        #expect(
            world.run(atMost: 8000) { world in
                world.audit.last?.member(on: ControlWorld.name(4)) == nil
            } != nil)
        world.respawns = false
        world.heal()
        #expect(world.run(atMost: 1000) { $0.processes[4].isEvicted } != nil)
        #expect(world.processes[4].node.isOut && world.processes[4].node.member == before)
        world.crash(4)
        world.restart(4)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        Self.expectPeace(world)
    }

    @Test("a short silence is forgiven: the member is suspected, answers, and is the same member")
    func refuted() {
        var world = Self.settled(nodes: 5, voters: 3)
        let before = world.processes.map(\.node.member)
        world.processes[4].pausedUntil = world.now + .milliseconds(1500)
        #expect(world.run(atMost: 1000) { $0.audit.last?.members.last(where: \.isSuspected) != nil } != nil)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(world.processes.map(\.node.member) == before)
        Self.expectPeace(world)
    }

    @Test("two voters that lose each other change nothing, and go on when they meet")
    func twoVoters() {
        var world = Self.settled(nodes: 4, voters: 2)
        let version = world.audit.last?.version
        world.split([0, 2])
        world.run(for: 5000)
        #expect(world.audit.last?.version == version)
        world.heal()
        world.crash(3)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        Self.expectPeace(world)
    }

    @Test("a joining node gets its share, and no partition loses a copy for it")
    func join() {
        var world = Self.settled(nodes: 5, voters: 3, partitions: 64)
        world.join(voters: 3, partitions: 64)
        let version = world.audit.last?.version ?? 0
        #expect(world.run(atMost: 10_000) { $0.isSettled } != nil, "\(world.summary)")
        let member = world.processes[5].node.member
        let primaries = world.audit.last?.partitions.count { $0.primary == member } ?? 0
        #expect((5...12).contains(primaries), "\(primaries) of 64")
        for (number, state) in world.audit.states where number > version {
            #expect(state.partitions.allSatisfy { $0.inSync.count >= 3 })
        }
        Self.expectPeace(world)
    }
}
