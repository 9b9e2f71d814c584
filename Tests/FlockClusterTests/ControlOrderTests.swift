// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Operators' orders")
struct ControlOrderTests {
    private static func led(_ world: ControlWorld, by index: Int) -> Int? {
        guard let view = world.audit.last, let member = view.member(on: ControlWorld.name(index)) else { return nil }
        return view.partitions.count { $0.primary == member.number }
    }

    @Test("a drained node leads nothing, keeps its copies where there are no others, and leads again when undrained")
    func drain() {
        var world = ControlTests.settled(nodes: 3, voters: 3)
        world.step(0, .command(.drain(ControlWorld.name(1))))
        #expect(world.run(atMost: 5000) { Self.led($0, by: 1) == 0 } != nil, "\(world.summary)")
        world.run(for: 2000)
        #expect(world.audit.last?.partitions.allSatisfy { $0.inSync.count == 3 } == true, "\(world.summary)")
        #expect(Self.led(world, by: 1) == 0)
        #expect(world.audit.last?.member(on: ControlWorld.name(1))?.phase == .draining)
        world.step(2, .command(.undrain(ControlWorld.name(1))))
        #expect(world.run(atMost: 5000) { Self.led($0, by: 1) ?? 0 > 3 } != nil, "\(world.summary)")
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil)
        #expect(world.audit.last?.members.allSatisfy { $0.phase == .up } == true)
        ControlTests.expectPeace(world)
    }

    @Test("with enough others a drained node is rid of its copies too, and never are there too few on the way")
    func drainOfMany() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        let version = world.audit.last?.version ?? 0
        world.step(0, .command(.drain(ControlWorld.name(4))))
        let isEmpty: (ControlWorld) -> Bool = { world in
            guard let view = world.audit.last, let member = view.member(on: ControlWorld.name(4)) else { return false }
            return member.phase == .draining && !view.hasSeat(member.number)
        }
        #expect(world.run(atMost: 8000, until: isEmpty) != nil, "\(world.summary)")
        for (number, state) in world.audit.states where number > version {
            #expect(state.partitions.allSatisfy { $0.inSync.count >= 3 && $0.primary != nil })
        }
        ControlTests.expectPeace(world)
    }

    @Test("a drained node takes over when all others that lead are away, and is itself again after a restart")
    func lastResort() {
        var world = ControlTests.settled(nodes: 3, voters: 3)
        world.step(0, .command(.drain(ControlWorld.name(2))))
        #expect(world.run(atMost: 5000) { Self.led($0, by: 2) == 0 } != nil)
        world.crash(0, resets: false)
        #expect(world.run(atMost: 5000) { $0.isServing } != nil, "\(world.summary)")
        #expect(Self.led(world, by: 2) == 0, "the other one leads")
        world.restart(0)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        world.crash(2)
        world.restart(2)
        #expect(world.run(atMost: 8000) { $0.isSettled && Self.led($0, by: 2) ?? 0 > 3 } != nil, "\(world.summary)")
        ControlTests.expectPeace(world)
    }

    @Test("the last node that takes work is not drained")
    func lastOne() {
        var world = ControlTests.settled(nodes: 3, voters: 3)
        for index in 0..<3 { world.step(0, .command(.drain(ControlWorld.name(index)))) }
        world.run(for: 3000)
        let phases = (0..<3).map { world.audit.last?.member(on: ControlWorld.name($0))?.phase }
        #expect(phases == [.draining, .draining, .up])
        #expect(Self.led(world, by: 2) == 16)
        ControlTests.expectPeace(world)
    }

    @Test("a pipeline is suspended once however often that is said, and resumed")
    func suspend() {
        var world = ControlTests.settled(nodes: 3, voters: 3)
        world.step(0, .command(.suspend(pipeline: "b")))
        world.step(1, .command(.suspend(pipeline: "a")))
        world.step(2, .command(.suspend(pipeline: "b")))
        world.run(for: 2000)
        #expect(world.audit.last?.suspended == ["a", "b"])
        #expect(world.processes.allSatisfy { $0.node.view?.suspended == ["a", "b"] })
        world.step(2, .command(.resume(pipeline: "b")))
        world.run(for: 1000)
        #expect(world.audit.last?.suspended == ["a"])
        ControlTests.expectPeace(world)
    }

    @Test("a voter is added: then three of four decide, and its record is on its disk")
    func addVoter() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        world.step(0, .command(.addVoter(ControlWorld.name(4))))
        let isDone: (ControlWorld) -> Bool = { world in
            world.audit.last?.voters == [0, 1, 2, 4].map(ControlWorld.name) && world.audit.last?.exchange == nil
        }
        #expect(world.run(atMost: 5000, until: isDone) != nil, "\(world.summary)")
        #expect(world.processes[4].node.isVoter && world.audit.last?.formerVoters.isEmpty == true)
        world.crash(0)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "three of four go on: \(world.summary)")
        world.crash(1)
        let version = world.audit.last?.version
        world.run(for: 3000)
        #expect(world.audit.last?.version == version, "two of four decide nothing")
        ControlTests.expectPeace(world)
    }

    @Test("a voter is removed, there or not: the others decide alone, and it never votes again")
    func removeVoter() throws {
        var world = ControlTests.settled(nodes: 5, voters: 5)
        world.crash(4)
        for (index, left) in [(4, [0, 1, 2, 3]), (0, [1, 2, 3])] {
            world.step(3, .command(.removeVoter(ControlWorld.name(index))))
            let names = left.map(ControlWorld.name)
            let isDone: (ControlWorld) -> Bool = { world in
                world.audit.last?.voters == names && world.audit.last?.nextVoters == nil
            }
            #expect(world.run(atMost: 5000, until: isDone) != nil, "\(index): \(world.summary)")
        }
        let view = try #require(world.audit.last)
        #expect(view.formerVoters == [4, 0].map(ControlWorld.name) && !world.processes[0].node.isVoter)
        #expect(OperatorCommand.addVoter(ControlWorld.name(0)).objection(in: view)?.contains("another name") == true)
        world.crash(1)
        #expect(world.run(atMost: 8000) { $0.isServing } != nil, "two of three go on: \(world.summary)")
        ControlTests.expectPeace(world)
    }

    @Test("a voter is not removed where no majority of the others votes, and control goes on")
    func removeVoterAmongLost() throws {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        world.crash(2)
        world.processes[2].disk = nil
        world.restart(2)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        // It is there, and does not vote: without the first one, one of two would.
        let command = OperatorCommand.removeVoter(ControlWorld.name(0))
        #expect(command.objection(in: try #require(world.audit.last)) == nil)
        world.step(3, .command(command))
        world.step(3, .command(.suspend(pipeline: "p")))
        #expect(world.run(atMost: 5000) { $0.audit.last?.suspended == ["p"] } != nil, "\(world.summary)")
        #expect(world.audit.last?.voters == (0..<3).map(ControlWorld.name) && world.audit.last?.nextVoters == nil)
        // That one may go.
        world.step(3, .command(.removeVoter(ControlWorld.name(2))))
        let left = [0, 1].map(ControlWorld.name)
        #expect(world.run(atMost: 5000) { $0.audit.last?.voters == left } != nil, "\(world.summary)")
        ControlTests.expectPeace(world)
    }

    @Test("one voter becomes three, step by step")
    func growth() {
        var world = ControlTests.settled(nodes: 3, voters: 1)
        for (index, count) in [(1, 2), (2, 3)] {
            world.step(0, .command(.addVoter(ControlWorld.name(index))))
            #expect(world.run(atMost: 5000) { $0.audit.last?.voters.count == count } != nil, "\(world.summary)")
        }
        world.crash(0)
        #expect(world.run(atMost: 8000) { $0.isServing } != nil, "two of three go on: \(world.summary)")
        ControlTests.expectPeace(world)
    }

    @Test("what cannot be done is said, with what to do instead, and changes nothing")
    func objections() throws {
        let state = try #require(ControlTests.settled(nodes: 4, voters: 3).audit.last)
        let names = (0..<4).map(ControlWorld.name)
        let cases: [(OperatorCommand, String)] = [
            (.drain("nobody"), "the members are node-0, node-1"), (.undrain("nobody"), "no member"),
            (.addVoter(names[0]), "voter already"), (.addVoter("nobody"), "no member"),
            (.replaceVoter(names[3], by: names[0]), "is no voter; the voters are node-0, node-1, node-2"),
            (.removeVoter(names[3]), "is no voter"), (.replaceVoter(names[0], by: names[1]), "voter already"),
            (.suspend(pipeline: ""), "no pipeline's name"),
            (.acceptLoss(PartitionID(99)), "no p99"), (.acceptLoss(PartitionID(1)), "has a whole copy"),
            (.replication(factor: 9, minimumInSync: 1), "1 to 7 copies"),
        ]
        for (command, text) in cases {
            let objection = try #require(command.objection(in: state), "\(command)")
            #expect(objection.contains(text), "\(command): \(objection)")
            var after = state
            #expect(command.carryOut(in: &after) == [])
            #expect(after == state, "\(command)")
        }
        var lonely = state
        lonely.voters = [names[0]]
        #expect(OperatorCommand.removeVoter(names[0]).objection(in: lonely)?.contains("only voter") == true)
        var away = state
        for place in 0..<2 { away.members[place].isSuspected = true }
        let gone = away.members[0..<2].map(\.node)
        let rest = try #require(state.voters.first { !gone.contains($0) } ?? state.voters.first)
        #expect(OperatorCommand.removeVoter(rest).objection(in: away)?.contains("cannot be reached") == true)
        var former = state
        former.formerVoters = [names[3]]
        #expect(OperatorCommand.addVoter(names[3]).objection(in: former)?.contains("another name") == true)
    }
}
