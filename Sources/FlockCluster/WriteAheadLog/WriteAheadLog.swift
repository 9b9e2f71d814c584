// Flockwork · Apache-2.0 · see LICENSE

// One log for all durable partitions of a node. What comes in while the disk is busy goes out with the next flush, so
// that one fdatasync serves all partitions (group commit). Nothing is called persisted before its flush is synced, and
// each flush first says how far the log was synced: after a crash that tells a torn tail, which nobody relied on, from
// damage to what others rely on.

internal import DequeModule
public import FlockWire

/// The write-ahead log of a node, without the disk.
public struct WriteAheadLog: Sendable {
    /// What becomes true when the flush under way is on the disk.
    private struct Flush {
        var end: UInt64 = 0
        var persisted: [(partition: PartitionID, index: UInt64)] = []
        var bases: [(partition: PartitionID, position: UInt64?)] = []

        mutating func raise(_ partition: PartitionID, to index: UInt64) {
            if let place = persisted.firstIndex(where: { $0.partition == partition }) {
                persisted[place].index = index
            } else {
                persisted.append((partition, index))
            }
        }

        mutating func lower(_ partition: PartitionID, to index: UInt64) {
            guard let place = persisted.firstIndex(where: { $0.partition == partition }) else { return }
            persisted[place].index = min(persisted[place].index, index)
        }
    }

    private let log: UInt64
    private let run: UInt32
    private let configuration: Configuration
    private let limits: Limits
    private let rules: Rules

    private var waiting: Deque<WALRecord> = []
    private var flying: Flush?
    // Whether the newest flush holds records that no later flush vouches for.
    private var isUnvouched = false
    // First positions, ascending; the last one is written to.
    private var segments: Deque<UInt64>
    private var mustBegin: Bool
    private var bases: WALBases
    /// Position of the next record.
    public private(set) var next: UInt64
    /// Everything below is on the disk.
    public private(set) var synced: UInt64
    /// Whether the disk failed.
    public private(set) var isFailed = false

    /// How large files become and how many are kept.
    public struct Configuration: Sendable {
        /// Bytes after which a new segment is begun.
        public var segmentBytes = 64 << 20
        /// Segments above which snapshots are asked for, so that the oldest can go.
        public var segments = 4
        /// Bytes of records that one flush takes.
        public var flushBytes = 4 << 20
        /// The defaults.
        public init() {}
    }

    /// The log that goes on after `recovery`, which must not be damaged. It begins a segment of its own.
    public init(after recovery: WALRecovery, configuration: Configuration = Configuration(), limits: Limits) {
        self.init(after: recovery, configuration: configuration, limits: limits, rules: .all)
    }

    package init(after recovery: WALRecovery, configuration: Configuration, limits: Limits, rules: Rules) {
        precondition(!recovery.verdict.isDamaged, "a log goes on after \(recovery.verdict)")
        log = recovery.log
        run = recovery.run + 1
        self.configuration = configuration
        self.limits = limits
        self.rules = rules
        segments = Deque(recovery.segments)
        mustBegin = true
        bases = recovery.bases
        next = recovery.end
        synced = recovery.end
    }

    /// Whether records wait that `turn` would write.
    public var isWaiting: Bool { !waiting.isEmpty }

    /// Handles one event and appends what is to be done.
    public mutating func step(_ event: WALEvent, out: inout [WALDirective]) {
        guard !isFailed else { return }
        switch event {
        case .append(let partition, let entries): for entry in entries { waiting.append(.entry(partition, entry)) }
        case .truncate(let partition, let index):
            forget(partition, after: index)
            waiting.append(.truncated(partition, after: index))
        case .snapshot(let partition, let snapshot): waiting.append(.snapshot(partition, snapshot))
        case .drop(let partition, let generation):
            // What is under way was of the old copy; a new one begins again at index 1.
            flying?.persisted.removeAll { $0.partition == partition }
            waiting.removeAll { $0.partition == partition }
            waiting.append(.dropped(partition, generation: generation))
        case .turn: if !waiting.isEmpty { flush(out: &out) }
        case .idle: if waiting.isEmpty && isUnvouched { flush(out: &out) }
        case .flushed: flushed(out: &out)
        case .failed:
            isFailed = true
            waiting.removeAll()
            out.append(.failed)
        }
    }

    /// An entry that is written again under the same index must not be called persisted by the flush of the old one.
    private mutating func forget(_ partition: PartitionID, after index: UInt64) {
        flying?.lower(partition, to: index)
        waiting.removeAll {
            guard case .entry(partition, let entry) = $0 else { return false }
            return entry.index > index
        }
        for place in waiting.indices {
            guard case .snapshot(partition, var snapshot) = waiting[place], snapshot.last > index else { continue }
            snapshot.tail.removeAll { $0.index > index }
            waiting[place] = .snapshot(partition, snapshot)
        }
    }

    private mutating func flush(out: inout [WALDirective]) {
        guard flying == nil else { return }
        var writer = ByteWriter(capacity: 4096)
        let isFull = segments.last.map { next - $0 >= UInt64(configuration.segmentBytes) } ?? true
        if mustBegin || isFull {
            mustBegin = false
            if segments.last != next { segments.append(next) }
            WALSegment(log: log, first: next).write(to: &writer)
        }
        guard let segment = segments.last else { preconditionFailure("a flush without a segment") }
        let head = writer.count
        let offset = head > 0 ? 0 : WALSegment(log: log, first: segment).offset(of: next)
        let start = next
        write(.flush(synced: synced), to: &writer, at: start + UInt64(writer.count - head))
        var flush = Flush()
        isUnvouched = !waiting.isEmpty
        while let record = waiting.first, writer.count < configuration.flushBytes {
            waiting.removeFirst()
            let position = start + UInt64(writer.count - head)
            write(record, to: &writer, at: position)
            note(record, at: position, in: &flush)
        }
        next = start + UInt64(writer.count - head)
        flush.end = next
        flying = flush
        out.append(.flush(segment: segment, offset: offset, writer.finish()))
        if !rules.syncsBeforeAck { report(out: &out) }
    }

    private func write(_ record: WALRecord, to writer: inout ByteWriter, at position: UInt64) {
        record.write(to: &writer, position: position, run: run, limits: limits)
    }

    private func note(_ record: WALRecord, at position: UInt64, in flush: inout Flush) {
        switch record {
        case .entry(let partition, let entry):
            flush.raise(partition, to: entry.index)
            let noted = flush.bases.last { $0.partition == partition }
            if noted.map({ $0.position == nil }) ?? (bases[partition] == nil) {
                flush.bases.append((partition, position))
            }
        case .truncated(let partition, let index): flush.lower(partition, to: index)
        case .snapshot(let partition, let snapshot):
            flush.raise(partition, to: snapshot.last)
            flush.bases.append((partition, position))
        case .dropped(let partition, let generation):
            flush.persisted.removeAll { $0.partition == partition }
            // That a copy is of a later generation must stay known as long as there is one.
            flush.bases.append((partition, generation > 0 ? position : nil))
        case .flush: break
        }
    }

    private mutating func flushed(out: inout [WALDirective]) {
        guard let flight = flying else { preconditionFailure("a flush ended that was not under way") }
        if rules.syncsBeforeAck { report(out: &out) }
        flying = nil
        synced = flight.end
        for base in flight.bases { bases[base.partition] = base.position }
        compact(out: &out)
    }

    private func report(out: inout [WALDirective]) {
        for done in flying?.persisted ?? [] { out.append(.persisted(done.partition, through: done.index)) }
    }

    /// Deletes the oldest segments while no partition needs them, and asks those that do for a snapshot.
    private mutating func compact(out: inout [WALDirective]) {
        while segments.count > configuration.segments {
            let keepers = bases.partitions(before: segments[1])
            guard keepers.isEmpty else {
                for partition in keepers where bases.want(partition) { out.append(.wantSnapshot(partition)) }
                return
            }
            out.append(.remove(segment: segments.removeFirst()))
        }
    }
}
