// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Partition log")
struct PartitionLogTests {
    private let session = SessionID(generation: 1, counter: 0)

    @Test("entries have an epoch and an index without gaps, and are handed out once, in order, when committed")
    func order() {
        var log = PartitionLog(epoch: 4)
        log.passThrough(time: .zero)
        for attempts in 1...3 {
            let operation = PartitionOperation.failed(session, sequences(0, 1), attempts: attempts)
            log.append(operation, time: milliseconds(UInt64(attempts)), local: PartitionLog.Local(reply: 7))
        }
        #expect(log.last == 4 && log.committed == 1 && log.takeCommitted() == nil)
        log.commit(through: 3)
        let taken = [log.takeCommitted(), log.takeCommitted()].compactMap { $0 }
        #expect(taken.map(\.entry.index) == [2, 3] && taken.allSatisfy { $0.entry.epoch == 4 })
        #expect(taken.map(\.entry.time) == [milliseconds(1), milliseconds(2)])
        #expect(taken.allSatisfy { $0.local.reply == 7 })
        #expect(log.takeCommitted() == nil && log.applied == 3)
        log.commit(through: 4)
        #expect(log.takeCommitted()?.entry.index == 4)
    }

    @Test("every change of a partition has an index in its log; refusals and reads have none")
    func indices() {
        var partition = Partition()
        #expect(partition.replica.log.last == 1, "the epoch comes first")
        let session = partition.open()
        _ = partition.submit(session, 0, 4)
        _ = partition.complete(session, 0, 4)
        #expect(partition.replica.log.last == 4)
        _ = partition.submit(session, 9, 1)
        _ = partition.submit(session, 0, 4)
        _ = partition.attach(session)
        _ = partition.complete(session, 0, 4)
        #expect(partition.replica.log.last == 4 && partition.replica.log.applied == 4)
    }
}
