// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Partition replica, acceptance")
struct AcceptTests {
    @Test("a run is accepted, dispatched once with its payload, completed, delivered and acknowledged")
    func life() throws {
        var partition = Partition()
        let session = partition.open()
        #expect(session.generation == 1)
        let out = partition.submit(session, 0, 4, deadline: .milliseconds(50))
        #expect(texts(out) == ["accepted 3", "dispatch 0+4"])
        guard case .dispatch(let run)? = out.last else { return }
        #expect(run.requests.partition == Partition.id && run.pipeline == 7 && run.attempt == 1)
        #expect(run.deadline == milliseconds(50) && number(run.items, 3) == 3)
        #expect(partition.budget.open == run.items.encodedSize + 4 * Limits().reservedResultBytes)
        #expect(texts(partition.attach(session)) == [])
        #expect(texts(partition.complete(session, 0, 4)) == ["deliver 5: 0+4 values 100"])
        #expect(partition.budget.open == 0 && partition.budget.unread == 32)
        #expect(partition.replica.openRuns().isEmpty)
        #expect(texts(partition.ack(session, [sequences(0, 4)], lowestOpen: 4)) == [])
        #expect(partition.budget.unread == 0)
        #expect(partition.replica.counters.accepted == 4 && partition.replica.counters.completed == 4)
    }

    @Test("what was accepted before is accepted again and not dispatched; an overlap adds only its new tail")
    func duplicates() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        #expect(texts(partition.submit(session, 0, 4)) == ["accepted 3"])
        #expect(texts(partition.submit(session, 1, 2)) == ["accepted 2"])
        let out = partition.submit(session, 2, 5)
        #expect(texts(out) == ["accepted 6", "dispatch 4+3"])
        if case .dispatch(let run)? = out.last { #expect(number(run.items, 0) == 4) }
        _ = partition.complete(session, 0, 7)
        #expect(texts(partition.submit(session, 0, 7)) == ["accepted 6"])
        _ = partition.ack(session, [], lowestOpen: 3)
        #expect(texts(partition.submit(session, 0, 3)) == ["refused 0 expired"])
        #expect(texts(partition.submit(session, 0, 4)) == ["accepted 3"])
    }

    @Test("after a refusal later runs are refused until that run is retried")
    func refusalThenRetry() {
        var limits = Limits()
        limits.openBytes = 2000
        limits.reservedResultBytes = 256
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.submit(session, 0, 5)
        #expect(texts(partition.submit(session, 5, 5)) == ["refused 5 overloaded"])
        _ = partition.complete(session, 0, 5)
        #expect(texts(partition.submit(session, 10, 1)) == ["refused 10 overloaded"])
        #expect(texts(partition.submit(session, 5, 5)) == ["accepted 9", "dispatch 5+5"])
        #expect(texts(partition.submit(session, 10, 1)) == ["accepted 10", "dispatch 10+1"])
    }

    @Test("after a refusal a cancel of that run lets later runs in: it is committed as cancelled without payload")
    func refusalThenCancel() {
        var limits = Limits()
        limits.openBytes = 2000
        limits.reservedResultBytes = 256
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.attach(session)
        _ = partition.submit(session, 0, 5)
        #expect(texts(partition.submit(session, 5, 5)) == ["refused 5 overloaded"])
        let before = partition.budget
        func cancel(_ run: SequenceRun) -> PartitionEvent {
            .cancel(session: session, secret: Partition.secret, sequences: run, reply: 1)
        }
        #expect(texts(partition.step(cancel(sequences(10, 2)))) == ["failed overloaded"])
        #expect(texts(partition.step(cancel(sequences(5, 5)))) == ["deliver 5: 5+5 cancelled", "done"])
        #expect(partition.budget == before)
        #expect(texts(partition.submit(session, 10, 1)) == ["accepted 10", "dispatch 10+1"])
        // Too late: the sequences are done.
        #expect(texts(partition.submit(session, 5, 5)) == ["accepted 9"])
        #expect(texts(partition.complete(session, 5, 5)) == [])
    }

    @Test("an overload says when to retry and takes nothing")
    func retryAfter() {
        var limits = Limits()
        limits.openBytes = 1000
        limits.reservedResultBytes = 256
        limits.retryAfter = .milliseconds(7)
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.submit(session, 0, 3)
        let before = partition.budget
        let out = partition.submit(session, 3, 2)
        guard case .refused(_, from: 3, let error)? = out.first else { return #expect(Bool(false), "\(texts(out))") }
        #expect(error == .overloaded && error.retryAfter == .milliseconds(7))
        #expect(partition.budget == before && partition.replica.counters.refused == 1)
        // Another session of the node hears the same: the budget is the node's.
        let other = partition.open()
        #expect(texts(partition.submit(other, 0, 2)) == ["refused 0 overloaded"])
    }

    @Test("the session's window refuses, and an acknowledgement opens it")
    func window() {
        var partition = Partition()
        let session = partition.open(window: 8)
        #expect(texts(partition.submit(session, 0, 8)).first == "accepted 7")
        #expect(texts(partition.submit(session, 8, 1)) == ["refused 8 overloaded"])
        _ = partition.complete(session, 0, 8)
        #expect(texts(partition.submit(session, 8, 1)) == ["refused 8 overloaded"])
        _ = partition.ack(session, [sequences(1, 3)])
        #expect(texts(partition.submit(session, 8, 1)) == ["refused 8 overloaded"], "sequence 0 is still held")
        _ = partition.ack(session, [sequences(0, 1)])
        #expect(texts(partition.submit(session, 8, 4)) == ["accepted 11", "dispatch 8+4"])
        #expect(texts(partition.submit(session, 12, 1)) == ["refused 12 overloaded"])
    }

    @Test("a slow reader blocks only itself: its unread outcomes count against its own quota")
    func quota() {
        var limits = Limits()
        limits.reservedResultBytes = 10
        limits.sessionResultBytes = 100
        var partition = Partition(limits)
        let slow = partition.open()
        let other = partition.open()
        _ = partition.submit(slow, 0, 10)
        #expect(texts(partition.submit(slow, 10, 1)) == ["refused 10 overloaded"])
        _ = partition.complete(slow, 0, 10)
        #expect(texts(partition.submit(slow, 10, 3)) == ["refused 10 overloaded"])
        #expect(texts(partition.submit(slow, 10, 2)).first == "accepted 11")
        #expect(texts(partition.submit(other, 0, 10)).first == "accepted 9")
        _ = partition.ack(slow, [sequences(0, 5)])
        #expect(texts(partition.submit(slow, 12, 4)).first == "accepted 15")
    }

    @Test("unread outcomes of the whole node are bounded")
    func nodeQuota() {
        var limits = Limits()
        limits.reservedResultBytes = 8
        limits.unreadResultBytes = 100
        var partition = Partition(limits)
        for _ in 0..<3 {
            let session = partition.open()
            _ = partition.submit(session, 0, 4)
            _ = partition.complete(session, 0, 4)
        }
        #expect(partition.budget.unread == 96)
        let last = partition.submit(partition.open(), 0, 1)
        #expect(texts(last) == ["refused 0 overloaded"])
        guard case .refused(_, _, let error)? = last.last else { return }
        #expect(error.limit == .unreadResultBytes)
    }

    @Test("sessions of a partition are bounded, and a closed one makes room")
    func sessions() {
        var limits = Limits()
        limits.sessionsPerPartition = 2
        var partition = Partition(limits)
        let first = partition.open()
        _ = partition.open()
        let open = PartitionEvent.open(pipeline: 1, secret: Partition.secret, window: 1, reply: 1)
        #expect(texts(partition.step(open)) == ["failed overloaded"])
        #expect(texts(partition.step(.close(session: first, secret: Partition.secret))) == ["closed"])
        let third = partition.open()
        #expect(third > first, "ids are never used again")
    }

    @Test("what can never be accepted is refused for good, not as an overload")
    func never() throws {
        var limits = Limits()
        limits.openBytes = 5000
        limits.reservedResultBytes = 256
        limits.itemsPerRun = 500
        var partition = Partition(limits)
        let session = partition.open(window: 10)
        #expect(texts(partition.submit(session, 0, 11)) == ["refused 0 tooLarge"])
        let large = try items(lengths: [6000])
        #expect(texts(partition.submit(session, 0, 1, payload: large)) == ["refused 0 tooLarge"])
        #expect(texts(partition.submit(session, 0, 2, payload: items(3))) == ["refused 0 invalidInput"])
        #expect(texts(partition.submit(session, 0, 0)) == ["refused 0 invalidInput"])
        #expect(texts(partition.submit(session, 0, 501)) == ["refused 0 invalidInput"])
        #expect(texts(partition.submit(session, 0, 1)).first == "accepted 0")
    }

    @Test("a wrong secret is answered as an unknown session is, by every call, and changes nothing")
    func secrets() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 2)
        let unknown = SessionID(generation: 1, counter: 99)
        let run = AcceptRun(sequences: sequences(2, 1), items: items(1))
        for (id, secret) in [
            (session, SessionSecret(11, 23)), (session, SessionSecret(12, 22)), (unknown, Partition.secret),
        ] {
            let events: [PartitionEvent] = [
                .submit(session: id, secret: secret, run: run, reply: 1),
                .cancel(session: id, secret: secret, sequences: sequences(0, 2), reply: 1),
                .attach(session: id, secret: secret, subscriber: 1, reply: 1),
                .ack(session: id, secret: secret, runs: [], lowestOpen: 2, reply: 1),
                .close(session: id, secret: secret, reply: 1),
            ]
            for event in events {
                let out = partition.step(event)
                guard case .failed(reply: 1, let error)? = out.first, out.count == 1 else {
                    Issue.record("\(texts(out))")
                    continue
                }
                #expect(error == .notFound && error.message == "no such session, or not its secret")
            }
        }
        #expect(partition.replica.openItems == 2)
        #expect(partition.replica.pipeline(of: session, secret: Partition.secret) == 7)
        #expect(partition.replica.pipeline(of: session, secret: SessionSecret(11, 23)) == nil)
        #expect(partition.replica.pipeline(of: unknown, secret: Partition.secret) == nil)
        #expect("\(Partition.secret)" == "***")
    }

    @Test("a session of another incarnation, whose memory is lost, is answered lost")
    func lost() {
        var partition = Partition(generation: 4)
        let old = SessionID(generation: 3, counter: 0)
        #expect(texts(partition.submit(old, 0, 1)) == ["failed lost"])
        #expect(texts(partition.submit(SessionID(generation: 5, counter: 0), 0, 1)) == ["failed lost"])
        #expect(texts(partition.submit(SessionID(generation: 4, counter: 9), 0, 1)) == ["failed notFound"])
    }
}
