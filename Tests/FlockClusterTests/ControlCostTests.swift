// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("What control costs")
struct ControlCostTests {
    /// Control bytes a second, sent and received, of a voter and of a node that is none.
    static func rest(nodes: Int) -> (voter: Int, other: Int) {
        var world = ControlTests.settled(nodes: nodes, voters: 3)
        world.run(for: 1000)
        world.bytes = Array(repeating: 0, count: nodes)
        world.received = Array(repeating: 0, count: nodes)
        let version = world.audit.last?.version
        world.run(for: 5000)
        #expect(world.audit.last?.version == version)
        let traffic = world.processes.indices.map { ((world.bytes?[$0] ?? 0) + world.received[$0]) / 5 }
        return (traffic[0..<3].reduce(0, +) / 3, nodes > 3 ? traffic[3...].max() ?? 0 : 0)
    }

    @Test("at rest a node costs the same in a cluster of any size, and a voter as much per node")
    func rest() {
        let small = Self.rest(nodes: 6)
        let large = Self.rest(nodes: 60)
        #expect(large.other <= small.other * 11 / 10, "\(small.other) -> \(large.other) B/s")
        #expect(large.voter / 59 <= small.voter / 5 * 11 / 10, "\(small.voter) -> \(large.voter) B/s")
        #expect(large.other < 1000, "\(large.other) B/s")
    }

    @Test("a view change is told as a difference, whatever the size of the state")
    func delta() {
        let old = ControlState.sample(members: 100, voters: 3, partitions: 271)
        var new = old
        new.version += 1
        new.partitions[7].epoch += 1
        new.partitions[7].learners = [MemberNumber(rawValue: 50)]
        let message = ControlMessage.deltas([ControlDelta(from: old, to: new)])
        #expect(message.encodedSize < 40, "\(message.encodedSize) B")
        #expect(ControlMessage.view(new).encodedSize > 5000)
    }

    @Test("a settled cluster tells its changes in differences, also between voters")
    func changes() {
        var world = ControlTests.settled(nodes: 12, voters: 3, partitions: 271)
        let whole = world.audit.last.map { ControlMessage.view($0).encodedSize } ?? 0
        let version = world.audit.last?.version ?? 0
        world.bytes = Array(repeating: 0, count: 12)
        world.crash(11)
        #expect(world.run(atMost: 15_000) { $0.isSettled } != nil)
        let views = Int((world.audit.last?.version ?? 0) - version)
        let seconds = Int((world.now - .zero).components.seconds)
        let rest = 12 * 1000 * seconds * 3
        let perMessage = ((world.bytes?.reduce(0, +) ?? 0) - rest) / max(views * 16, 1)
        #expect(perMessage < whole / 3, "\(perMessage) B a message of a change, the state has \(whole) B")
    }

    @Test("5 to 6 nodes with 271 partitions: moves and load are within 1.05 and 1.11 of the ideal")
    func movement() {
        let names = (0..<6).map {
            Member(number: MemberNumber(rawValue: UInt32($0 + 1)), node: ControlWorld.name($0), incarnation: 1)
        }
        let before = Placement.owners(of: 271, copies: 3, among: Array(names[..<5]))
        let after = Placement.owners(of: 271, copies: 3, among: names)
        let primaries = zip(before, after).count { $0[0] != $1[0] }
        let copies = zip(before, after).reduce(0) { sum, pair in sum + pair.1.count { !pair.0.contains($0) } }
        #expect(Double(copies) <= 1.05 * 271 * 3 / 6, "\(copies) copies moved")
        #expect(Double(primaries) <= 1.05 * 271 / 6 + 1, "\(primaries) primaries moved")
        for member in names {
            let load = after.count { $0[0] == member.number }
            let held = after.count { $0.contains(member.number) }
            #expect(Double(load) <= 1.11 * 271 / 6 && Double(held) <= 1.11 * 271 * 3 / 6, "\(load) and \(held)")
        }
    }
}

@Suite("Control in bytes")
struct ControlCodingTests {
    static let state = {
        var state = ControlState.sample(members: 7, voters: 3, partitions: 16)
        state.nextVoters = [ControlWorld.name(0), ControlWorld.name(1), ControlWorld.name(5)]
        state.exchange = VoterExchange(
            leaving: ControlWorld.name(2), joining: ControlWorld.name(5), member: MemberNumber(rawValue: 6))
        state.formerVoters = ["old"]
        state.retired = [1, 2, .max]
        state.commands = [CommandID(issuer: MemberNumber(rawValue: 4), number: 5)]
        state.members[2].isSuspected = true
        state.members[3].zone = "z"
        state.partitions[3].primary = nil
        state.partitions[3].recovering = state.partitions[3].inSync
        state.members[1].labels = ["gpu", "large"]
        state.suspended = ["p", "q"]
        state.members[4].phase = .draining
        return state
    }()

    static let messages: [ControlMessage] = {
        let ballot = Ballot(round: 300, proposer: .max)
        let first = MemberNumber(rawValue: 1)
        let candidate = Candidate(
            node: "n", incarnation: 9, host: "h", port: 80, weight: 3, zone: "z", labels: ["gpu"],
            disk: 4)
        var old = state
        old.version = 0
        old.members.removeFirst()
        old.retired = [1]
        var adding = state
        adding.exchange?.leaving = nil
        adding.suspended = []
        return [
            .join(candidate, replaces: first, have: 7), .join(candidate, replaces: nil, have: 0),
            .probe(sequence: 8, to: first, version: 1000, suspects: [first, MemberNumber(rawValue: 70)]),
            .alive(sequence: 8, from: first, version: 1000), .look(first), .leave(first, isDrained: true),
            .enrolled(first), .report(.caughtUp(PartitionID(3), epoch: 4, first), by: first),
            .report(.lagging(PartitionID(3), epoch: 4, first), by: first),
            .report(.failed(PartitionID(3), epoch: 4, first), by: first),
            .report(.rejoined(PartitionID(3), first, lastEpoch: 4, lastIndex: 900), by: first),
            .command(.acceptLoss(PartitionID(9)), id: CommandID(issuer: MemberNumber(rawValue: 3), number: 5)),
            .command(
                .replication(factor: 3, minimumInSync: 2), id: CommandID(issuer: MemberNumber(rawValue: 3), number: 5)),
            .command(.replaceVoter("a", by: "b"), id: CommandID(issuer: MemberNumber(rawValue: 3), number: 1)),
            .command(.forceNewControl, id: CommandID(issuer: MemberNumber(rawValue: 3), number: 1)),
            .command(.addVoter("a"), id: CommandID(issuer: first, number: 1)),
            .command(.removeVoter("a"), id: CommandID(issuer: first, number: 1)),
            .command(.drain("a"), id: CommandID(issuer: first, number: 2)),
            .command(.undrain("a"), id: CommandID(issuer: first, number: 3)),
            .command(.suspend(pipeline: "p"), id: CommandID(issuer: first, number: 4)),
            .command(.resume(pipeline: "p"), id: CommandID(issuer: first, number: 5)),
            .prepare(ballot, known: .zero),
            .promise(ballot, accepted: ballot, state: state), .promise(ballot, accepted: .zero, state: nil),
            .accept(ballot, state), .acceptDelta(ballot, base: .zero, ControlDelta(from: old, to: state)),
            .acceptWhole(ballot), .accepted(ballot), .rejected(ballot, promised: ballot), .view(state),
            .deltas([ControlDelta(from: old, to: state), ControlDelta(from: state, to: state)]), .pull(have: 6),
            .view(adding),
            .founding(mark: 8), .founded(yours: 8, mine: 9),
        ]
    }()

    @Test("every message comes back from its bytes, and half of one does not crash the reader")
    func roundTrip() throws {
        for message in Self.messages {
            var writer = ByteWriter()
            message.write(to: &writer)
            let bytes = writer.finish()
            #expect(bytes.count == message.encodedSize)
            var reader = ByteReader(bytes)
            #expect(try ControlMessage(from: &reader) == message)
            #expect(reader.isAtEnd)
            for count in 0..<bytes.count {
                var cut = ByteReader(bytes.slice(from: 0, count: count))
                #expect(throws: WireError.self) { try ControlMessage(from: &cut) }
            }
        }
    }

    @Test("wrong bytes are refused or read as something else, never worse")
    func hostile() {
        var random = Seeded(11)
        for message in Self.messages {
            var writer = ByteWriter()
            message.write(to: &writer)
            let good = writer.finish().withUnsafeBytes { Array($0) }
            for _ in 0..<200 {
                var raw = good
                for _ in 0...random.below(3) { raw[random.below(raw.count)] = UInt8(random.below(256)) }
                var reader = ByteReader(Bytes(count: raw.count) { $0.copyBytes(from: raw) })
                guard let read = try? ControlMessage(from: &reader) else { continue }
                #expect(read.encodedSize > 0)
            }
        }
    }

    @Test("a difference makes the new state of the old one, and refuses any other")
    func apply() {
        var old = Self.state
        old.version = 3
        old.retired = []
        old.members.remove(at: 4)
        old.partitions[1].learners = [MemberNumber(rawValue: 99)]
        var new = Self.state
        new.version = 9
        let delta = ControlDelta(from: old, to: new)
        var state = old
        #expect(delta.apply(to: &state) && state == new)
        #expect(!delta.apply(to: &state) && state == new)
    }
}
