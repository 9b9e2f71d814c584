// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("acknowledgements of outcomes, which nobody waits for")
struct TakenTests {
    /// A primary with a session of which sequences 0 ..< `count` have outcomes.
    private func group(_ count: Int = 8, window: Int = 400) -> (ReplicaGroup, SessionID) {
        var group = ReplicaGroup()
        group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        group.deliver()
        let session = group.open(1, window: window)
        _ = group.submit(1, session, 0, count)
        _ = group.complete(1, session, 0, count)
        group.deliver()
        return (group, session)
    }

    private func ack(_ session: SessionID, _ run: SequenceRun, lowestOpen: UInt64 = 0) -> PartitionEvent {
        .ack(session: session, secret: ReplicaGroup.secret, runs: [run], lowestOpen: lowestOpen)
    }

    private func operations(_ group: ReplicaGroup, after index: UInt64) -> [String] {
        guard group[1].log.last > index else { return [] }
        return group[1].log.entries(after: index, bytes: .max / 2).map { entry in
            switch entry.operation {
            case .acked(_, let runs, let lowest): "acked \(runs) \(lowest)"
            case .accept(_, let run, _): "accept \(run.sequences)"
            default: "other"
            }
        }
    }

    @Test("one goes alone after a while, and all that came meanwhile with it")
    func alone() {
        var (group, session) = group()
        let last = group[1].lastIndex
        _ = group.step(1, ack(session, sequences(0, 2), lowestOpen: 2))
        group.pass(20)
        _ = group.step(1, ack(session, sequences(2, 3), lowestOpen: 5))
        _ = group.step(1, ack(session, sequences(6, 1), lowestOpen: 5))
        #expect(group[1].lastIndex == last && group.network.isEmpty)
        group.pass(29)
        #expect(group[1].lastIndex == last)
        group.pass(1, delivering: false)
        #expect(operations(group, after: last) == ["acked [0+5, 6+1] 5"])
        group.pass(300)
        for number in 1...3 { #expect(group[number].stateDigest == group[1].stateDigest) }
        #expect(group[1].log.start == group[1].lastIndex)
    }

    @Test("one that is not quite new goes with other entries")
    func together() {
        var (group, session) = group()
        let last = group[1].lastIndex
        _ = group.step(1, ack(session, sequences(0, 2)))
        _ = group.submit(1, session, 8, 1)
        #expect(operations(group, after: last) == ["accept 8+1"], "it is new")
        group.pass(5)
        _ = group.submit(1, session, 9, 1)
        #expect(operations(group, after: last + 1) == ["accept 9+1", "acked [0+2] 0"])
        #expect(group.network.count == 2, "in one message to each")
        group.deliver()
        group.pass(60)
        #expect(group[1].lastIndex == last + 3, "it is in the log once")
    }

    @Test("it goes with a question about an unknown session too, and not with a message of an ended epoch behind that")
    func question() {
        var (group, session) = group()
        _ = group.step(1, ack(session, sequences(0, 2)))
        group.pass(5)
        let last = group[1].lastIndex
        _ = group.submit(1, SessionID(generation: session.generation, counter: 99), 0, 1)
        #expect(operations(group, after: last) == ["acked [] 0", "acked [0+2] 0"])
        #expect(group.network.count == 2, "it is sent at once, not with the next event")
        let late = ReplicationMessage.mismatch(epoch: group[1].epoch - 1, committed: 0, last: 0, lastEpoch: 0)
        _ = group.step(1, .replication(from: member(2), late))
        #expect(group[1].lastIndex == last + 2)
    }

    @Test("many do not wait, and neither does one whose caller waits for an answer")
    func atOnce() {
        var (group, session) = group(100, window: 400)
        let last = group[1].lastIndex
        _ = group.step(1, ack(session, sequences(0, 30)))
        #expect(group[1].lastIndex == last)
        _ = group.step(1, ack(session, sequences(30, 20)))
        #expect(operations(group, after: last) == ["acked [0+50] 0"], "an eighth of the window")
        _ = group.step(1, ack(session, sequences(50, 1), lowestOpen: 100))
        #expect(operations(group, after: last + 1) == ["acked [50+1] 100"])
        let answered = PartitionEvent.ack(
            session: session, secret: ReplicaGroup.secret, runs: [], lowestOpen: 0, reply: 8)
        _ = group.step(1, answered)
        #expect(operations(group, after: last + 2) == ["acked [] 0"])
        #expect(group.deliver()[member(1)].map(texts) == ["done"])
    }

    @Test("a run that is refused for want of room has it noted at once, and finds room the next time")
    func refused() {
        var (group, session) = group(16, window: 16)
        _ = group.step(1, ack(session, sequences(0, 1)))
        #expect(texts(group.submit(1, session, 16, 1)) == ["refused 16 overloaded"])
        group.deliver()
        #expect(texts(group.submit(1, session, 16, 1)) == ["dispatch 16+1"])
    }

    @Test("a primary that is replaced forgets them, and its successor hears from the client")
    func replaced() {
        var (group, session) = group()
        _ = group.step(1, ack(session, sequences(0, 2), lowestOpen: 2))
        group.seat(primary: 2, inSync: [1, 2, 3])
        group.pass(200)
        #expect(group[1].taken.sessions.isEmpty && group[1].taken.due == .never)
        _ = group.step(2, ack(session, sequences(4, 1), lowestOpen: 4))
        group.pass(200)
        _ = group.attach(2, session)
        #expect(texts(group.attach(2, session)).contains { $0.contains("5+3") && !$0.contains("3+1") })
        for number in 1...3 { #expect(group[number].stateDigest == group[2].stateDigest) }
    }

    @Test("a copy that is alone notes them at once")
    func single() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 2)
        _ = partition.complete(session, 0, 2)
        _ = partition.ack(session, [sequences(0, 2)], lowestOpen: 2)
        #expect(partition.budget.unread == 0)
    }
}
