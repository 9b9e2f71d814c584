// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("a dispatcher in a cluster")
struct DispatcherClusterTests {
    static let near = HostID(rawValue: 1)
    static let far = HostID(rawValue: 2)

    static func run(_ first: UInt64, _ count: Int, partition: Int = 1) -> OpenRun {
        OpenRun(
            requests: RequestRun(
                partition: PartitionID(partition), session: SessionID(rawValue: 5), sequences: sequences(first, count)),
            pipeline: 0, items: items(count, from: first))
    }

    private static func step(
        _ dispatcher: inout Dispatcher, _ events: [DispatcherEvent]
    ) -> [DispatcherDirective] {
        var out: [DispatcherDirective] = []
        for event in events { dispatcher.step(event, now: .zero, out: &out) }
        return out
    }

    /// With ten items out at the near host, and a far one.
    private static func busy() -> Dispatcher {
        var dispatcher = Dispatcher(seed: 1, limits: Limits())
        let out = step(
            &dispatcher,
            [
                .hostUp(near, isLocal: true, creditItems: 20, creditBytes: 1 << 20), .enqueue(run(0, 10)), .tick,
                .hostUp(far, isLocal: false, creditItems: 20, creditBytes: 1 << 20),
            ])
        #expect(out.count == 1 && dispatcher.sentItems == 10)
        return dispatcher
    }

    @Test("what a dead host held is handed back, to be logged before it is sent again")
    func lost() {
        var dispatcher = Self.busy()
        let out = Self.step(&dispatcher, [.hostLost(Self.near), .tick])
        guard case .lost(let run) = out.first else { return #expect(Bool(false), "\(out)") }
        #expect(run.requests.sequences == sequences(0, 10) && out.count == 1)
        #expect(dispatcher.sentItems == 0 && dispatcher.queuedItems == 0 && dispatcher.hostCount == 1)
    }

    @Test("what a silent host has is handed back too, since it may have died of it")
    func away() {
        var dispatcher = Self.busy()
        let out = Self.step(&dispatcher, [.hostAway(Self.near), .tick])
        guard case .lost(let run) = out.first else { return #expect(Bool(false), "\(out)") }
        #expect(run.requests.sequences == sequences(0, 10) && dispatcher.sentItems == 0)
    }

    @Test("a host that leaves finishes what it has and gets nothing new")
    func closing() {
        var dispatcher = Self.busy()
        let out = Self.step(&dispatcher, [.hostClosing(Self.near), .enqueue(Self.run(10, 5)), .tick])
        guard case .send(Self.far, _) = out.first else { return #expect(Bool(false), "\(out)") }
        #expect(dispatcher.sentItems == 15)
        _ = Self.step(&dispatcher, [.finished(Self.near, runs: [Self.run(0, 10).requests])])
        #expect(dispatcher.sentItems == 5)
    }

    @Test("a run that a host has already counts against its credit, and is settled like any other")
    func adopted() {
        var dispatcher = Self.busy()
        _ = Self.step(&dispatcher, [.adopt(Self.run(100, 15), Self.near)])
        #expect(dispatcher.credit(of: Self.near)?.items == 0)
        #expect(dispatcher.sentItems == 25)
        _ = Self.step(&dispatcher, [.finished(Self.near, runs: [Self.run(100, 15).requests])])
        #expect(dispatcher.credit(of: Self.near)?.items == 10)
    }

    @Test("a partition that another node serves leaves nothing behind")
    func forgotten() {
        var dispatcher = Self.busy()
        _ = Self.step(&dispatcher, [.enqueue(Self.run(0, 30, partition: 2)), .tick, .forget(PartitionID(1))])
        #expect(dispatcher.sentItems + dispatcher.queuedItems == 30)
        _ = Self.step(&dispatcher, [.forget(PartitionID(2))])
        #expect(dispatcher.sentItems == 0 && dispatcher.queuedItems == 0)
        #expect(dispatcher.credit(of: Self.near)?.items == 20)
        // The same sequences may come back.
        #expect(Self.step(&dispatcher, [.enqueue(Self.run(0, 10)), .tick]).count == 1)
    }
}
