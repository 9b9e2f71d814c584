// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Partition time")
struct PartitionTimeTests {
    private func group() -> (ReplicaGroup, SessionID) {
        var limits = Limits()
        limits.outcomeTimeToLive = .milliseconds(400)
        limits.sessionIdleTime = .milliseconds(900)
        var group = ReplicaGroup(limits, members: 0)
        // Clocks that are hours apart, in both directions.
        group.add(member(1), ahead: 7_200_000_000_000)
        group.add(member(2))
        group.add(member(3), ahead: 86_400_000_000_000)
        group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        group.deliver()
        let session = group.open(1)
        return (group, session)
    }

    @Test("a new primary goes on with the time of the log, whatever its own clock says", arguments: [2, 3])
    func deadline(next: Int) {
        var (group, session) = group()
        _ = group.submit(1, session, 0, 2, deadline: .milliseconds(200))
        group.pass(150)
        _ = group.submit(1, session, 2, 1)
        group.deliver()
        group.seat(primary: next, inSync: [1, 2, 3])
        group.deliver()
        let ahead = group.places[member(next)]?.ahead ?? 0
        let due = Tick(nanoseconds: group.now.nanoseconds + ahead + 50_000_000)
        #expect(group[next].openRuns().map(\.deadline) == [due, nil], "150 of 200 ms are gone")
        #expect(group[next].nextDeadline <= due)
        _ = group.attach(next, session)
        #expect(group.pass(45)[member(next)] == nil || group[next].openItems == 3)
        let out = texts(group.pass(20)[member(next)] ?? [])
        #expect(out.contains("deliver 5: 0+2 deadlineExceeded") && out.contains("revoke 0+2"))
    }

    @Test("outcomes expire by partition time, as an entry, on every replica alike")
    func expiry() {
        var (group, session) = group()
        _ = group.submit(1, session, 0, 2)
        group.deliver()
        _ = group.complete(1, session, 0, 2)
        group.deliver()
        group.seat(primary: 2, inSync: [1, 2, 3])
        group.pass(380)
        #expect(group[2].counters.expired == 0)
        group.pass(200)
        #expect((1...3).allSatisfy { group[$0].counters.expired == 2 })
        #expect(Set((1...3).map { group[$0].stateDigest }).count == 1)
    }

    @Test("a primary proposes an idle session's end once, and it goes everywhere; a call in between is answered")
    func idle() {
        var (group, session) = group()
        group.pass(880)
        #expect(group[1].sessionCount == 1)
        let before = group[1].lastIndex
        group.pass(40, delivering: false)
        #expect(group[1].lastIndex == before + 1 && group[1].sessionCount == 1, "proposed once")
        let ack = PartitionEvent.ack(
            session: session, secret: ReplicaGroup.secret, runs: [], lowestOpen: 0, reply: 3)
        #expect(texts(group.step(1, ack)) == [])
        #expect(group.deliver()[member(1)].map(texts) == ["closed", "failed notFound"])
        group.pass(300)
        #expect((1...3).allSatisfy { group[$0].sessionCount == 0 })
    }

    @Test("time never goes back in a log, even if a process's clock does")
    func monotone() {
        var (group, session) = group()
        _ = group.submit(1, session, 0, 1)
        let first = group[1].log.lastTime
        group.now = milliseconds(10)
        _ = group.submit(1, session, 1, 1)
        #expect(group[1].log.lastTime == first)
    }
}

@Suite("Durable groups")
struct DurableTests {
    private func group() -> ReplicaGroup {
        var group = ReplicaGroup(Limits(), isDurable: true)
        let out = group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        #expect(out[member(1)].map(texts) == ["persist 1+1"])
        return group
    }

    @Test("nothing counts before it is on the disk of every replica in sync, the primary's own included")
    func synced() {
        var group = group()
        let out = group.deliver()
        #expect(out[member(2)].map(texts) == ["persist 1+1"] && !group[1].isServing)
        _ = group.step(2, .persisted(through: 1, epoch: 1))
        _ = group.step(3, .persisted(through: 1, epoch: 1))
        group.deliver()
        #expect(!group[1].isServing, "its own copy is not on its disk yet")
        #expect(texts(group.step(1, .persisted(through: 1, epoch: 1))) == ["serving"])
    }

    @Test("what was cut and written again counts when the new entry is on the disk, not the old one")
    func rewritten() {
        var group = group()
        group.deliver()
        for number in 1...3 { _ = group.step(number, .persisted(through: 1, epoch: 1)) }
        group.deliver()
        _ = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 9, reply: 1))
        #expect(group[1].lastIndex == 2)
        group.network = []
        group.seat(primary: 2, inSync: [1, 2, 3])
        let out = group.deliver()
        #expect(out[member(1)].map(texts)?.contains("persist 2+1") == true, "over the entry of epoch 1")
        #expect(texts(group.step(1, .persisted(through: 2, epoch: 1))) == [] && group[1].synced == 1)
        _ = group.step(1, .persisted(through: 2, epoch: 2))
        #expect(group[1].synced == 2)
        _ = group.step(3, .persisted(through: 2, epoch: 2))
        group.deliver()
        #expect(texts(group.step(2, .persisted(through: 2, epoch: 2))) == ["serving"])
    }

    @Test("a learner's snapshot goes to its disk before it acknowledges, and the primary alone still syncs")
    func learner() {
        var group = ReplicaGroup(Limits(), isDurable: true)
        group.seat(primary: 1, inSync: [1])
        #expect(texts(group.step(1, .persisted(through: 1, epoch: 1))) == ["serving"])
        #expect(!group[1].isAlone)
        _ = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 9, reply: 1))
        _ = group.step(1, .persisted(through: 2, epoch: 1))
        #expect(group[1].log.start == 2)
        group.seat(primary: 1, inSync: [1], learners: [2])
        _ = group.step(1, .persisted(through: 3, epoch: 2))
        let out = group.deliver()
        #expect(out[member(2)].map(texts) == ["persist snapshot 3"])
        #expect(group.reports == [])
        _ = group.step(2, .persisted(through: group[2].lastIndex, epoch: group[2].log.lastEpoch))
        group.deliver()
        #expect(group.reports == [.caughtUp(Partition.id, epoch: 2, member(2))])
    }

    @Test("a replica comes back with what its disk holds, reports it, and goes on as backup or as primary")
    func recovery() throws {
        var group = group()
        var entries = persisted(group.deliver()[member(2)])
        for number in 1...3 { _ = group.step(number, .persisted(through: 1, epoch: 1)) }
        group.deliver()
        _ = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 9, reply: 1))
        entries += persisted(group.deliver()[member(2)])
        for number in [2, 3, 1] { _ = group.step(number, .persisted(through: 2, epoch: 1)) }
        group.deliver()
        let session = SessionID(generation: 1, counter: 0)
        _ = group.submit(1, session, 0, 2)
        entries += persisted(group.deliver()[member(2)])
        // Replicas 2 and 3 have it on their disks, 1 does not: nobody was told anything. Then all lose power.
        #expect(entries.map(\.index) == [1, 2, 3])
        for number in 1...3 {
            group.add(member(number))
            var place = try #require(group.places[member(number)])
            var out: [PartitionDirective] = []
            place.replica.recover(
                [], number == 1 ? Array(entries.prefix(2)) : entries, generation: 1, budget: &place.budget, out: &out)
            let last: UInt64 = number == 1 ? 2 : 3
            guard case .report(.rejoined(_, member(number), lastEpoch: 1, lastIndex: last))? = out.first else {
                return #expect(Bool(false), "\(out)")
            }
            group.places[member(number)] = place
        }
        group.network = []
        group.seat(primary: 3, inSync: [1, 2, 3])
        for _ in 0..<3 {
            group.deliver()
            for number in 1...3 {
                _ = group.step(
                    number, .persisted(through: group[number].lastIndex, epoch: group[number].log.lastEpoch))
            }
        }
        #expect(group[3].isServing && group[3].openRuns().map(\.requests.sequences) == [sequences(0, 2)])
        group.pass(300)
        #expect(Set((1...3).map { group[$0].stateDigest }).count == 1 && group[1].committedIndex == 4)
    }

    private func persisted(_ out: [PartitionDirective]?) -> [LogEntry] {
        var entries: [LogEntry] = []
        for case .persist(_, let more) in out ?? [] { entries += more }
        return entries
    }
}
