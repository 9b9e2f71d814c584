// Flockwork · Apache-2.0 · see LICENSE

// What a node finds on its disk when it starts. A bad record ends the log. If nothing says that it had been synced, it
// is the torn tail of a flush that nobody was told of, and is cut off. If a later flush or segment says that it had
// been synced, others rely on what is lost: then no copy on this log may be trusted, and all start as learners.

public import FlockWire

/// A partition as the log has it.
public struct RecoveredPartition: Sendable {
    /// Which one.
    public let partition: PartitionID
    /// How often the partition lost everything before this copy began.
    public internal(set) var generation: UInt16 = 0
    /// The newest snapshot, if there is one.
    public internal(set) var snapshot: (through: UInt64, epoch: UInt64, bytes: Bytes)?
    /// The entries after the snapshot (after none, from index 1), without gaps.
    public internal(set) var entries: [LogEntry] = []

    /// Index of its last entry; 0 for none.
    public var lastIndex: UInt64 { entries.last?.index ?? snapshot?.through ?? 0 }
    /// Epoch of its last entry; 0 for none.
    public var lastEpoch: UInt64 { entries.last?.epoch ?? snapshot?.epoch ?? 0 }
}

/// The content of a log's segments.
public struct WALRecovery: Sendable {
    /// How the log ended.
    public enum Verdict: Sendable, Equatable {
        /// There was none.
        case empty
        /// With its last record.
        case intact
        /// With a flush that was not synced, or not whole; cut off at that position.
        case torn(at: UInt64)
        /// Something that had been synced is not readable. Throw the replicas away.
        case damaged(at: UInt64)

        /// Whether no copy on this log may be trusted.
        public var isDamaged: Bool { if case .damaged = self { true } else { false } }
    }

    /// How it ended.
    public private(set) var verdict: Verdict
    /// The log's number; the new one if there was none.
    public private(set) var log: UInt64
    /// The partitions, ascending. Empty when damaged.
    public private(set) var partitions: [RecoveredPartition] = []
    /// First positions of the segments to keep, ascending. Others are to be deleted.
    public private(set) var segments: [UInt64] = []
    /// Position after the last good record.
    public private(set) var end: UInt64 = 0
    /// The highest run of a process that wrote to it.
    private(set) var run: UInt32 = 0
    private(set) var bases = WALBases()
    // Whether segments before the first one were deleted.
    private var hasLostSegments = false

    /// Reads segments, given with the first positions that their names say. `fresh` is the number of a new log, drawn
    /// at random by the shell.
    public init(segments files: [(first: UInt64, bytes: Bytes)], fresh: UInt64, limits: Limits) {
        log = fresh
        verdict = .empty
        let files = files.sorted { $0.first < $1.first }
        guard let first = files.first else { return }
        verdict = .intact
        end = first.first
        hasLostSegments = first.first > 0
        for (place, file) in files.enumerated() {
            let isLast = place + 1 == files.count
            let stop = isLast ? UInt64.max : files[place + 1].first
            guard read(file, through: stop, isFirst: place == 0, limits: limits) else { break }
        }
        if verdict.isDamaged {
            partitions = []
            segments = []
        }
    }

    /// Reads one segment up to `stop`. False when the log ends in it.
    private mutating func read(
        _ file: (first: UInt64, bytes: Bytes), through stop: UInt64, isFirst: Bool, limits: Limits
    ) -> Bool {
        guard file.first == end, let head = WALSegment(file.bytes), head.first == file.first,
            isFirst || head.log == log
        else {
            stopped(file, from: WALSegment.headerBytes, stop: stop, limits: limits)
            return false
        }
        log = head.log
        segments.append(file.first)
        while end < stop {
            let offset = head.offset(of: end)
            if offset == file.bytes.count && stop == .max { return true }
            guard offset < file.bytes.count,
                let (record, length) = WALRecord.read(
                    file.bytes, at: offset, position: end, run: &run, limits: limits),
                take(record)
            else {
                stopped(file, from: offset, stop: stop, limits: limits)
                return false
            }
            end += UInt64(length)
        }
        return true
    }

    /// The log cannot be read on from `end`: is that a torn tail or damage?
    private mutating func stopped(
        _ file: (first: UInt64, bytes: Bytes), from offset: Int, stop: UInt64, limits: Limits
    ) {
        // A segment is begun only when the one before is synced as a whole.
        let isVouched = stop != .max || Self.vouches(file, from: offset, for: end, limits: limits)
        verdict = isVouched ? .damaged(at: end) : .torn(at: end)
    }

    /// Whether a flush after the bad place says that the log was synced beyond `position`.
    private static func vouches(
        _ file: (first: UInt64, bytes: Bytes), from offset: Int, for position: UInt64, limits: Limits
    ) -> Bool {
        var at = (max(offset, WALSegment.headerBytes) + 7) / 8 * 8
        while at + WALRecord.headerBytes <= file.bytes.count {
            let place = file.first + UInt64(at - WALSegment.headerBytes)
            var run: UInt32 = 0
            if case .flush(let synced)? = WALRecord.read(
                file.bytes, at: at, position: place, run: &run, limits: limits)?.record, synced > position
            {
                return true
            }
            at += 8
        }
        return false
    }

    /// Adds a record; false if it does not fit what came before, which no writer does.
    private mutating func take(_ record: WALRecord) -> Bool {
        switch record {
        case .flush: return true
        case .entry(let partition, let entry):
            // Its beginning went with a segment that is no longer needed: a newer snapshot follows.
            if bases[partition] == nil && entry.index > 1 && hasLostSegments { return true }
            let place = place(of: partition)
            guard entry.index == partitions[place].lastIndex + 1 else { return false }
            if bases[partition] == nil { bases[partition] = end }
            partitions[place].entries.append(entry)
        case .truncated(let partition, let index):
            if bases[partition] == nil && hasLostSegments { return true }
            let place = place(of: partition)
            guard index >= partitions[place].snapshot?.through ?? 0 else { return false }
            while let last = partitions[place].entries.last, last.index > index {
                partitions[place].entries.removeLast()
            }
        case .snapshot(let partition, let snapshot):
            let place = place(of: partition)
            partitions[place].snapshot = (snapshot.through, snapshot.epoch, snapshot.state.unpinned())
            partitions[place].generation = snapshot.generation
            partitions[place].entries = snapshot.tail
            bases[partition] = end
        case .dropped(let partition, let generation):
            partitions.removeAll { $0.partition == partition }
            bases[partition] = generation > 0 ? end : nil
            if generation > 0 { partitions[place(of: partition)].generation = generation }
        }
        return true
    }

    /// The partition's place in `partitions`, where it is made if it is not there.
    private mutating func place(of partition: PartitionID) -> Int {
        let place = partitions.firstIndex { $0.partition >= partition } ?? partitions.count
        if place == partitions.count || partitions[place].partition != partition {
            partitions.insert(RecoveredPartition(partition: partition), at: place)
        }
        return place
    }
}
