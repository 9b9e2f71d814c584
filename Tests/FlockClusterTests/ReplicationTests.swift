// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Replication of a partition")
struct ReplicationTests {
    private func group(_ limits: Limits = Limits(), minimum: Int = 2) -> ReplicaGroup {
        var group = ReplicaGroup(limits)
        group.seat(primary: 1, inSync: [1, 2, 3], minimum: minimum)
        group.deliver()
        return group
    }

    @Test("a primary serves once its epoch's entry is on every replica in sync, and not before")
    func serving() {
        var group = ReplicaGroup()
        let installed = group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        #expect(texts(installed[member(1)] ?? []) == [] && !group[1].isServing)
        let refused = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 8, reply: 1))
        #expect(texts(refused) == ["failed unavailable"])
        let out = group.deliver(except: { from, _ in from == member(3) })
        #expect(out[member(1)].map(texts) == [] && !group[1].isServing)
        #expect(group.pass(60)[member(1)].map(texts) == ["serving"])
        #expect(group[1].role == .primary && group[2].role == .backup && group[2].committedIndex == 0)
        group.pass(110)
        #expect(group[2].committedIndex == 1 && group[3].committedIndex == 1)
    }

    @Test("a run is accepted when every replica in sync has it, and its outcome seen when they all have that")
    func commit() {
        var group = group()
        let session = group.open(1)
        _ = group.attach(1, session)
        #expect(texts(group.submit(1, session, 0, 4)) == ["dispatch 0+4"])
        var out = group.deliver(except: { from, _ in from == member(3) })
        #expect(out[member(1)].map(texts) == [], "accepted without replica 3")
        out = group.pass(60)
        #expect(out[member(1)].map(texts) == ["accepted 3"])
        #expect(texts(group.complete(1, session, 0, 4)) == [])
        #expect(group.deliver()[member(1)].map(texts) == ["deliver 5: 0+4 values 100"])
        _ = group.step(1, .ack(session: session, secret: ReplicaGroup.secret, runs: [sequences(0, 4)], lowestOpen: 4))
        group.pass(400)
        for number in 1...3 {
            #expect(group[number].committedIndex == 5 && group[number].stateDigest == group[1].stateDigest)
            #expect(group.places[member(number)]?.budget.open == 0)
        }
        #expect(group[1].log.start == 5, "what all have is not kept")
    }

    @Test("nothing is accepted with fewer replicas in sync than the minimum")
    func minimum() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 1)
        group.deliver()
        group.seat(primary: 1, inSync: [1])
        group.deliver()
        #expect(texts(group.submit(1, session, 1, 1)) == ["refused 1 unavailable"])
        #expect(texts(group.submit(1, session, 0, 1)) == ["refused 0 unavailable"], "accepted before, but not now")
        let out = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 8, reply: 1))
        #expect(texts(out) == ["failed unavailable"])
        // A learner brings it back.
        group.seat(primary: 1, inSync: [1], learners: [2])
        group.pass(50)
        #expect(group.reports.contains(.caughtUp(Partition.id, epoch: group.seats.epoch, member(2))))
        group.seat(primary: 1, inSync: [1, 2])
        group.pass(50)
        #expect(texts(group.submit(1, session, 1, 1)) == ["dispatch 1+1"])
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 1"])
    }

    @Test("a primary that is replaced says that it does not know; a retry with the same ids is accepted once")
    func demotion() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        group.deliver()
        // Replica 2 gets the next run, replica 3 does not; then 2 becomes primary.
        _ = group.submit(1, session, 2, 2, reply: 77)
        group.deliver(except: { _, to in to == member(3) || to == member(1) })
        let demoted = group.seat(primary: 2, inSync: [1, 2, 3])
        guard case .failed(reply: 77, let error)? = demoted[member(1)]?.first else {
            return #expect(Bool(false), "\(demoted)")
        }
        #expect(error.code == .moved && texts(demoted[member(1)] ?? []).last == "demoted")
        #expect(texts(group.submit(1, session, 2, 2)) == ["refused 2 moved"])
        #expect(texts(group.submit(2, session, 2, 2)) == ["refused 2 unavailable"], "not before its epoch's entry")
        let out = group.deliver()
        #expect(out[member(2)].map(texts) == ["serving"])
        #expect(group[2].openRuns().map(\.requests.sequences) == [sequences(0, 2), sequences(2, 2)])
        #expect(texts(group.submit(2, session, 2, 2)) == ["accepted 3"], "once, and not dispatched again")
        #expect(group.places[member(1)]?.budget.proposed == 0)
    }

    @Test("what only a replaced primary had is cut, and what it had committed stays")
    func truncation() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        group.deliver()
        _ = group.submit(1, session, 2, 2)
        group.network = []  // nobody gets it
        #expect(group[1].lastIndex == 4)
        group.seat(primary: 3, inSync: [1, 2, 3])
        group.pass(200)
        #expect((1...3).allSatisfy { group[$0].lastIndex == 4 && group[$0].committedIndex == 4 })
        #expect(texts(group.submit(3, session, 2, 2)) == ["dispatch 2+2"])
        #expect(group.deliver()[member(3)].map(texts) == ["accepted 3"])
        group.pass(200)
        #expect(Set((1...3).map { group[$0].stateDigest }).count == 1)
        #expect(Set((1...3).map { group[$0].committedItem(at: 5)?.hash }).count == 1)
    }

    @Test("the same primary in a new epoch goes on with what it proposed and whom it owes an answer")
    func continuing() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        group.network = []
        let out = group.seat(primary: 1, inSync: [1, 2])
        #expect(out[member(1)].map(texts) == [] && group[1].isServing)
        let early = group.submit(1, session, 2, 2)
        #expect(texts(early) == ["dispatch 2+2"], "it admits while the new epoch's entry is under way")
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 1", "accepted 3"])
        #expect(group[3].role == .none && group[3].sessionCount == 0 && group[3].lastIndex == 0)
    }

    @Test("messages of an earlier epoch change nothing and are told so; those of a later one wait for the view")
    func fencing() {
        var group = group()
        let session = group.open(1)
        group.seat(primary: 2, inSync: [1, 2, 3], installing: [2, 3])
        group.network = []
        // Replica 1 does not know yet and goes on.
        _ = group.submit(1, session, 0, 2)
        let appends = group.network
        group.deliver()
        #expect(appends.count == 2 && group[2].lastIndex == 3 && group[3].lastIndex == 2)
        #expect(group[1].committedIndex == 2 && group[2].counters.outdated == 1)
        let stale = group.step(1, .replication(from: member(2), .stale(epoch: 2)))
        #expect(texts(stale) == [], "it was told once: \(texts(stale))")
        #expect(group[1].heardEpoch == 2)
        let behind = group.step(1, .replication(from: member(2), .appended(epoch: 9, through: 99, committed: 99)))
        #expect(texts(behind) == ["behind 9"] && group[1].committedIndex == 2)
        let lower = group.step(
            1, .seats(PartitionSeats(epoch: 1, primary: member(3), inSync: [member(3)]), minimumInSync: 1))
        #expect(texts(lower) == [] && group[1].role == .primary && group[1].epoch == 1)
    }

    @Test("replicas that lag are reported, once a while, by the primary only")
    func lagging() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        group.pass(499, except: { _, to in to == member(3) })
        #expect(group.reports == [])
        group.pass(20, except: { _, to in to == member(3) })
        #expect(group.reports == [.lagging(Partition.id, epoch: 1, member(3))])
        group.pass(2000, except: { _, to in to == member(3) })
        #expect(group.reports.count == 3 && Set(group.reports).count == 1)
        let out = group.pass(600)
        #expect(out[member(1)].map(texts) == ["accepted 1"], "once it is there it counts again")
    }

    @Test("outcomes of a new primary that does not serve yet go into the log and count after what came before")
    func earlyOutcomes() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        group.deliver()
        _ = group.complete(1, session, 0, 2, value: 100)
        group.deliver(except: { _, to in to == member(1) })  // it is everywhere, and replica 1 does not know
        _ = group.attach(2, session)
        group.seat(primary: 2, inSync: [1, 2, 3])
        #expect(texts(group.complete(2, session, 0, 2, value: 500)) == [])
        let out = group.deliver()[member(2)] ?? []
        #expect(
            texts(out) == ["serving", "deliver 5: 0+2 values 100"] || texts(out).contains("deliver 5: 0+2 values 100"))
        #expect(group[2].counters.duplicates == 2 && group[2].openItems == 0)
        #expect(!texts(out).contains { $0.contains("values 500") })
    }

    @Test(
        "an outcome of what went with its primary before it was accepted is nobody's, whatever a stage calls it",
        arguments: [false, true])
    func outcomeWithoutEntry(isCancelled: Bool) {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 3)  // its primary alone has it, and a stage that got it early
        group.seat(primary: 2, inSync: [2, 3])
        let lost = isCancelled ? RunOutcome.failed(.requestCancelled) : .values(items(3, from: 500), filtered: nil)
        let runs = [OutcomeRun(sequences: sequences(0, 3), outcome: lost)]
        #expect(texts(group.step(2, .completed(session: session, runs: runs))) == [])
        group.deliver()
        _ = group.attach(2, session)
        // What the client sends again, with more.
        _ = group.submit(2, session, 0, 5)
        group.deliver()
        _ = group.complete(2, session, 0, 5, value: 100)
        #expect(group.deliver()[member(2)].map(texts) == ["deliver 5: 0+5 values 100"])
    }

    @Test("of two outcomes that were proposed before either was committed the first counts")
    func twoOutcomes() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 4)
        group.deliver()
        _ = group.attach(1, session)
        _ = group.complete(1, session, 0, 3, value: 100)
        _ = group.complete(1, session, 2, 2, value: 500)
        #expect(
            group.deliver()[member(1)].map(texts) == [
                "deliver 5: 0+3 values 100", "deliver 5: 3+1 values 503",
            ])
        #expect(group[1].counters.duplicates == 1)
    }

    @Test("deaths with a run are in the log before it may go out again, and a new primary knows of them")
    func attempts() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 3)
        group.deliver()
        _ = group.complete(1, session, 1, 1)
        group.deliver()
        let died = PartitionEvent.attempted(session: session, sequences: sequences(0, 3), attempts: 2)
        #expect(texts(group.step(1, died)) == [])
        #expect(group.deliver()[member(1)].map(texts) == ["attempted 0+1 2", "attempted 2+1 2"])
        group.seat(primary: 2, inSync: [1, 2, 3])
        group.deliver()
        #expect(group[2].openRuns().map(\.deaths) == [2, 2])
    }
}
