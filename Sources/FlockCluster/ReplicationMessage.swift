// Flockwork · Apache-2.0 · see LICENSE

// What replicas of a partition tell each other. Each message has the epoch in which it was sent and counts in that
// epoch only. All of them may be lost, doubled and overtaken: acknowledgements are cumulative and what is missing is
// sent again.

internal import FlockWire

/// A message between two replicas of one partition.
public enum ReplicationMessage: Sendable {
    /// The primary's entries after one that the receiver should have.
    case append(ReplicationAppend)
    /// The receiver's log equals the primary's up to and including `through` (and has it on disk in a durable group),
    /// and it knows that the entries up to `committed` are committed.
    case appended(epoch: UInt64, through: UInt64, committed: UInt64)
    /// The receiver lacks the entry before those appended, or it just learnt of the epoch: its last entry, and what
    /// is known to be committed. Acknowledges nothing.
    case mismatch(epoch: UInt64, committed: UInt64, last: UInt64, lastEpoch: UInt64)
    /// A part of the state, for a replica whose log ends before the primary's begins.
    indirect case snapshot(SnapshotPart)
    /// The first `parts` parts of the snapshot at `index` arrived.
    case received(epoch: UInt64, index: UInt64, parts: Int)
    /// The sender of an append is in an epoch that ended: this is the one that the receiver has installed.
    case stale(epoch: UInt64)

    /// The epoch that it was sent in.
    public var epoch: UInt64 {
        switch self {
        case .append(let append): append.epoch
        case .appended(let epoch, _, _), .mismatch(let epoch, _, _, _), .received(let epoch, _, _),
            .stale(let epoch):
            epoch
        case .snapshot(let part): part.epoch
        }
    }

    /// Bytes that it takes on the wire, about.
    public var encodedSize: Int {
        switch self {
        case .append(let append): append.entries.reduce(44) { $0 + $1.encodedSize }
        case .appended, .received: 26
        case .mismatch: 36
        case .snapshot(let part): part.encodedSize
        case .stale: 10
        }
    }
}

/// Entries of the primary's log, contiguous.
public struct ReplicationAppend: Sendable {
    /// The primary's epoch.
    public var epoch: UInt64
    /// The index before the first of `entries`, and the epoch of the entry there.
    public var previousIndex: UInt64
    public var previousEpoch: UInt64
    /// What the primary has committed.
    public var commit: UInt64
    /// Every replica has, and knows as committed, the entries up to here: they may go.
    public var held: UInt64
    /// None if there is only a commit index to tell.
    public var entries: [LogEntry]
}
