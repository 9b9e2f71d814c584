// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Dispatcher")
struct DispatcherTests {
    private func host(_ number: UInt64) -> HostID { HostID(rawValue: number) }

    private func run(_ first: UInt64, _ count: Int, session: UInt64 = 1, deadline: Tick? = nil) -> OpenRun {
        OpenRun(
            requests: requests(first, count, session: session), pipeline: 1, items: items(count, from: first),
            deadline: deadline)
    }

    private func requests(_ first: UInt64, _ count: Int, session: UInt64 = 1) -> RequestRun {
        RequestRun(
            partition: Partition.id, session: SessionID(rawValue: session), sequences: sequences(first, count))
    }

    private func steps(_ dispatcher: inout Dispatcher, _ events: [DispatcherEvent], at now: Tick = .zero) -> [String] {
        var out: [DispatcherDirective] = []
        for event in events { dispatcher.step(event, now: now, out: &out) }
        return out.map { directive in
            switch directive {
            case .send(let host, let runs):
                "\(host): " + runs.map { "\($0.requests.sequences)#\($0.attempt)" }.joined(separator: " ")
            case .giveUp(_, _, let run): "give up \(run.sequences) \(run.outcome.text)"
            case .revoke(let host, let run): "revoke \(host) \(run.sequences)"
            }
        }
    }

    private func dispatcher() -> Dispatcher { Dispatcher(seed: 1, limits: Limits()) }

    @Test("what was queued in a turn goes to a host in one frame, in order")
    func merges() {
        var dispatcher = dispatcher()
        let out = steps(
            &dispatcher,
            [
                .enqueue(run(0, 4)), .enqueue(run(0, 2, session: 2)), .tick,
                .hostUp(host(1), isLocal: false, creditItems: 100, creditBytes: 10_000), .enqueue(run(4, 4)), .tick,
            ])
        #expect(out == ["h1: 0+4#1 0+2#1 4+4#1"])
        #expect(dispatcher.queuedItems == 0 && dispatcher.sentItems == 10)
        #expect(dispatcher.credit(of: host(1))?.items == 90 && dispatcher.credit(of: host(1))?.bytes == 10_000 - 80)
    }

    @Test("a local host comes before a remote one as long as it has credit; a run is split to fit")
    func localFirst() {
        var dispatcher = dispatcher()
        let out = steps(
            &dispatcher,
            [
                .hostUp(host(1), isLocal: false, creditItems: 5, creditBytes: 10_000),
                .hostUp(host(2), isLocal: true, creditItems: 6, creditBytes: 10_000), .enqueue(run(0, 4)),
                .enqueue(run(4, 10)), .tick,
            ])
        #expect(out == ["h2: 0+4#1 4+2#1", "h1: 6+5#1"])
        #expect(dispatcher.queuedItems == 3)
        let more = steps(&dispatcher, [.finished(host(2), runs: [requests(2, 3)]), .tick])
        #expect(more == ["h2: 11+3#1"])
    }

    @Test("credit in bytes splits runs too, and an item larger than all of it goes to an idle host")
    func bytes() throws {
        var dispatcher = dispatcher()
        let first = steps(
            &dispatcher,
            [
                .hostUp(host(1), isLocal: true, creditItems: 100, creditBytes: 20), .enqueue(run(0, 5)), .tick,
            ])
        #expect(first == ["h1: 0+2#1"])
        var large = run(0, 3, session: 2)
        large.items = try items(lengths: [30, 10, 10])
        let second = steps(
            &dispatcher,
            [
                .finished(host(1), runs: [requests(0, 2)]), .revoke(requests(2, 3)), .enqueue(large), .tick,
            ])
        #expect(second == ["h1: 0+1#1"])
        #expect(dispatcher.credit(of: host(1))?.bytes == 0)
        let third = steps(&dispatcher, [.finished(host(1), runs: [requests(0, 1, session: 2)]), .tick])
        #expect(third == ["h1: 1+2#1"])
        #expect(dispatcher.credit(of: host(1))?.bytes == 0)
    }

    @Test("a lost host's runs go elsewhere with the next attempt, before what is queued, and are given up at the limit")
    func lostHost() {
        var dispatcher = dispatcher()
        let first = steps(
            &dispatcher,
            [
                .hostUp(host(1), isLocal: true, creditItems: 8, creditBytes: 10_000), .enqueue(run(0, 4)),
                .enqueue(run(4, 8)), .tick,
            ])
        #expect(first == ["h1: 0+4#1 4+4#1"])
        let second = steps(
            &dispatcher,
            [
                .finished(host(1), runs: [requests(2, 3)]), .hostDown(host(1)), .tick,
                .hostUp(host(2), isLocal: true, creditItems: 100, creditBytes: 10_000), .tick,
            ])
        #expect(second == ["h2: 0+2#2 5+3#2 8+4#1"])
        // The lost host's late answer changes nothing.
        #expect(steps(&dispatcher, [.finished(host(1), runs: [requests(0, 12)])]) == [])
        #expect(dispatcher.sentItems == 9)
        let third = steps(
            &dispatcher,
            [
                .hostDown(host(2)), .hostUp(host(3), isLocal: true, creditItems: 100, creditBytes: 10_000), .tick,
                .hostDown(host(3)), .hostUp(host(4), isLocal: true, creditItems: 100, creditBytes: 10_000), .tick,
            ])
        #expect(
            third == [
                "h3: 0+2#3 5+3#3 8+4#2", "give up 5+3 poison", "give up 0+2 poison", "h4: 8+4#3",
            ])
    }

    @Test("what a host hands back unstarted is sent again and counts as no attempt")
    func returned() {
        var dispatcher = dispatcher()
        let out = steps(
            &dispatcher,
            [
                .hostUp(host(1), isLocal: true, creditItems: 10, creditBytes: 10_000), .enqueue(run(0, 6)), .tick,
                .returned(host(1), runs: [requests(2, 2)]), .tick,
            ])
        #expect(out == ["h1: 0+6#1", "h1: 2+2#1"])
    }

    @Test("revoked runs leave the queue; those that are out are revoked at their host, whose credit stays bound")
    func revoke() {
        var dispatcher = dispatcher()
        let out = steps(
            &dispatcher,
            [
                .hostUp(host(1), isLocal: true, creditItems: 4, creditBytes: 10_000), .enqueue(run(0, 10)), .tick,
                .revoke(requests(2, 5)), .revoke(requests(2, 5)),
            ])
        #expect(out == ["h1: 0+4#1", "revoke h1 2+2"])
        #expect(dispatcher.queuedItems == 3 && dispatcher.credit(of: host(1))?.items == 0)
        #expect(steps(&dispatcher, [.finished(host(1), runs: [requests(0, 4)]), .tick]) == ["h1: 7+3#1"])
        #expect(steps(&dispatcher, [.revoke(requests(7, 3)), .hostDown(host(1)), .tick]) == ["revoke h1 7+3"])
        #expect(dispatcher.queuedItems == 0 && dispatcher.sentItems == 0)
    }

    @Test("a run past its deadline is not sent")
    func expired() {
        var dispatcher = dispatcher()
        let events: [DispatcherEvent] = [
            .hostUp(host(1), isLocal: true, creditItems: 40, creditBytes: 10_000),
            .enqueue(run(0, 2, deadline: milliseconds(5))), .enqueue(run(2, 2, deadline: milliseconds(6))), .tick,
        ]
        let out = steps(&dispatcher, events, at: milliseconds(5))
        #expect(out == ["give up 0+2 deadlineExceeded", "h1: 2+2#1"])
    }

    @Test("runs spread evenly over many remote hosts")
    func spread() {
        var dispatcher = dispatcher()
        var out: [DispatcherDirective] = []
        for number in 1...8 as ClosedRange<UInt64> {
            let up = DispatcherEvent.hostUp(host(number), isLocal: false, creditItems: 10_000, creditBytes: 1 << 20)
            dispatcher.step(up, now: .zero, out: &out)
        }
        for index in 0..<800 as Range<UInt64> { dispatcher.step(.enqueue(run(index * 4, 4)), now: .zero, out: &out) }
        dispatcher.step(.tick, now: .zero, out: &out)
        let loads = (1...8).map { 10_000 - (dispatcher.credit(of: host($0))?.items ?? 0) }
        #expect(loads.reduce(0, +) == 3200)
        #expect(loads.allSatisfy { (360...440).contains($0) }, "\(loads)")
    }

    @Test("sessions that come and go leave nothing behind")
    func bounded() {
        var dispatcher = dispatcher()
        var out: [DispatcherDirective] = []
        dispatcher.step(
            .hostUp(host(1), isLocal: true, creditItems: 100, creditBytes: 10_000), now: .zero, out: &out)
        for session in 0..<20_000 as Range<UInt64> {
            dispatcher.step(.enqueue(run(0, 1, session: session)), now: .zero, out: &out)
            dispatcher.step(.tick, now: .zero, out: &out)
            dispatcher.step(.finished(host(1), runs: [requests(0, 1, session: session)]), now: .zero, out: &out)
            out.removeAll()
        }
        #expect(dispatcher.heldSessions < 1024)
    }
}

extension DispatcherTests {
    @Test("a request that is given up names the limit of attempts")
    func attemptsLimit() {
        var dispatcher = dispatcher()
        var out: [DispatcherDirective] = []
        dispatcher.step(.enqueue(run(0, 1)), now: .zero, out: &out)
        for attempt in 1...3 {
            let id = host(UInt64(attempt))
            dispatcher.step(.hostUp(id, isLocal: true, creditItems: 1, creditBytes: 1000), now: .zero, out: &out)
            dispatcher.step(.tick, now: .zero, out: &out)
            dispatcher.step(.hostDown(id), now: .zero, out: &out)
        }
        guard case .giveUp(_, _, let outcome)? = out.last, case .failed(let error) = outcome.outcome else {
            Issue.record("\(out)")
            return
        }
        #expect(error.code == .poison && error.limit == .attempts)
    }
}
