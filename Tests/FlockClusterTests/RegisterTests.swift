// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Register of the control state")
struct RegisterTests {
    static let first = ControlState.sample(members: 3, voters: 3, partitions: 4)
    static var second: ControlState {
        var state = first
        state.version += 1
        state.members[0].isSuspected = true
        return state
    }
    static let voters = (0..<3).map(ControlWorld.name)

    static func ballot(_ round: UInt64) -> Ballot { Ballot(round: round, proposer: 7) }

    @Test("a voter answers nothing before its record is on the disk")
    func durability() {
        var acceptor = Acceptor(record: VoterRecord(), rules: .all)
        var out: [ControlDirective] = []
        acceptor.prepare(from: Self.voters[1], Self.ballot(1), known: .zero, out: &out)
        guard case .persist(let record, let token) = out.first else { return #expect(Bool(false)) }
        #expect(record.promised == Self.ballot(1) && acceptor.takeAnswers().isEmpty)
        // The same question again has the same answer, which waits as well.
        acceptor.prepare(from: Self.voters[1], Self.ballot(1), known: .zero, out: &out)
        #expect(out.count == 1 && acceptor.takeAnswers().isEmpty)
        acceptor.persisted(token)
        let expected = ControlMessage.promise(Self.ballot(1), accepted: .zero, state: nil)
        #expect(acceptor.takeAnswers().map(\.message) == [expected, expected])
        acceptor.accept(from: Self.voters[1], Self.ballot(1), Self.first, out: &out)
        acceptor.fail()
        acceptor.persisted(token + 1)
        acceptor.prepare(from: Self.voters[1], Self.ballot(2), known: .zero, out: &out)
        #expect(acceptor.takeAnswers().isEmpty, "a voter whose disk failed is silent")
    }

    @Test("lower ballots are refused, a difference needs its base, and the state is sent only to who lacks it")
    func acceptor() {
        let record = VoterRecord(promised: Self.ballot(5), accepted: Self.ballot(4), state: Self.first)
        var acceptor = Acceptor(record: record, rules: .all)
        var out: [ControlDirective] = []
        func answers(_ acceptor: inout Acceptor) -> [ControlMessage] {
            acceptor.persisted(100)
            return acceptor.takeAnswers().map(\.message)
        }
        acceptor.prepare(from: Self.voters[1], Self.ballot(3), known: .zero, out: &out)
        #expect(answers(&acceptor) == [.rejected(Self.ballot(3), promised: Self.ballot(5))])
        acceptor.prepare(from: Self.voters[1], Self.ballot(6), known: Self.ballot(4), out: &out)
        #expect(answers(&acceptor) == [.promise(Self.ballot(6), accepted: Self.ballot(4), state: nil)])
        acceptor.prepare(from: Self.voters[1], Self.ballot(7), known: Self.ballot(2), out: &out)
        #expect(answers(&acceptor) == [.promise(Self.ballot(7), accepted: Self.ballot(4), state: Self.first)])
        let delta = ControlDelta(from: Self.first, to: Self.second)
        acceptor.accept(from: Self.voters[1], Self.ballot(6), base: Self.ballot(4), delta, out: &out)
        #expect(answers(&acceptor) == [.rejected(Self.ballot(6), promised: Self.ballot(7))])
        acceptor.accept(from: Self.voters[1], Self.ballot(7), base: Self.ballot(3), delta, out: &out)
        #expect(answers(&acceptor) == [.acceptWhole(Self.ballot(7))])
        acceptor.accept(from: Self.voters[1], Self.ballot(7), base: Self.ballot(4), delta, out: &out)
        #expect(answers(&acceptor) == [.accepted(Self.ballot(7))])
        #expect(acceptor.record.state == Self.second)
    }

    @Test("a proposer takes the state of the highest ballot, and needs a majority of every set of voters that it found")
    func proposer() {
        var proposer = Proposer(identity: 7)
        let old = Electorate(voters: Self.voters)
        var joint = Self.second
        joint.nextVoters = [Self.voters[0], Self.voters[1], "node-3"]
        _ = proposer.begin([old], own: VoterRecord(), until: .never)
        let low = (ballot: Ballot(round: 1, proposer: 1), state: Self.first)
        let high = (ballot: Ballot(round: 2, proposer: 1), state: joint)
        func promise(_ node: NodeID, _ what: (ballot: Ballot, state: ControlState)) -> Bool {
            proposer.promise(
                from: node, proposer.ballot, accepted: what.ballot, state: what.state, known: VoterRecord())
        }
        #expect(!promise(Self.voters[0], high))
        #expect(!promise(Self.voters[0], high), "one voter promises once")
        #expect(promise(Self.voters[1], low))
        #expect(proposer.read == joint)
        _ = proposer.begin([old, Electorate(joint)], own: VoterRecord(), until: .never)
        #expect(!promise(Self.voters[2], low))
        #expect(!promise(Self.voters[1], low), "a majority of the old voters, and none of the coming")
        #expect(promise("node-3", high))
        proposer.propose(joint)
        #expect(proposer.accept(from: Self.voters[2], proposer.ballot) == nil)
        #expect(proposer.accept(from: Self.voters[1], proposer.ballot) == nil)
        #expect(proposer.accept(from: "node-3", Self.ballot(99)) == nil, "another turn's answer")
        #expect(proposer.accept(from: "node-3", proposer.ballot) == joint)
    }

    @Test("a voter's record comes back from its bytes, and with one wrong bit it does not")
    func record() throws {
        let record = VoterRecord(promised: Self.ballot(5), accepted: Self.ballot(4), state: Self.second)
        let bytes = record.encoded()
        #expect(try VoterRecord(decoding: bytes) == record)
        var raw = bytes.withUnsafeBytes { Array($0) }
        for bit in 0..<(raw.count * 8) {
            raw[bit / 8] ^= 1 << (bit % 8)
            let wrong = Bytes(count: raw.count) { $0.copyBytes(from: raw) }
            #expect(throws: WireError.self, "bit \(bit)") { try VoterRecord(decoding: wrong) }
            raw[bit / 8] ^= 1 << (bit % 8)
        }
        #expect(throws: WireError.self) { try VoterRecord(decoding: bytes.slice(from: 0, count: bytes.count - 1)) }
    }
}
