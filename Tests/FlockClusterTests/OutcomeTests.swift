// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Partition replica, outcomes and time")
struct OutcomeTests {
    private func value(_ first: UInt64, _ count: Int, _ value: UInt64) -> OutcomeRun {
        OutcomeRun(sequences: sequences(first, count), outcome: .values(items(count, from: value), filtered: nil))
    }

    @Test("the first outcome of a request counts, whoever brings another one")
    func firstWins() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.attach(session)
        _ = partition.submit(session, 0, 6)
        #expect(texts(partition.complete(session, 2, 2, value: 100)) == ["deliver 5: 2+2 values 102"])
        let out = partition.step(.completed(session: session, runs: [value(0, 6, 500), value(0, 6, 900)]))
        #expect(texts(out) == ["deliver 5: 0+2 values 500, 4+2 values 504"])
        #expect(partition.replica.counters.duplicates == 2 + 6)
        #expect(texts(partition.attach(session, 6)) == ["deliver 6: 0+2 values 500, 2+2 values 102, 4+2 values 504"])
    }

    @Test("outcomes of requests that were never accepted, or of an unknown session, are dropped")
    func unknown() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.attach(session)
        _ = partition.submit(session, 0, 2)
        #expect(texts(partition.complete(session, 1, 5)) == ["deliver 5: 1+1 values 101"])
        #expect(texts(partition.complete(SessionID(generation: 1, counter: 50), 0, 3)) == [])
        #expect(partition.replica.openItems == 1)
    }

    @Test("values, filtered and failed come mixed in one list")
    func mixed() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.attach(session)
        _ = partition.submit(session, 0, 4)
        _ = partition.submit(session, 4, 6)
        var mask = ItemMask(count: 3)
        mask[1] = true
        let runs = [
            OutcomeRun(sequences: sequences(0, 2), outcome: .filtered),
            OutcomeRun(sequences: sequences(2, 3), outcome: .values(items(3, from: 70), filtered: mask)),
            OutcomeRun(sequences: sequences(5, 4), outcome: .failed(FlockError(.stageFailed, "no"))),
            value(9, 1, 90),
        ]
        let out = partition.step(.completed(session: session, runs: runs))
        let text = "0+2 filtered, 2+3 values 70 mask 010, 5+4 stageFailed, 9+1 values 90"
        #expect(texts(out) == ["deliver 5: \(text)"])
        // Run 2+3 lies in two accepted runs; it comes back in their parts.
        let again = "0+2 filtered, 2+2 values 70 mask 01, 4+1 values 72 mask 0, 5+4 stageFailed, 9+1 values 90"
        #expect(texts(partition.attach(session)) == ["deliver 5: \(again)"])
        #expect(partition.budget.open == 0)
    }

    @Test("a run's payload counts until its last request is done")
    func pinned() {
        var partition = Partition()
        let session = partition.open()
        let reserve = Limits().reservedResultBytes
        _ = partition.submit(session, 0, 4)
        let payload = items(4).encodedSize
        _ = partition.complete(session, 0, 3)
        #expect(partition.budget.open == payload + reserve)
        _ = partition.complete(session, 3, 1)
        #expect(partition.budget.open == 0)
    }

    @Test("a result larger than its reservation fails alone; a wrong number of results fails the run")
    func tooLarge() throws {
        var limits = Limits()
        limits.reservedResultBytes = 20
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.attach(session)
        _ = partition.submit(session, 0, 5)
        let results = try items(lengths: [20, 8, 21, 30, 8])
        let out = partition.step(
            .completed(
                session: session,
                runs: [OutcomeRun(sequences: sequences(0, 5), outcome: .values(results, filtered: nil))]))
        #expect(out.count == 1)
        guard case .deliver(_, _, let runs)? = out.first else { return #expect(Bool(false), "\(texts(out))") }
        #expect(runs.map(\.sequences) == [sequences(0, 2), sequences(2, 2), sequences(4, 1)])
        #expect(runs[1].outcome.text == "resultTooLarge")
        _ = partition.submit(session, 5, 3)
        let wrong = OutcomeRun(sequences: sequences(5, 3), outcome: .values(items(2), filtered: nil))
        #expect(texts(partition.step(.completed(session: session, runs: [wrong]))) == ["deliver 5: 5+3 badBatch"])
    }

    @Test("a run whose deadline has come gets that outcome and is revoked; a later result changes nothing")
    func deadline() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.attach(session)
        partition.now = milliseconds(10)
        _ = partition.submit(session, 0, 4, deadline: .milliseconds(50))
        _ = partition.submit(session, 4, 2)
        _ = partition.submit(session, 6, 2, deadline: .milliseconds(20))
        #expect(partition.replica.nextDeadline == milliseconds(30))
        _ = partition.complete(session, 1, 2)
        #expect(texts(partition.tick(at: milliseconds(29))) == [])
        #expect(
            texts(partition.tick(at: milliseconds(30))) == ["revoke 6+2", "deliver 5: 6+2 deadlineExceeded"])
        #expect(partition.replica.nextDeadline == milliseconds(60))
        #expect(
            texts(partition.tick(at: milliseconds(70))) == [
                "revoke 0+1", "revoke 3+1", "deliver 5: 0+1 deadlineExceeded, 3+1 deadlineExceeded",
            ])
        #expect(texts(partition.complete(session, 0, 4)) == [])
        #expect(partition.replica.openItems == 2)
    }

    @Test("cancelled requests are revoked; those that are done keep their outcome")
    func cancel() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 6)
        _ = partition.complete(session, 2, 1)
        let cancel = PartitionEvent.cancel(session: session, secret: Partition.secret, sequences: sequences(1, 3))
        #expect(texts(partition.step(cancel)) == ["revoke 1+1", "revoke 3+1"])
        #expect(texts(partition.step(cancel)) == [])
        #expect(texts(partition.attach(session)) == ["deliver 5: 1+1 cancelled, 2+1 values 102, 3+1 cancelled"])
        #expect(partition.replica.openRuns().map(\.requests.sequences) == [sequences(0, 1), sequences(4, 2)])
    }

    @Test("an outcome is kept for its time to live from its completion, then it is expired")
    func timeToLive() {
        var limits = Limits()
        limits.outcomeTimeToLive = .milliseconds(100)
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        partition.now = milliseconds(50)
        _ = partition.complete(session, 0, 2)
        partition.now = milliseconds(80)
        _ = partition.complete(session, 2, 2)
        #expect(partition.replica.nextDeadline == milliseconds(150))
        _ = partition.tick(at: milliseconds(149))
        #expect(partition.budget.unread == 32)
        _ = partition.tick(at: milliseconds(150))
        #expect(partition.budget.unread == 16 && partition.replica.nextDeadline == milliseconds(180))
        #expect(texts(partition.attach(session)) == ["deliver 5: 0+2 expired, 2+2 values 102"])
        #expect(partition.replica.counters.expired == 2)
    }

    @Test("the newest subscriber gets what is held and then each outcome; the old one gets nothing more")
    func subscribers() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 3)
        _ = partition.complete(session, 0, 1)
        #expect(texts(partition.attach(session, 1)) == ["deliver 1: 0+1 values 100"])
        #expect(texts(partition.attach(session, 2)) == ["deliver 2: 0+1 values 100"])
        #expect(texts(partition.complete(session, 1, 1)) == ["deliver 2: 1+1 values 101"])
        #expect(texts(partition.step(.detach(subscriber: 1))) == [])
        #expect(texts(partition.ack(session, [sequences(0, 1)])) == [])
        #expect(texts(partition.step(.detach(subscriber: 2))) == [])
        #expect(texts(partition.complete(session, 2, 1)) == [])
        #expect(texts(partition.attach(session, 3)) == ["deliver 3: 1+1 values 101, 2+1 values 102"])
    }

    @Test("deliveries are cut by runs and by bytes")
    func chunks() {
        var limits = Limits()
        limits.runsPerFrame = 2
        limits.frameBytes = 4 * 100
        var partition = Partition(limits)
        let session = partition.open()
        _ = partition.submit(session, 0, 40)
        for first in stride(from: UInt64(0), to: 5, by: 1) { _ = partition.complete(session, first, 1) }
        let text = texts(partition.attach(session))
        #expect(
            text == [
                "deliver 5: 0+1 values 100, 1+1 values 101", "deliver 5: 2+1 values 102, 3+1 values 103",
                "deliver 5: 4+1 values 104",
            ])
        let runs = [value(10, 10, 0), value(20, 10, 0), value(30, 1, 0)]
        let out = partition.step(.completed(session: session, runs: runs))
        #expect(texts(out) == ["deliver 5: 10+10 values 0", "deliver 5: 20+10 values 0, 30+1 values 0"])
    }

    @Test("acknowledgements of anything at all are harmless")
    func harmlessAcks() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        _ = partition.complete(session, 1, 1)
        let runs = [sequences(0, 1), sequences(2, 500), sequences(.max - 5, 5), sequences(3, 0), sequences(1, 1)]
        _ = partition.ack(session, runs, lowestOpen: .max)
        _ = partition.ack(session, runs, lowestOpen: .max)
        #expect(partition.replica.openItems == 3 && partition.budget.unread == 0)
        #expect(texts(partition.complete(session, 0, 4)) == [])
        #expect(texts(partition.attach(session)) == ["deliver 5: 0+1 values 100, 2+2 values 102"])
        _ = partition.ack(session, [], lowestOpen: 4)
        #expect(partition.budget.unread == 0 && partition.budget.open == 0)
    }

    @Test("closing revokes what is open and gives everything back")
    func close() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        _ = partition.submit(session, 4, 4)
        _ = partition.complete(session, 1, 2)
        let out = partition.step(.close(session: session, secret: Partition.secret, reply: 2))
        #expect(texts(out) == ["revoke 0+1", "revoke 3+5", "closed", "done"])
        #expect(partition.budget.open == 0 && partition.budget.unread == 0 && partition.replica.openItems == 0)
        #expect(texts(partition.submit(session, 8, 1)) == ["failed notFound"])
        #expect(texts(partition.complete(session, 0, 8)) == [])
    }

    @Test("an idle session is closed, but not while it has a subscriber, open requests or outcomes to fetch")
    func idle() {
        var limits = Limits()
        limits.sessionIdleTime = .milliseconds(100)
        limits.outcomeTimeToLive = .milliseconds(300)
        var partition = Partition(limits)
        let quiet = partition.open()
        let listening = partition.open()
        _ = partition.attach(listening, 1)
        let busy = partition.open()
        _ = partition.submit(busy, 0, 1)
        #expect(texts(partition.tick(at: milliseconds(99))) == [])
        #expect(texts(partition.tick(at: milliseconds(100))) == ["closed"])
        #expect(texts(partition.submit(quiet, 0, 1)) == ["failed notFound"])
        partition.now = milliseconds(200)
        _ = partition.complete(busy, 0, 1)
        _ = partition.step(.detach(subscriber: 1))
        #expect(texts(partition.tick(at: milliseconds(300))) == ["closed"])
        #expect(partition.replica.sessionCount == 1)
        #expect(texts(partition.tick(at: milliseconds(499))) == [])
        #expect(texts(partition.tick(at: milliseconds(500))) == ["closed"])
        #expect(partition.replica.sessionCount == 0 && partition.budget.unread == 0)
        #expect(partition.replica.nextDeadline == .never)
    }

    @Test("attempts and deaths that the log knows of are in the runs that a new dispatcher gets")
    func attempts() {
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        _ = partition.step(.attempted(session: session, sequences: sequences(0, 4), attempts: 2))
        _ = partition.step(.attempted(session: session, sequences: sequences(0, 4), attempts: 1))
        _ = partition.step(.failed(session: session, sequences: sequences(0, 4), attempts: 1))
        #expect(partition.replica.openRuns().map(\.deaths) == [2])
        #expect(partition.replica.openRuns().map(\.attempt) == [2])
    }

    @Test("time that goes back stands still")
    func clock() {
        var partition = Partition()
        let session = partition.open()
        partition.now = milliseconds(100)
        _ = partition.submit(session, 0, 1, deadline: .milliseconds(10))
        partition.now = milliseconds(50)
        _ = partition.submit(session, 1, 1, deadline: .milliseconds(10))
        #expect(partition.replica.openRuns().map(\.deadline) == [milliseconds(110), milliseconds(110)])
    }

    @Test("a request acknowledged item by item, in any order, leaves no crumbs")
    func crumbs() {
        var random = Seeded(5)
        var partition = Partition()
        let session = partition.open()
        _ = partition.submit(session, 0, 200)
        var order = Array(0..<200 as Range<UInt64>)
        for index in order.indices.dropFirst().reversed() { order.swapAt(index, random.below(index + 1)) }
        for sequence in order { _ = partition.complete(session, sequence, 1) }
        #expect(partition.budget.unread == 1600)
        for sequence in order.reversed() { _ = partition.ack(session, [sequences(sequence, 1)]) }
        #expect(partition.budget.unread == 0 && partition.budget.open == 0)
        #expect(texts(partition.submit(session, 100, 1)) == ["refused 100 expired"])
    }
}
