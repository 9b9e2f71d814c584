// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("two messages of a replica in one")
struct NodeMessageMergingTests {
    private func message(_ message: ReplicationMessage, partition: Int = 3, to: Int = 2) -> NodeMessage {
        .replication(from: member(1), to: member(to), PartitionID(partition), message)
    }

    private func append(
        after index: UInt64, _ count: Int, epoch: UInt64 = 4, commit: UInt64 = 0, bytes: Int = 8
    ) -> ReplicationMessage {
        let entries = (0..<count).map { place in
            LogEntry(
                epoch: epoch, index: index + UInt64(place) + 1, time: .zero,
                operation: .accept(
                    SessionID(rawValue: 9),
                    AcceptRun(
                        sequences: sequences(0, 1),
                        items: ItemBuffer(fixed: Bytes(count: bytes) { _ in }, stride: bytes, count: 1)),
                    timeToLive: 1))
        }
        return .append(
            ReplicationAppend(
                epoch: epoch, previousIndex: index, previousEpoch: index == 10 ? 3 : epoch, commit: commit,
                held: commit / 2, entries: entries))
    }

    @Test("entries that follow each other go together, with what was said last of the commit")
    func appends() throws {
        var first = message(append(after: 10, 2, commit: 8))
        let isOne = first.absorb(message(append(after: 12, 3, commit: 12)))
        let isStillOne = first.absorb(message(append(after: 15, 0, commit: 14)))
        #expect(isOne && isStillOne)
        guard case .replication(member(1), member(2), PartitionID(3), .append(let merged)) = first else {
            return #expect(Bool(false), "\(first)")
        }
        #expect(merged.previousIndex == 10 && merged.previousEpoch == 3 && merged.epoch == 4)
        #expect(merged.entries.map(\.index) == [11, 12, 13, 14, 15] && merged.commit == 14 && merged.held == 7)
    }

    @Test("a copy that gets the one is as a copy that got both")
    func same() {
        func group() -> (ReplicaGroup, SessionID) {
            var group = ReplicaGroup()
            group.seat(primary: 1, inSync: [1, 2], minimum: 2)
            group.deliver()
            let session = group.open(1)
            _ = group.submit(1, session, 0, 2)
            _ = group.complete(1, session, 0, 2)
            _ = group.submit(1, session, 2, 2)
            return (group, session)
        }
        var (apart, _) = group()
        var (together, _) = group()
        #expect(together.network.count == 3)
        var merged = message(together.network[0].message)
        for other in together.network.dropFirst() {
            let isOne = merged.absorb(message(other.message))
            #expect(isOne)
        }
        guard case .replication(_, _, _, let one) = merged else { return }
        together.network = [(member(1), member(2), one)]
        apart.deliver()
        together.deliver()
        #expect(apart[1].committedIndex == together[1].committedIndex && together[1].committedIndex == 5)
        for group in [apart, together] {
            #expect(group[2].lastIndex == 5 && group[2].stateDigest == apart[2].stateDigest)
        }
    }

    @Test("of acknowledgements the last says all, also if it was overtaken")
    func acknowledgements() {
        var first = message(.appended(epoch: 4, through: 20, committed: 11))
        let isOne = first.absorb(message(.appended(epoch: 4, through: 18, committed: 15)))
        #expect(isOne)
        guard case .replication(_, _, _, .appended(4, through: 20, committed: 15)) = first else {
            return #expect(Bool(false), "\(first)")
        }
    }

    @Test("others stay as they are")
    func apart() {
        let pairs: [(NodeMessage, NodeMessage)] = [
            (message(append(after: 10, 2)), message(append(after: 13, 1))),
            (message(append(after: 11, 2)), message(append(after: 13, 1, epoch: 5))),
            (message(append(after: 10, 2)), message(append(after: 12, 1), partition: 4)),
            (message(append(after: 10, 2)), message(append(after: 12, 1), to: 3)),
            (message(append(after: 10, 40)), message(append(after: 50, 40))),
            (message(append(after: 10, 1, bytes: 40_000)), message(append(after: 11, 1, bytes: 40_000))),
            (message(append(after: 10, 1)), message(.appended(epoch: 4, through: 1, committed: 1))),
            (
                message(.appended(epoch: 4, through: 1, committed: 1)),
                message(.appended(epoch: 5, through: 2, committed: 1))
            ),
            (message(.stale(epoch: 4)), message(.stale(epoch: 4))),
            (.control(.pull(have: 1)), .control(.pull(have: 1))),
        ]
        for (first, second) in pairs {
            var merged = first
            let isOne = merged.absorb(second)
            #expect(!isOne, "\(first) \(second)")
        }
    }
}
