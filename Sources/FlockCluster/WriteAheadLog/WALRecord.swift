// Flockwork · Apache-2.0 · see LICENSE

// The records of the write-ahead log. Each carries its own position and the run of the process that wrote it, under its
// checksum: a record that lies elsewhere than it was written, or that an earlier run left behind a torn tail, is no
// record.

public import FlockWire

/// What one record of the log says.
public enum WALRecord: Sendable {
    /// The partition's log has this entry.
    case entry(PartitionID, LogEntry)
    /// The partition's entries after `index` are gone; they were never committed.
    case truncated(PartitionID, after: UInt64)
    /// All that the partition has; earlier records of the partition are not needed.
    case snapshot(PartitionID, WALSnapshot)
    /// The node has no copy of the partition any more. What follows is of a copy of that generation.
    case dropped(PartitionID, generation: UInt16)
    /// A flush begins; everything below `synced` was on the disk before it.
    case flush(synced: UInt64)
}

/// A partition's state and what its log has beyond it, in one record: torn in two, one half would be of no use.
public struct WALSnapshot: Sendable {
    /// The last entry that `state` includes.
    public var through: UInt64
    /// The epoch of that entry.
    public var epoch: UInt64
    /// How often the partition lost everything before.
    public var generation: UInt16
    /// The derived state, encoded.
    public var state: Bytes
    /// The entries after `through`, without gaps.
    public var tail: [LogEntry]

    /// A snapshot at an entry.
    public init(through: UInt64, epoch: UInt64, generation: UInt16, state: Bytes, tail: [LogEntry] = []) {
        self.through = through
        self.epoch = epoch
        self.generation = generation
        self.state = state
        self.tail = tail
    }

    /// Index of the last entry.
    var last: UInt64 { tail.last?.index ?? through }
}

extension WALRecord {
    /// Bytes before the body: length and checksum (u32 each), position (u64), run (u32), kind (u8), partition (u16).
    static let headerBytes = 24

    private var kind: UInt8 {
        switch self {
        case .entry: 1
        case .truncated: 2
        case .snapshot: 3
        case .dropped: 4
        case .flush: 5
        }
    }

    /// Partition 0 for a flush, which is of none and never waits.
    var partition: PartitionID {
        switch self {
        case .entry(let partition, _), .truncated(let partition, _), .snapshot(let partition, _),
            .dropped(let partition, _):
            partition
        case .flush: PartitionID(0)
        }
    }

    /// Appends the record, whose first byte lies at `position` of the log, to a writer that is at a multiple of 8.
    func write(to writer: inout ByteWriter, position: UInt64, run: UInt32, limits: Limits) {
        let start = writer.count
        precondition(start % 8 == 0, "a record at byte \(start) of its flush")
        writer.write(UInt32(0))
        writer.write(UInt32(0))
        writer.write(position)
        writer.write(run)
        writer.write(kind)
        writer.write(UInt8(0))
        writer.write(partition.rawValue)
        switch self {
        case .entry(_, let entry): entry.write(to: &writer, limits: limits)
        case .truncated(_, let index): writer.write(index)
        case .snapshot(_, let snapshot):
            writer.write(snapshot.through)
            writer.write(snapshot.epoch)
            writer.write(UInt64(snapshot.generation))
            writer.write(UInt64(snapshot.state.count))
            writer.write(UInt64(snapshot.tail.count))
            writer.write(snapshot.state)
            for entry in snapshot.tail { entry.write(to: &writer, limits: limits) }
        case .dropped(_, let generation): writer.write(UInt64(generation))
        case .flush(let synced): writer.write(synced)
        }
        writer.align(to: 8)
        let length = UInt32(writer.count - start)
        writer.patch(length, at: start)
        writer.patch(writer.checksum(from: start + 8), at: start + 4)
    }

    /// The record at `offset` of a segment and its length; nil if there is none that was written there, whole, by `run`
    /// or a later one.
    static func read(
        _ bytes: Bytes, at offset: Int, position: UInt64, run: inout UInt32, limits: Limits
    ) -> (record: WALRecord, length: Int)? {
        do throws(WireError) {
            var header = ByteReader(bytes.slice(from: offset, count: bytes.count - offset))
            let length: UInt32 = try header.read()
            let crc: UInt32 = try header.read()
            guard length >= headerBytes, length % 8 == 0, Int(length) <= bytes.count - offset else { return nil }
            let whole = bytes.slice(from: offset + 8, count: Int(length) - 8)
            guard whole.withUnsafeBytes({ CRC32C.checksum(of: $0) }) == crc else { return nil }
            let at: UInt64 = try header.read()
            let writer: UInt32 = try header.read()
            guard at == position, writer >= run else { return nil }
            let record = try body(&header, within: Int(length), limits: limits)
            run = writer
            return (record, Int(length))
        } catch {
            return nil
        }
    }

    private static func body(
        _ header: inout ByteReader, within length: Int, limits: Limits
    ) throws(WireError) -> WALRecord {
        let kind: UInt8 = try header.read()
        _ = try header.read(UInt8.self)
        let partition = PartitionID(rawValue: try header.read())
        var body = ByteReader(try header.readBytes(length - headerBytes))
        switch kind {
        case 1: return .entry(partition, try LogEntry(from: &body, limits: limits))
        case 2: return .truncated(partition, after: try body.read())
        case 3: return .snapshot(partition, try snapshot(&body, limits: limits))
        case 4: return .dropped(partition, generation: UInt16(truncatingIfNeeded: try body.read(UInt64.self)))
        case 5: return .flush(synced: try body.read())
        default: throw .malformed("kind of a record")
        }
    }

    private static func snapshot(_ body: inout ByteReader, limits: Limits) throws(WireError) -> WALSnapshot {
        let through: UInt64 = try body.read()
        let epoch: UInt64 = try body.read()
        let generation = UInt16(truncatingIfNeeded: try body.read(UInt64.self))
        let bytes: UInt64 = try body.read()
        let entries: UInt64 = try body.read()
        guard bytes <= UInt64(body.remaining), entries <= UInt64(body.remaining) else { throw .truncated }
        var snapshot = WALSnapshot(
            through: through, epoch: epoch, generation: generation, state: try body.readBytes(Int(bytes)))
        for index in 0..<entries {
            let entry = try LogEntry(from: &body, limits: limits)
            guard entry.index == through + 1 + index else { throw .malformed("tail of a snapshot") }
            snapshot.tail.append(entry)
        }
        return snapshot
    }
}

extension ByteWriter {
    /// The checksum of what was written from `start` on.
    fileprivate borrowing func checksum(from start: Int) -> UInt32 {
        withWritten { CRC32C.checksum(of: UnsafeRawBufferPointer(rebasing: $0[start...])) }
    }
}
