// Flockwork · Apache-2.0 · see LICENSE

// What a node's shell keeps between its partitions and its disk: the log, and which epochs the entries in it are of.
// The live node and the simulator drive this same value, each with a disk of its own.

public import FlockWire

/// How far a partition's log is on the disk.
public struct KeptEntries: Sendable, Hashable {
    /// Which partition.
    public var partition: PartitionID
    /// The last of the entries that are on the disk.
    public var through: UInt64
    /// The epoch of that entry: what was written for one that is gone must not count for another in its place.
    public var epoch: UInt64

    /// Entries on the disk.
    public init(_ partition: PartitionID, through: UInt64, epoch: UInt64) {
        self.partition = partition
        self.through = through
        self.epoch = epoch
    }
}

/// What the shell does for a node's log, in order.
package enum NodeLogDirective: Sendable {
    /// As `WALDirective.flush`.
    case flush(segment: UInt64, offset: Int, Bytes)
    /// These are on the disk: tell the node.
    case kept([KeptEntries])
    /// Ask the node for a snapshot of the partition.
    case wantSnapshot(PartitionID)
    /// Delete that segment's file.
    case remove(segment: UInt64)
    /// The disk failed; nothing is persisted any more.
    case failed
}

/// The write-ahead log of a node's durable partitions, without the disk.
package struct NodeLog: Sendable {
    private var log: WriteAheadLog
    private var epochs = PersistedEpochs()
    private var directives: [WALDirective] = []

    /// The log that goes on after `recovery`, which must not be damaged.
    package init(
        after recovery: WALRecovery, configuration: WriteAheadLog.Configuration = .init(), limits: Limits,
        rules: Rules = .all
    ) {
        log = WriteAheadLog(after: recovery, configuration: configuration, limits: limits, rules: rules)
        for partition in recovery.partitions { epochs.recovered(partition) }
    }

    /// Whether records wait that `turn` would write.
    package var isWaiting: Bool { log.isWaiting }

    /// Whether the disk failed.
    package var isFailed: Bool { log.isFailed }

    /// Partitions that the log has something of, ascending.
    package var partitions: [PartitionID] { epochs.known }

    /// Entries of a partition, over what was written from `first` on.
    package mutating func append(
        _ partition: PartitionID, first: UInt64, _ entries: [LogEntry], out: inout [NodeLogDirective]
    ) {
        if epochs.last(of: partition) >= first { step(.truncate(partition, after: first - 1), out: &out) }
        step(.append(partition, entries), out: &out)
    }

    /// Handles one event and appends what is to be done.
    package mutating func step(_ event: WALEvent, out: inout [NodeLogDirective]) {
        epochs.note(event)
        log.step(event, out: &directives)
        var kept: [KeptEntries] = []
        for directive in directives {
            switch directive {
            case .flush(let segment, let offset, let bytes):
                out.append(.flush(segment: segment, offset: offset, bytes))
            case .persisted(let partition, let index):
                // Of a copy that was dropped since, nobody waits to hear.
                guard let epoch = epochs.persisted(partition, through: index) else { continue }
                kept.append(KeptEntries(partition, through: index, epoch: epoch))
            case .wantSnapshot(let partition): out.append(.wantSnapshot(partition))
            case .remove(let segment): out.append(.remove(segment: segment))
            case .failed: out.append(.failed)
            }
        }
        directives.removeAll(keepingCapacity: true)
        if !kept.isEmpty { out.append(.kept(kept)) }
    }
}

/// A copy of a partition as a node finds it on its disk when it starts.
package struct RecoveredCopy: Sendable {
    package let partition: PartitionID
    /// How often the partition lost everything before this copy began.
    package let generation: UInt16
    /// The state that its log begins after; empty if it begins at its first entry.
    package let snapshot: [SnapshotPart]
    /// What follows, without gaps.
    package let entries: [LogEntry]

    /// What the log has of a partition. Throws if its snapshot cannot be read: then nothing in that log can be trusted.
    package init(_ found: RecoveredPartition, limits: Limits) throws(WireError) {
        partition = found.partition
        generation = found.generation
        entries = found.entries
        snapshot = if let bytes = found.snapshot?.bytes { try SnapshotPart.decoded(bytes, limits: limits) } else { [] }
    }
}
