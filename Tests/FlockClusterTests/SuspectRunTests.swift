// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("runs that were on processes that died")
struct SuspectRunTests {
    private static let here = HostID(rawValue: 1)
    private static let far = HostID(rawValue: 2)
    private static let third = HostID(rawValue: 3)

    private static func suspect(_ first: UInt64, _ count: Int) -> OpenRun {
        var run = DispatcherClusterTests.run(first, count)
        run.deaths = Limits().deathsBeforeIsolation
        return run
    }

    private static func step(_ dispatcher: inout Dispatcher, _ events: [DispatcherEvent]) -> [DispatcherDirective] {
        var out: [DispatcherDirective] = []
        for event in events { dispatcher.step(event, now: .zero, out: &out) }
        return out
    }

    private static func dispatcher() -> Dispatcher {
        var dispatcher = Dispatcher(seed: 1, limits: Limits())
        _ = step(
            &dispatcher,
            [here, far, third].map {
                .hostUp($0, isLocal: $0 == here, creditItems: 20, creditBytes: 1 << 20)
            })
        return dispatcher
    }

    private static func sent(_ out: [DispatcherDirective]) -> [(HostID, SequenceRun)] {
        out.flatMap { directive -> [(HostID, SequenceRun)] in
            guard case .send(let host, let runs) = directive else { return [] }
            return runs.map { (host, $0.requests.sequences) }
        }
    }

    @Test("after a first death a run goes out with the others, wherever they go")
    func once() {
        var dispatcher = Self.dispatcher()
        var run = DispatcherClusterTests.run(0, 4)
        run.deaths = 1
        var other = DispatcherClusterTests.run(4, 4)
        other.deaths = 1
        let sent = Self.sent(Self.step(&dispatcher, [.enqueue(run), .enqueue(other), .tick]))
        #expect(sent.map(\.1) == [sequences(0, 4), sequences(4, 4)] && sent.allSatisfy { $0.0 == Self.here })
        #expect(dispatcher.suspectItems == 0)
    }

    @Test("two deaths isolate a run, one where that is all but one of the attempts there are")
    func isolation() {
        let deaths = [1, 2, 3, 10].map { attempts -> Int in
            var limits = Limits()
            limits.attempts = attempts
            return limits.deathsBeforeIsolation
        }
        #expect(deaths == [1, 1, 2, 2])
    }

    @Test("they go out one at a time, and never to the process that has their log, while others pass")
    func apart() throws {
        var dispatcher = Self.dispatcher()
        let first = Self.sent(
            Self.step(
                &dispatcher,
                [
                    .enqueue(Self.suspect(0, 4)), .enqueue(Self.suspect(4, 4)),
                    .enqueue(DispatcherClusterTests.run(8, 4)), .tick,
                ]))
        let suspects = first.filter { $0.1.first < 8 }
        #expect(suspects.map(\.1) == [sequences(0, 4)] && first.count == 2)
        let host = try #require(suspects.first).0
        #expect(host != Self.here)
        let second = Self.sent(
            Self.step(&dispatcher, [.finished(host, runs: [Self.suspect(0, 4).requests]), .tick]))
        #expect(second.map(\.1) == [sequences(4, 4)])
    }

    @Test("a death counts if the host had begun, and else the run is queued again as it was")
    func begun() throws {
        for begins in [true, false] {
            var dispatcher = Self.dispatcher()
            let host = try #require(
                Self.sent(Self.step(&dispatcher, [.enqueue(Self.suspect(0, 4)), .tick])).first
            ).0
            if begins { _ = Self.step(&dispatcher, [.begun(host, Self.suspect(0, 4).requests)]) }
            let out = Self.step(&dispatcher, [.hostLost(host), .tick])
            let isLost = out.contains { if case .lost = $0 { true } else { false } }
            #expect(isLost == begins)
            #expect(Self.sent(out).count == (begins ? 0 : 1))
        }
    }

    @Test("one that waits is let go when its outcome comes from a host that had it before")
    func overtaken() {
        var dispatcher = Self.dispatcher()
        _ = Self.step(&dispatcher, [.enqueue(Self.suspect(0, 4)), .enqueue(Self.suspect(4, 4)), .tick])
        #expect(dispatcher.queuedItems == 4)
        let requests = Self.suspect(4, 4).requests
        _ = Self.step(&dispatcher, [.finished(Self.here, runs: [requests])])
        #expect(dispatcher.queuedItems == 0 && dispatcher.missing(of: requests) == [requests.sequences])
    }

    @Test("one that a host hands back, since it has another, is tried again after a pause and not at once")
    func returned() throws {
        var dispatcher = Self.dispatcher()
        let host = try #require(
            Self.sent(Self.step(&dispatcher, [.enqueue(Self.suspect(0, 4)), .tick])).first
        ).0
        let out = Self.step(&dispatcher, [.returned(host, runs: [Self.suspect(0, 4).requests]), .tick])
        #expect(Self.sent(out).isEmpty)
        let due = dispatcher.nextDeadline()
        #expect(due == Tick.zero + Dispatcher.suspectPause)
        var later: [DispatcherDirective] = []
        dispatcher.step(.tick, now: due, out: &later)
        #expect(Self.sent(later).count == 1)
    }

    @Test("one that is with a silent host stays there, and does not hold up the next")
    func stranded() throws {
        var dispatcher = Self.dispatcher()
        let host = try #require(
            Self.sent(
                Self.step(&dispatcher, [.enqueue(Self.suspect(0, 4)), .enqueue(Self.suspect(4, 4)), .tick])
            ).first
        ).0
        let next = Self.sent(Self.step(&dispatcher, [.hostAway(host), .tick]))
        #expect(next.map(\.1) == [sequences(4, 4)] && next.first?.0 != host)
        #expect(dispatcher.sentItems == 8)
        _ = Self.step(&dispatcher, [.finished(host, runs: [Self.suspect(0, 4).requests])])
        #expect(dispatcher.sentItems == 4 && dispatcher.suspectItems == 4)
    }

    @Test("an entry remembers which of its parts died apart, and how often")
    func parts() {
        var entry = SessionEntry(
            sequences: sequences(10, 8), deadline: .never, trace: nil, timeToLive: 1, body: .open(items(8, from: 10)))
        #expect(entry.deaths.parts(of: sequences(10, 8)) == [Tally(sequences(10, 8), 0)])
        entry.died(sequences(10, 4), 1)
        entry.died(sequences(14, 4), 1)
        entry.died(sequences(10, 2), 1)
        entry.died(sequences(12, 2), 1)
        entry.died(sequences(13, 1), 2)
        // A wider run that died later parts nothing anew, and lowers nothing.
        entry.died(sequences(10, 8), 1)
        #expect(
            entry.deaths.parts(of: sequences(11, 6)) == [
                Tally(sequences(11, 1), 1), Tally(sequences(12, 1), 1), Tally(sequences(13, 1), 2),
                Tally(sequences(14, 3), 1),
            ])
    }
}
