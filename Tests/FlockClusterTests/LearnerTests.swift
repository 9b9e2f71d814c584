// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Learners, snapshots and trimming")
struct LearnerTests {
    private func group(_ change: (inout Limits) -> Void = { _ in }) -> ReplicaGroup {
        var limits = Limits()
        change(&limits)
        var group = ReplicaGroup(limits)
        group.seat(primary: 1, inSync: [1, 2], minimum: 2)
        group.deliver()
        return group
    }

    @Test("a learner gets a snapshot in parts, then the tail, is reported once, and commits wait for it from then on")
    func learner() {
        var group = group { $0.replicationMessageBytes = 600 }
        let session = group.open(1)
        for run in 0..<20 as Range<UInt64> {
            _ = group.submit(1, session, run * 4, 4)
            group.deliver()
            if run < 10 { _ = group.complete(1, session, run * 4, 3) }
        }
        group.pass(300)
        #expect(group[1].log.start > 20, "the learner's entries are gone")
        group.seat(primary: 1, inSync: [1, 2], learners: [3])
        var parts = 0
        while !group.network.isEmpty {
            let next = group.network.removeFirst()
            if case .snapshot = next.message { parts += 1 }
            _ = group.step(next.to, .replication(from: next.from, next.message))
        }
        #expect(parts > 3 && group[3].role == .learner)
        #expect(group.reports == [.caughtUp(Partition.id, epoch: 2, member(3))])
        // R3: without the learner nothing is committed any more.
        _ = group.submit(1, session, 80, 1)
        #expect(group.deliver(except: { _, to in to == member(3) })[member(1)].map(texts) == [])
        #expect(group.pass(100)[member(1)].map(texts) == ["accepted 80"])
        group.pass(300)
        #expect(group[3].stateDigest == group[1].stateDigest && group[3].committedIndex == group[1].committedIndex)
        #expect(group[3].history.hash == group[1].history.hash, "the chain of hashes goes on over a snapshot")
        #expect(group.places[member(3)]?.budget == group.places[member(1)]?.budget)
        #expect(group.reports.count == 1)
    }

    @Test("a report counts for its epoch: in the next one the learner has to show again that it has everything")
    func reportOfEpoch() {
        var group = group()
        _ = group.open(1)
        group.seat(primary: 1, inSync: [1, 2], learners: [3])
        group.pass(20)
        #expect(group.reports == [.caughtUp(Partition.id, epoch: 2, member(3))])
        group.seat(primary: 1, inSync: [1, 2], learners: [3])
        #expect(group.reports.count == 1)
        group.pass(20)
        #expect(group.reports.last == .caughtUp(Partition.id, epoch: 3, member(3)))
    }

    @Test("a learner that does not answer keeps the log only so long; it starts again with a snapshot")
    func boundedLog() {
        var group = group { $0.replicationLogBytes = 3000 }
        let session = group.open(1)
        group.seat(primary: 1, inSync: [1, 2], learners: [3])
        for run in 0..<200 as Range<UInt64> {
            _ = group.submit(1, session, run, 1)
            group.pass(1, except: { from, _ in from == member(3) })
        }
        group.pass(300, except: { from, _ in from == member(3) })
        #expect(group[1].committedIndex > 200 && group[1].log.keptBytes <= 3000)
        #expect(group.reports == [])
        group.pass(700)
        #expect(group.reports == [.caughtUp(Partition.id, epoch: 2, member(3))])
        #expect(group[3].stateDigest == group[1].stateDigest)
    }

    @Test("a lost generation starts empty, and its sessions are answered lost")
    func lossGeneration() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 3)
        group.deliver()
        _ = group.attach(1, session)
        let out = group.seat(primary: 1, inSync: [1, 2], generation: 2)
        #expect(out[member(1)].map(texts) == ["demoted", "closed"])
        group.deliver()
        #expect(group[1].isServing && group[1].lastIndex == 1 && group[1].sessionCount == 0)
        #expect(texts(group.submit(1, session, 0, 3)) == ["failed lost"])
        #expect(texts(group.attach(2, session)) == ["failed lost"], "a backup can say that too")
        #expect(group.places[member(1)]?.budget == ByteBudget(limits: group.limits))
        let fresh = group.open(1)
        #expect(fresh.generation == 2)
    }

    @Test("a replica without a seat gives everything back, and says where the partition is not")
    func leaving() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 3)
        group.deliver()
        let out = group.seat(primary: 2, inSync: [2, 3])
        #expect(out[member(1)].map(texts) == ["demoted"])
        #expect(group[1].role == .none && group.places[member(1)]?.budget.open == 0)
        #expect(texts(group.submit(1, session, 3, 1)) == ["refused 3 moved"])
        #expect(texts(group.attach(1, session)) == ["failed moved"])
        #expect(texts(group.complete(1, session, 0, 3)) == [], "outcomes go to the primary")
        #expect(texts(group.step(1, .seats(nil, minimumInSync: 2))) == [])
    }

    @Test("bytes that a backup holds count on its node, and may take it over its limit without breaking it")
    func backupBudget() {
        var group = group { $0.openBytes = 4000 }
        let session = group.open(1)
        _ = group.submit(1, session, 0, 3)
        group.deliver()
        group.pass(200)
        let open = group.places[member(1)]?.budget.open ?? 0
        #expect(open > 3000 && group.places[member(2)]?.budget.open == open)
        group.places[member(2)]?.budget.takeOpen(900)
        group.pass(200)
        _ = group.complete(1, session, 0, 3)
        group.pass(200)
        #expect(group.places[member(2)]?.budget.open == 900)
    }

    @Test("what is proposed counts at admission: window, bytes and sequence, and is given back at commit")
    func proposals() {
        var group = group { $0.openBytes = 5000 }
        let session = group.open(1, window: 4)
        #expect(texts(group.submit(1, session, 0, 3)) == ["dispatch 0+3"])
        #expect(texts(group.submit(1, session, 3, 2)) == ["refused 3 overloaded"], "the window counts proposals")
        #expect(texts(group.submit(1, session, 1, 2)) == [], "proposed before: answered when that is committed")
        #expect(group.places[member(1)]?.budget.proposed ?? 0 > 3000)
        let other = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 9, reply: 2))
        #expect(texts(other) == [])
        #expect(
            group.deliver()[member(1)].map(texts) == [
                "accepted 2", "accepted 2", "opened 2 \(SessionID(generation: 1, counter: 1))",
            ])
        #expect(group.places[member(1)]?.budget.proposed == 0)
        #expect(texts(group.submit(1, SessionID(generation: 1, counter: 1), 0, 2)) == ["refused 0 overloaded"])
    }

    @Test("a cancel of what is only proposed counts after it, and of what was not proposed lets later runs follow")
    func cancelProposed() {
        var group = group()
        let session = group.open(1)
        _ = group.attach(1, session)
        _ = group.submit(1, session, 0, 2)
        let cancel = PartitionEvent.cancel(
            session: session, secret: ReplicaGroup.secret, sequences: sequences(1, 3), reply: 4)
        #expect(texts(group.step(1, cancel)) == [])
        #expect(texts(group.submit(1, session, 4, 1)) == ["dispatch 4+1"])
        #expect(
            group.deliver()[member(1)].map(texts) == [
                "accepted 1", "revoke 1+1", "done", "deliver 5: 1+1 cancelled, 2+2 cancelled", "accepted 4",
            ])
    }

    @Test("too many entries that wait are refused as an overload, and calls are let in again when they commit")
    func uncommitted() {
        var group = group { $0.uncommittedEntries = 5 }
        let session = group.open(1)
        var answers: [String] = []
        for run in 0..<8 as Range<UInt64> {
            let out = group.submit(1, session, run, 1)
            answers += texts(out).filter { !$0.hasPrefix("dispatch") }
            if case .refused(_, _, let error)? = out.first { #expect(error.limit == .uncommittedEntries) }
        }
        #expect(answers == ["refused 6 overloaded", "refused 7 overloaded"])
        group.deliver()
        _ = group.submit(1, session, 6, 1)
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 6"])
    }

    @Test("asking for unknown sessions does not grow a log that does not commit")
    func unknownSessions() {
        var group = group { $0.uncommittedEntries = 5 }
        _ = group.open(1)
        let before = group[1].log.last
        for reply in 0..<20 as Range<UInt64> {
            let unknown = SessionID(generation: 1, counter: 100 + UInt32(reply))
            _ = group.step(
                1, .attach(session: unknown, secret: ReplicaGroup.secret, subscriber: 1, reply: 100 + reply))
        }
        #expect(group[1].log.last - before == 6)
    }
}
