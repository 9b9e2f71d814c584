// Flockwork · Apache-2.0 · see LICENSE

// The partition's log is its only durable state; everything else is derived from it. Entries are runs, so one entry
// serves thousands of requests. While the in-sync set is this node alone an entry commits as it is appended and goes
// at once; replication will keep entries until each replica has them, and change nothing above `commit`.

internal import DequeModule
public import FlockWire

/// What an entry of a partition's log does when it is committed.
public enum PartitionOperation: Sendable {
    /// A primary took over in this epoch.
    case epoch(UInt64)
    /// A session exists from here on.
    case openSession(SessionID, pipeline: UInt32, secret: SessionSecret, window: Int)
    /// A session and everything it held is gone.
    case closeSession(SessionID)
    /// A run is accepted. Its deadline counts from the entry's time, its outcomes live for `timeToLive`
    /// nanoseconds from theirs.
    case accept(SessionID, AcceptRun, timeToLive: UInt64)
    /// The outcome of open sequences, or of the next ones that were cancelled before they were accepted.
    case completed(SessionID, OutcomeRun)
    /// So many executions of these have begun.
    case failed(SessionID, SequenceRun, attempts: Int)
    /// The client has these outcomes and everything below `lowestOpen`.
    case acked(SessionID, [SequenceRun], lowestOpen: UInt64)
    /// Outcomes that nobody fetched in their time to live.
    case expired(SessionID, SequenceRun)
}

/// One entry of a partition's log.
public struct LogEntry: Sendable {
    /// The epoch of the primary that appended it.
    public let epoch: UInt64
    /// Its place, from 1, without gaps.
    public let index: UInt64
    /// Partition time: the primary's monotonic clock, which a later primary continues.
    public let time: Tick
    /// What it does.
    public let operation: PartitionOperation
}

/// The entries that are not applied yet, and where the log stands.
struct PartitionLog: Sendable {
    /// What only the primary that appended an entry knows: whom to answer, whether to call work back.
    struct Local: Sendable {
        var reply: UInt64?
        var revokes = false
        static let none = Local()
    }

    private var entries: Deque<(entry: LogEntry, local: Local)> = []
    private(set) var epoch: UInt64
    /// Index of the last entry appended.
    private(set) var last: UInt64 = 0
    /// Index of the last entry committed.
    private(set) var committed: UInt64 = 0
    /// Index of the last entry applied; entries up to here are trimmed.
    private(set) var applied: UInt64 = 0

    init(epoch: UInt64) { self.epoch = epoch }

    /// Appends an entry that waits for the in-sync set.
    mutating func append(_ operation: PartitionOperation, time: Tick, local: Local) {
        last += 1
        entries.append((LogEntry(epoch: epoch, index: last, time: time, operation: operation), local))
    }

    /// Appends, commits and trims an entry in one: for an in-sync set of one there is nobody to keep it for, so that it
    /// takes its index and nothing else.
    mutating func passThrough() {
        precondition(entries.isEmpty, "entry \(last + 1) would overtake \(entries.count) that wait")
        last += 1
        committed = last
        applied = last
    }

    /// Entries up to `index` are on every in-sync replica.
    mutating func commit(through index: UInt64) {
        precondition(
            index >= committed && index <= last, "commit \(index) with \(committed) committed and \(last) appended")
        committed = index
    }

    /// The next committed entry that was not applied, which is trimmed with this call.
    mutating func takeCommitted() -> (entry: LogEntry, local: Local)? {
        guard applied < committed else { return nil }
        let first = entries.removeFirst()
        applied += 1
        precondition(first.entry.index == applied, "entry \(first.entry.index) applied as \(applied)")
        return first
    }
}
