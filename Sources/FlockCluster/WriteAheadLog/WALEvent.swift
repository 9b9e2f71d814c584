// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What happens to the log.
public enum WALEvent: Sendable {
    /// The partition's log got these entries.
    case append(PartitionID, [LogEntry])
    /// The partition's entries after `index` were never committed and are gone.
    case truncate(PartitionID, after: UInt64)
    /// All that the partition has, asked for or not: records before it are no longer needed.
    case snapshot(PartitionID, WALSnapshot)
    /// The node has no copy of the partition any more. One that comes after it is of that generation.
    case drop(PartitionID, generation: UInt16)
    /// The end of a turn: what is waiting may be written.
    case turn
    /// Nothing was written for a while: the last flush gets a successor that says that it was synced.
    case idle
    /// The flush that was under way is on the disk. What waits goes out at the end of the turn, together with what
    /// comes of this.
    case flushed
    /// The disk refused it. Nothing after it may be believed, so that the log never writes again.
    case failed
}

/// What the shell does for the log, in order.
public enum WALDirective: Sendable {
    /// Write these bytes at `offset` of the segment whose first position that is, then sync its data. At offset 0 make
    /// the file and sync its folder as well. Answer: `flushed` or `failed`. Only one is under way at a time.
    case flush(segment: UInt64, offset: Int, Bytes)
    /// The partition's entries through `index` are on the disk.
    case persisted(PartitionID, through: UInt64)
    /// Send a snapshot of the partition: its oldest record keeps a segment that would otherwise go.
    case wantSnapshot(PartitionID)
    /// Nothing in this segment is needed any more: delete the file.
    case remove(segment: UInt64)
    /// The disk failed: copies on this node are no longer durable and must not acknowledge anything.
    case failed
}
