// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Dispatcher, hosts of a cluster")
struct DispatcherHostTests {
    /// A dispatcher with two hosts, of which the first has 4 items of credit and the second as many.
    private struct Pair {
        var dispatcher = Dispatcher(seed: 1, limits: Limits())

        init() {
            for host in [1, 2] as [UInt64] {
                _ = step(.hostUp(HostID(rawValue: host), isLocal: host == 1, creditItems: 4, creditBytes: 10_000))
            }
        }

        mutating func step(_ event: DispatcherEvent) -> [DispatcherDirective] {
            var out: [DispatcherDirective] = []
            dispatcher.step(event, now: .zero, out: &out)
            return out
        }

        /// What is sent at the end of a turn: host, sequences, attempt.
        mutating func sent() -> [String] {
            step(.tick).compactMap { directive in
                guard case .send(let host, let runs) = directive else { return nil }
                return "\(host): " + runs.map { "\($0.requests.sequences)#\($0.attempt)" }.joined(separator: " ")
            }
        }
    }

    private func run(_ first: UInt64, _ count: Int, partition: PartitionID = Partition.id) -> OpenRun {
        OpenRun(
            requests: RequestRun(
                partition: partition, session: SessionID(rawValue: 1), sequences: sequences(first, count)),
            pipeline: 1, items: items(count, from: first))
    }

    @Test("what a dead host held is handed back, to be logged as an attempt before it is sent again")
    func lost() {
        var pair = Pair()
        _ = pair.step(.enqueue(run(0, 4)))
        #expect(pair.sent() == ["h1: 0+4#1"])
        let out = pair.step(.hostLost(HostID(rawValue: 1)))
        guard case .lost(let lost)? = out.first, out.count == 1 else {
            Issue.record("\(out)")
            return
        }
        #expect(lost.requests.sequences == sequences(0, 4))
        #expect(pair.dispatcher.sentItems == 0 && pair.dispatcher.queuedItems == 0)
        #expect(pair.sent() == [], "not before the log has it")
    }

    @Test("what a silent host held goes to another one, and that is no attempt")
    func away() {
        var pair = Pair()
        _ = pair.step(.enqueue(run(0, 4)))
        #expect(pair.sent() == ["h1: 0+4#1"])
        #expect(pair.step(.hostAway(HostID(rawValue: 1))).isEmpty)
        #expect(pair.sent() == ["h2: 0+4#1"])
    }

    @Test("a host that leaves finishes what it has and gets nothing new")
    func closing() {
        var pair = Pair()
        _ = pair.step(.enqueue(run(0, 2)))
        #expect(pair.sent() == ["h1: 0+2#1"])
        _ = pair.step(.hostClosing(HostID(rawValue: 1)))
        _ = pair.step(.enqueue(run(2, 2)))
        #expect(pair.sent() == ["h2: 2+2#1"])
        _ = pair.step(.finished(HostID(rawValue: 1), runs: [run(0, 2).requests]))
        #expect(pair.dispatcher.sentItems == 2)
    }

    @Test("a run that a host has already counts against its credit and is not sent")
    func adopted() {
        var pair = Pair()
        _ = pair.step(.adopt(run(0, 3), HostID(rawValue: 1)))
        #expect(pair.sent() == [] && pair.dispatcher.sentItems == 3)
        _ = pair.step(.enqueue(run(3, 4)))
        #expect(pair.sent() == ["h1: 3+1#1", "h2: 4+3#1"])
        _ = pair.step(.finished(HostID(rawValue: 1), runs: [run(0, 3).requests]))
        #expect(pair.dispatcher.credit(of: HostID(rawValue: 1))?.items == 3)
    }

    @Test("a partition that another node serves takes its runs along, and credit returns at once")
    func forgotten() {
        var pair = Pair()
        let other = PartitionID(9)
        _ = pair.step(.enqueue(run(0, 4)))
        _ = pair.step(.enqueue(run(0, 6, partition: other)))
        #expect(pair.sent() == ["h1: 0+4#1", "h2: 0+4#1"])
        #expect(pair.step(.forget(other)).isEmpty)
        #expect(pair.dispatcher.queuedItems == 0 && pair.dispatcher.sentItems == 4)
        #expect(pair.dispatcher.credit(of: HostID(rawValue: 2))?.items == 4)
    }
}
