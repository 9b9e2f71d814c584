// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockCluster

@Suite("Log entries as bytes")
struct LogEntryCodingTests {
    @Test("each kind of entry is read back as it was written", arguments: 1...40 as ClosedRange<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for kind in 0..<EntrySamples.kinds {
            let entry = EntrySamples.entry(kind: kind, index: 1 + random.next() % 1000, &random)
            let bytes = encoded(entry)
            var reader = ByteReader(bytes)
            let read = try LogEntry(from: &reader, limits: Limits())
            #expect(reader.isAtEnd, "seed \(seed), kind \(kind)")
            #expect(encoded(read) == bytes, "seed \(seed), kind \(kind)")
            #expect(String(describing: read.operation).prefix(12) == String(describing: entry.operation).prefix(12))
            #expect(read.index == entry.index && read.epoch == entry.epoch && read.time == entry.time)
        }
    }

    @Test("an entry that is cut off at any byte is an error")
    func truncated() {
        var random = SeededRandom(seed: 7)
        for kind in 0..<EntrySamples.kinds {
            let bytes = encoded(EntrySamples.entry(kind: kind, index: 5, &random))
            for count in 0..<bytes.count {
                // Padding at the end may be missing from what the reader needs, never from what the writer wrote.
                #expect(throws: WireError.self) {
                    var reader = ByteReader(bytes.slice(from: 0, count: count))
                    _ = try LogEntry(from: &reader, limits: Limits())
                }
            }
        }
    }

    @Test("a damaged entry is an error, or one that can be written and read again; never a trap")
    func damaged() {
        var random = SeededRandom(seed: 8)
        var refused = 0
        for round in 0..<3000 {
            var bytes = encoded(EntrySamples.entry(kind: round % EntrySamples.kinds, index: 5, &random)).array
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            var reader = ByteReader(Bytes(bytes))
            do {
                var again = ByteReader(encoded(try LogEntry(from: &reader, limits: Limits())))
                #expect(throws: Never.self, "round \(round)") { _ = try LogEntry(from: &again, limits: Limits()) }
            } catch { refused += 1 }
        }
        #expect(refused > 300)
    }

    private func encoded(_ entry: LogEntry) -> Bytes {
        var writer = ByteWriter()
        entry.write(to: &writer, limits: Limits())
        return writer.finish()
    }
}

/// Random log entries, one kind after the other.
enum EntrySamples {
    static let kinds = 10

    static func entry(kind: Int, index: UInt64, epoch: UInt64 = 3, _ random: inout SeededRandom) -> LogEntry {
        LogEntry(
            epoch: epoch, index: index, time: Tick(nanoseconds: random.next()), operation: operation(kind, &random))
    }

    static func operation(_ kind: Int, _ random: inout SeededRandom) -> PartitionOperation {
        let id = SessionID(rawValue: random.next())
        let count = Int.random(in: 1...20, using: &random)
        let run = sequences(random.next() >> 8, count)
        let trace = TraceContext(
            traceHigh: random.next(), traceLow: random.next(), spanID: random.next() | 1,
            flags: UInt8(random.next() & 1))
        switch kind {
        case 0: return .epoch(random.next())
        case 1:
            return .openSession(
                id, pipeline: UInt32(random.next() >> 32), secret: SessionSecret(random.next(), random.next()),
                window: count)
        case 2: return .closeSession(id)
        case 3: return .accept(id, AcceptRun(sequences: run, items: items(count)), timeToLive: random.next())
        case 4:
            let lengths = (0..<count).map { _ in Int.random(in: 0...40, using: &random) }
            let variable = try? items(lengths: lengths)
            let deadline = Duration.nanoseconds(Int64(random.next() >> 20))
            return .accept(
                id, AcceptRun(sequences: run, items: variable ?? .empty, deadline: deadline, trace: trace),
                timeToLive: 1)
        case 5: return .completed(id, OutcomeRun(sequences: run, outcome: .values(items(count), filtered: nil)))
        case 6:
            let error = FlockError(.stageFailed, "it broke", stage: "s", node: "n", retryAfter: .milliseconds(3))
            return .completed(id, OutcomeRun(sequences: run, outcome: .failed(error)))
        case 7: return .failed(id, run, attempts: count)
        case 8: return .acked(id, [run, sequences(run.end + 5, 3)], lowestOpen: run.first)
        default: return .expired(id, run)
        }
    }
}
