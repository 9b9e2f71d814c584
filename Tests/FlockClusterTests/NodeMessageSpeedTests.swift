// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

// What an accepted run costs on its way to a replica. A debug build only checks that it arrives; a release build
// measures, and prints what it found.

@Suite("Speed of messages between nodes", .serialized)
struct NodeMessageSpeedTests {
    #if DEBUG
    private static let rounds = 20
    #else
    private static let rounds = 20_000
    #endif

    @Test("a run of 256 rows of 64 bytes is written and read in two microseconds", arguments: [1, 8])
    func speed(runs: Int) throws {
        var best = Duration.seconds(3600)
        for _ in 0..<3 { best = min(best, try measure(runs: runs)) }
        let cost = Double(best.clampedNanoseconds) / Double(Self.rounds * runs)
        print("replication: \(runs) runs of 256 x 64 B a message, \(cost) ns a run written and read")
        #if !DEBUG
        #expect(cost < 2000, "nanoseconds a run")
        #endif
    }

    /// Writes messages into a buffer that is used again, as a stream does, and reads them where they were received.
    private func measure(runs: Int) throws -> Duration {
        let limits = Limits()
        let payload = ItemBuffer(fixed: Bytes(count: 256 * 64) { _ in }, stride: 64, count: 256)
        let entries = (0..<runs).map { place in
            let run = AcceptRun(sequences: sequences(UInt64(place) * 256, 256), items: payload, deadline: .seconds(1))
            return LogEntry(
                epoch: 1, index: UInt64(place) + 1, time: .zero,
                operation: .accept(SessionID(rawValue: 1), run, timeToLive: 1))
        }
        let append = ReplicationAppend(
            epoch: 1, previousIndex: 0, previousEpoch: 0, commit: 0, held: 0, entries: entries)
        let message = NodeMessage.replication(
            from: MemberNumber(rawValue: 1), to: MemberNumber(rawValue: 2), PartitionID(0), .append(append))
        var writer = ByteWriter(capacity: 512 << 10)
        message.write(to: &writer, limits: limits)
        // As in a stream, the frame lies somewhere in a read buffer of the usual size.
        let frame = Bytes(count: max(limits.readBufferBytes, writer.count)) { target in
            writer.withWritten { target.copyMemory(from: $0) }
        }.slice(from: 0, count: writer.count)
        var items = 0
        let start = ContinuousClock.now
        for _ in 0..<Self.rounds {
            writer.truncate(to: 0)
            message.write(to: &writer, limits: limits)
            var reader = ByteReader(frame)
            guard case .replication(_, _, _, .append(let read)) = try NodeMessage(from: &reader, limits: limits) else {
                continue
            }
            for entry in read.entries {
                if case .accept(_, let run, _) = entry.operation { items += run.items.count }
            }
        }
        let time = ContinuousClock.now - start
        #expect(items == Self.rounds * runs * 256)
        return time
    }
}
