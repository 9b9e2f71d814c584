// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("execution while a run is on its way to the other copies")
struct EarlyDispatchTests {
    private func group(_ limits: Limits = Limits()) -> ReplicaGroup {
        var group = ReplicaGroup(limits)
        group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        group.deliver()
        return group
    }

    @Test("a run is dispatched when its entry leaves, once; its outcome is seen when both are everywhere")
    func early() {
        var group = group()
        let session = group.open(1)
        _ = group.attach(1, session)
        #expect(texts(group.submit(1, session, 0, 4)) == ["dispatch 0+4"])
        #expect(texts(group.complete(1, session, 0, 4)) == [])
        var out = group.deliver(except: { from, _ in from == member(3) })
        #expect(out[member(1)].map(texts) == [], "seen without replica 3")
        out = group.pass(60)
        #expect(out[member(1)].map(texts) == ["accepted 3", "deliver 5: 0+4 values 100"])
        #expect(group[1].openItems == 0 && group[1].counters.duplicates == 0)
    }

    @Test("parts of a run may be done before it is accepted, and after")
    func parts() {
        var group = group()
        let session = group.open(1)
        _ = group.attach(1, session)
        _ = group.submit(1, session, 0, 2)
        group.deliver()
        _ = group.submit(1, session, 2, 2)
        #expect(texts(group.complete(1, session, 1, 2)) == [])
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 3", "deliver 5: 1+2 values 101"])
        _ = group.complete(1, session, 0, 4, value: 900)
        #expect(group.deliver()[member(1)].map(texts) == ["deliver 5: 0+1 values 900, 3+1 values 903"])
    }

    @Test("what is not on its way to all in sync waits until it is accepted")
    func waiting() {
        var limits = Limits()
        limits.replicationWindowBytes = 1
        var group = group(limits)
        let session = group.open(1)
        #expect(texts(group.submit(1, session, 0, 1)) == ["dispatch 0+1"])
        #expect(texts(group.submit(1, session, 1, 1)) == [], "the window is full")
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 0", "dispatch 1+1", "accepted 1"])
    }

    @Test("nobody else has a copy: a run is dispatched when it is accepted")
    func alone() {
        var group = ReplicaGroup(isDurable: true)
        group.seat(primary: 1, inSync: [1], minimum: 1)
        var out = group.step(1, .persisted(through: 1, epoch: 1))
        #expect(texts(out).contains("serving"))
        _ = group.step(1, .open(pipeline: 7, secret: ReplicaGroup.secret, window: 8, reply: 1))
        out = group.step(1, .persisted(through: 2, epoch: 1))
        guard case .opened(_, let session)? = out.first else { return #expect(Bool(false), "\(texts(out))") }
        #expect(!texts(group.submit(1, session, 0, 1)).contains("dispatch 0+1"))
        out = group.step(1, .persisted(through: 3, epoch: 1))
        #expect(texts(out) == ["accepted 0", "dispatch 0+1"])
    }

    @Test("what was executed and never accepted is executed again when it is submitted again")
    func cut() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 2)
        _ = group.complete(1, session, 0, 2)
        group.network = []  // nobody gets it
        group.seat(primary: 3, inSync: [1, 2, 3])
        group.pass(200)
        #expect(texts(group.complete(3, session, 0, 2)) == [] && group[3].counters.duplicates == 2)
        _ = group.attach(3, session)
        #expect(texts(group.submit(3, session, 0, 2)) == ["dispatch 0+2"])
        _ = group.complete(3, session, 0, 2, value: 700)
        #expect(group.deliver()[member(3)].map(texts) == ["accepted 1", "deliver 5: 0+2 values 700"])
        group.pass(200)
        #expect(Set((1...3).map { group[$0].stateDigest }).count == 1)
    }

    @Test("a failure that comes before the run is accepted is counted behind it")
    func failed() {
        var group = group()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 4)
        let requests = RequestRun(partition: Partition.id, session: session, sequences: sequences(1, 8))
        #expect(group[1].proposed(of: requests) == sequences(1, 3))
        _ = group.step(1, .failed(session: session, sequences: sequences(1, 3), attempts: 1))
        #expect(group.deliver()[member(1)].map(texts) == ["accepted 3", "attempted 1+3 1"])
        #expect(group[1].proposed(of: requests) == nil)
    }
}
