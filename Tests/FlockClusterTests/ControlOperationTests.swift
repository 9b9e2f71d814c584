// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Operating a cluster")
struct ControlOperationTests {
    @Test("a leaving node hands over what it has, then goes")
    func leave() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        let version = world.audit.last?.version ?? 0
        world.step(4, .leave)
        guard let member = world.processes[4].node.member else { return #expect(Bool(false)) }
        #expect(world.run(atMost: 5000) { $0.audit.last?.hasSeat(member) == false } != nil)
        #expect(!world.processes[4].hasLeft, "it still has batches")
        world.step(4, .drained)
        #expect(world.run(atMost: 1000) { $0.processes[4].hasLeft } != nil)
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil, "\(world.summary)")
        for (number, state) in world.audit.states where number > version {
            #expect(state.partitions.allSatisfy { $0.inSync.count >= 3 && $0.primary != nil })
        }
        ControlTests.expectPeace(world)
    }

    @Test("all nodes restart one by one: nothing is lost, nobody is evicted")
    func rolling() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        for index in 0..<5 {
            world.step(index, .leave)
            world.step(index, .drained)
            #expect(world.run(atMost: 8000) { $0.processes[index].hasLeft } != nil, "\(index) \(world.summary)")
            world.restart(index)
            #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(index) \(world.summary)")
        }
        #expect(world.audit.last?.partitions.allSatisfy { $0.generation == 0 } == true)
        ControlTests.expectPeace(world)
    }

    @Test("a voter is replaced: the new one counts, the old one does not, and never will again")
    func replaceVoter() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        world.crash(0)
        world.step(4, .command(.replaceVoter(ControlWorld.name(0), by: ControlWorld.name(3))))
        let isDone: (ControlWorld) -> Bool = { world in
            world.audit.last?.voters == [1, 2, 3].map(ControlWorld.name) && world.audit.last?.exchange == nil
        }
        #expect(world.run(atMost: 5000, until: isDone) != nil, "\(world.summary)")
        world.restart(0)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(!world.processes[0].node.isVoter && world.processes[3].node.isVoter)
        world.crash(1)
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "two of the new three go on: \(world.summary)")
        world.restart(1)
        world.step(4, .command(.replaceVoter(ControlWorld.name(1), by: ControlWorld.name(0))))
        world.run(for: 3000)
        #expect(isDone(world))
        ControlTests.expectPeace(world)
    }

    @Test("partitions whose copies are all dead are lost, loudly, and start empty with a new generation")
    func loss() {
        var world = ControlTests.settled(nodes: 7, voters: 3)
        let members = world.audit.last?.partitions[0].inSync ?? []
        let seats = world.processes.indices.filter { members.contains(world.processes[$0].node.member ?? members[0]) }
        for index in seats { world.crash(index, resets: false) }
        world.run(for: 50)
        for index in seats { world.restart(index) }
        #expect(world.run(atMost: 8000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(world.audit.last?.partitions[0].generation == 1)
        #expect(world.lost.contains(PartitionID(0)))
        ControlTests.expectPeace(world)
    }

    @Test("suspicion alone loses nothing: the partition waits, until an operator accepts the loss")
    func acceptLoss() {
        var world = ControlTests.settled(nodes: 7, voters: 1)
        let partition = world.audit.last?.partitions.firstIndex {
            !$0.inSync.contains(world.processes[0].node.member ?? MemberNumber(rawValue: 1))
        }
        guard let partition else { return #expect(Bool(false)) }
        let members = world.audit.last?.partitions[partition].inSync ?? []
        let nodes = world.processes.indices.filter { members.contains(world.processes[$0].node.member ?? members[0]) }
        for index in nodes { world.crash(index, resets: false) }
        world.run(for: 6000)
        #expect(world.audit.last?.partitions[partition].generation == 0)
        #expect(world.audit.last?.partitions[partition].inSync.isEmpty == false)
        world.audit.givenUp = true
        world.step(0, .command(.acceptLoss(PartitionID(partition))))
        #expect(
            world.run(atMost: 3000) { world in
                world.audit.last?.partitions[partition].generation == 1
                    && world.audit.last?.partitions[partition].primary != nil
            } != nil)
        ControlTests.expectPeace(world)
    }

    @Test("a loss is not accepted while a copy can be reached, and fewer copies only on command")
    func commands() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        world.step(3, .command(.acceptLoss(PartitionID(2))))
        world.step(4, .command(.replication(factor: 2, minimumInSync: 1)))
        world.step(4, .command(.suspend(pipeline: "p")))
        world.run(for: 3000)
        #expect(world.isSettled, "\(world.summary)")
        #expect(world.audit.last?.partitions.allSatisfy { $0.inSync.count == 2 && $0.generation == 0 } == true)
        #expect(world.audit.last?.minimumInSync == 1 && world.audit.last?.suspended == ["p"])
        #expect(world.audit.last?.commands.map(\.number) == [1, 2], "each once, by who gave them")
        world.step(2, .command(.resume(pipeline: "p")))
        world.run(for: 1000)
        #expect(world.audit.last?.suspended.isEmpty == true)
        ControlTests.expectPeace(world)
    }

    @Test("when all voters lost their records, a member goes on alone by command")
    func force() {
        var world = ControlTests.settled(nodes: 5, voters: 3)
        for index in 0..<3 {
            world.crash(index)
            world.processes[index].disk = nil
            world.configurations[index].isBootstrap = false
            world.configurations[index].voters = [ControlWorld.name(4)]
        }
        world.run(for: 3000)
        let before = world.audit.last?.version ?? 0
        world.step(4, .command(.forceNewControl))
        world.run(for: 1000)
        for index in 0..<3 { world.restart(index) }
        #expect(world.run(atMost: 10_000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(world.audit.last?.voters == [ControlWorld.name(4)] && world.audit.last?.version ?? 0 > before + 1000)
    }

    @Test("a durable seat is a disk's: its node restarts, reads, and may be primary again")
    func durable() {
        var world = ControlTests.settled(nodes: 3, voters: 3) { index, configuration in
            configuration.durablePartitions = configuration.partitions
            configuration.candidate.disk = UInt64(index + 1)
        }
        for index in 0..<3 { world.crash(index) }
        world.run(for: 500)
        for index in 0..<3 { world.restart(index) }
        let isBack: (ControlWorld) -> Bool = { world in
            world.audit.last?.partitions.allSatisfy { $0.recovering.count == 3 } == true
                && world.processes.allSatisfy { $0.node.member != nil }
        }
        #expect(world.run(atMost: 3000, until: isBack) != nil, "\(world.summary)")
        #expect(world.audit.last?.partitions.allSatisfy { $0.primary == nil && $0.inSync.count == 3 } == true)
        for index in 0..<3 {
            guard let member = world.processes[index].node.member else { return #expect(Bool(false)) }
            for partition in 0..<16 {
                let report = PartitionReport.rejoined(PartitionID(partition), member, lastEpoch: 1, lastIndex: 9)
                world.step(index, .report(report))
            }
        }
        #expect(world.run(atMost: 5000) { $0.isSettled } != nil, "\(world.summary)")
        #expect(world.audit.last?.partitions.allSatisfy { $0.recovering.isEmpty && $0.generation == 0 } == true)
        ControlTests.expectPeace(world)
    }

    @Test("after a restart of all durable seats the newest copy goes on, others once they have its entries")
    func newestCopy() {
        let owners = [1, 2, 3].map { MemberNumber(rawValue: $0) }
        func settle(_ reports: [PartitionReport]) -> PartitionSeats {
            var state = ControlState.sample(members: 3, voters: 3, partitions: 1)
            state.durablePartitions = state.partitions.count
            state.partitions = [PartitionSeats(epoch: 7, primary: nil, inSync: owners, recovering: owners)]
            var reasons = ControlReasons()
            for report in reports {
                guard case .rejoined(_, let member, _, _) = report else { continue }
                reasons.reports.append(.init(report: report, by: member))
            }
            var rules = PartitionRules(
                rules: .all, owners: [owners], reasons: reasons, successors: [], givenUp: [], learnersPerMember: 4,
                movesPerMember: 4)
            rules.apply(to: &state)
            return state.partitions[0]
        }
        func report(_ member: Int, _ epoch: UInt64, _ index: UInt64) -> PartitionReport {
            .rejoined(PartitionID(0), owners[member], lastEpoch: epoch, lastIndex: index)
        }
        #expect(settle([report(0, 5, 9), report(2, 6, 4)]).primary == nil, "one has not said what it has")
        let seats = settle([report(0, 5, 9), report(1, 6, 3), report(2, 6, 4)])
        #expect(seats.primary == owners[2] && seats.recovering == [owners[0], owners[1]])
        let equal = settle([report(0, 6, 4), report(1, 6, 3), report(2, 6, 4)])
        #expect(equal.primary == owners[0] && equal.recovering == [owners[1]])
    }

    @Test("a learner that caught up and then fell silent begins again, so that nothing waits for it, and then counts")
    func silentLearner() {
        let members = [1, 2, 3].map { MemberNumber(rawValue: $0) }
        func settle(_ seats: PartitionSeats, _ reports: [PartitionReport]) -> PartitionSeats {
            var state = ControlState.sample(members: 3, voters: 3, partitions: 1)
            state.partitions = [seats]
            var reasons = ControlReasons()
            reasons.reports = reports.map { .init(report: $0, by: members[0]) }
            var rules = PartitionRules(
                rules: .all, owners: [members], reasons: reasons, successors: [], givenUp: [], learnersPerMember: 4,
                movesPerMember: 4)
            rules.apply(to: &state)
            return state.partitions[0]
        }
        let before = PartitionSeats(
            epoch: 7, primary: members[0], inSync: [members[0], members[1]], learners: [members[2]])
        let id = PartitionID(0)
        let silent: [PartitionReport] = [.caughtUp(id, epoch: 7, members[2]), .lagging(id, epoch: 7, members[2])]
        for reports in [silent, silent.reversed()] {
            let seats = settle(before, reports)
            #expect(seats.inSync == before.inSync && seats.learners == before.learners)
            #expect(seats.epoch == 8, "the primary waits for it in epoch 7")
            #expect(settle(seats, silent) == seats, "these are answered")
            let counted = settle(seats, [.caughtUp(id, epoch: 8, members[2])])
            #expect(counted.inSync == members && counted.learners.isEmpty && counted.epoch == 9)
        }
    }

    @Test("a command that comes again is carried out once, however many came in between")
    func commandOnce() {
        var function = ControlRules(rules: .all, times: ControlTimes())
        var state = ControlState.sample(members: 3, voters: 3, partitions: 1)
        let issuer = MemberNumber(rawValue: 1)
        func order(_ number: UInt64, _ command: OperatorCommand) {
            var reasons = ControlReasons()
            reasons.commands = [.init(command: command, id: CommandID(issuer: issuer, number: number))]
            state = function.next(state, reasons, isAgreed: true) ?? state
        }
        order(1, .suspend(pipeline: "p"))
        order(3, .resume(pipeline: "p"))
        #expect(state.suspended == ["p"], "the second one comes first")
        for number in 2..<50 as Range<UInt64> { order(number, .resume(pipeline: "p")) }
        order(1, .suspend(pipeline: "p"))
        #expect(state.suspended.isEmpty && state.commands == [CommandID(issuer: issuer, number: 49)])
        var reasons = ControlReasons()
        reasons.joins = [.init(candidate: Candidate(node: ControlWorld.name(0), incarnation: 99), replaces: issuer)]
        state = function.next(state, reasons, isAgreed: true) ?? state
        order(50, .suspend(pipeline: "p"))
        #expect(state.suspended.isEmpty && state.commands.isEmpty, "who gave it is no member any more")
    }

    @Test("a voter that leaves hears that it still votes, and how many more may fail")
    func leavingVoter() {
        var world = ControlTests.settled(nodes: 4, voters: 3)
        world.step(3, .leave)
        world.step(2, .leave)
        world.step(2, .leave)
        #expect(world.processes[3].votesOn == nil && world.processes[2].votesOn == 0)
    }

    @Test("zones: copies are in different ones, and a node of double weight has double the primaries")
    func zonesAndWeights() {
        let world = ControlTests.settled(nodes: 6, voters: 3, partitions: 128) { index, configuration in
            configuration.candidate.zone = ["a", "b", "c"][index % 3]
            configuration.candidate.weight = index == 5 ? 2 : 1
        }
        guard let view = world.audit.last else { return #expect(Bool(false)) }
        for seats in view.partitions {
            #expect(Set(seats.inSync.compactMap { view.member($0)?.zone }).count == 3)
        }
        let heavy = view.member(on: ControlWorld.name(5))?.number
        let primaries = view.partitions.count { $0.primary == heavy }
        #expect((30...41).contains(primaries), "\(primaries) of 128")
    }
}
