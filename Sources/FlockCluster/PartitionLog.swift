// Flockwork · Apache-2.0 · see LICENSE

// The partition's log is its only durable state; everything else is derived from it. Entries are runs, so one entry
// serves thousands of requests. An entry is kept until every replica has it and knows that it is committed, so that
// whoever becomes primary can feed the others. A replica alone keeps nothing: its entries commit as they are appended.

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
    /// So many processes died while they had these, or may have. Entries for parts say how far a run was parted.
    case failed(SessionID, SequenceRun, attempts: Int)
    /// So many executions of these have begun and gave no outcome.
    case tried(SessionID, SequenceRun, attempts: Int)
    /// The client has these outcomes and everything below `lowestOpen`.
    case acked(SessionID, [SequenceRun], lowestOpen: UInt64)
    /// Outcomes that nobody fetched in their time to live.
    case expired(SessionID, SequenceRun)

    /// Bytes that it takes on the wire and in a log, about.
    public var encodedSize: Int {
        switch self {
        case .epoch, .closeSession: 12
        case .openSession: 36
        case .accept(_, let run, _): 64 + run.items.encodedSize
        case .completed(_, let run): 32 + run.outcome.byteCount
        case .failed, .tried, .expired: 28
        case .acked(_, let runs, _): 20 + runs.count * 12
        }
    }
}

/// One entry of a partition's log. It never changes, so the log, messages and replicas in one process share it.
public final class LogEntry: Sendable {
    /// The epoch of the primary that appended it.
    public let epoch: UInt64
    /// Its place, from 1, without gaps.
    public let index: UInt64
    /// Partition time: the primary's monotonic clock, which a later primary continues.
    public let time: Tick
    /// What it does.
    public let operation: PartitionOperation
    /// Bytes that it takes on the wire, about.
    public let encodedSize: Int

    /// An entry as appended, or as read.
    public init(epoch: UInt64, index: UInt64, time: Tick, operation: PartitionOperation) {
        self.epoch = epoch
        self.index = index
        self.time = time
        self.operation = operation
        encodedSize = 28 + operation.encodedSize
    }
}

/// The entries that some replica may still need, and where the log stands.
struct PartitionLog: Sendable {
    /// What only the primary that appended an entry knows: whom to answer, whether to call work back, what it counted.
    struct Local: Sendable {
        var reply: UInt64?
        var revokes = false
        /// Bytes that admission counted until the entry is applied.
        var charge = 0
        static let none = Local()
    }

    private struct Record: Sendable {
        let entry: LogEntry
        var local: Local
        /// Bytes of all entries of this log up to here, ever.
        let end: Int
    }

    private var records: Deque<Record> = []
    /// The epoch in which entries are appended here.
    var epoch: UInt64
    /// The entries from `start + 1` on are kept.
    private(set) var start: UInt64 = 0
    private var startEpoch: UInt64 = 0
    private var startEnd = 0
    /// Index of the last entry appended.
    private(set) var last: UInt64 = 0
    /// Index of the last entry known to be committed.
    private(set) var committed: UInt64 = 0
    /// Index of the last entry applied.
    private(set) var applied: UInt64 = 0
    /// Partition time of the last entry.
    private(set) var lastTime = Tick.zero

    init(epoch: UInt64) { self.epoch = epoch }

    /// A log whose entries up to `index` are in a snapshot.
    init(epoch: UInt64, after index: UInt64, entryEpoch: UInt64, time: Tick) {
        self.epoch = epoch
        start = index
        startEpoch = entryEpoch
        (last, committed, applied) = (index, index, index)
        lastTime = time
    }

    /// Bytes of the entries that are kept.
    var keptBytes: Int { (records.last?.end ?? startEnd) - startEnd }
    /// The epoch of the last entry, 0 if there never was one.
    var lastEpoch: UInt64 { records.last?.entry.epoch ?? startEpoch }

    /// Appends an entry of this primary, which waits for the in-sync set. Time never goes back in a log.
    mutating func append(_ operation: PartitionOperation, time: Tick, local: Local) {
        add(LogEntry(epoch: epoch, index: last + 1, time: max(time, lastTime), operation: operation), local)
    }

    /// Appends another primary's entry.
    mutating func append(_ entry: LogEntry) {
        precondition(entry.index == last + 1, "entry \(entry.index) after \(last)")
        add(entry, .none)
    }

    private mutating func add(_ entry: LogEntry, _ local: Local) {
        records.append(Record(entry: entry, local: local, end: (records.last?.end ?? startEnd) + entry.encodedSize))
        last += 1
        lastTime = entry.time
    }

    /// Appends, commits and trims an entry in one: for an in-sync set of one there is nobody to keep it for, so that it
    /// takes its index and nothing else.
    mutating func passThrough(time: Tick) {
        precondition(records.isEmpty, "entry \(last + 1) would overtake \(records.count) that wait")
        last += 1
        committed = last
        applied = last
        start = last
        startEpoch = epoch
        lastTime = time
    }

    /// Entries up to `index` are on every in-sync replica.
    mutating func commit(through index: UInt64) {
        precondition(
            index >= committed && index <= last, "commit \(index) with \(committed) committed and \(last) appended")
        committed = index
    }

    /// The next committed entry that was not applied. What was local to it is handed out once.
    mutating func takeCommitted() -> (entry: LogEntry, local: Local)? {
        guard applied < committed else { return nil }
        let place = Int(applied - start)
        applied += 1
        let taken = (records[place].entry, records[place].local)
        records[place].local = .none
        precondition(taken.0.index == applied, "entry \(taken.0.index) applied as \(applied)")
        return taken
    }

    // MARK: Other replicas

    /// The epoch of the entry at `index`; nil if that was trimmed or never appended.
    func epoch(at index: UInt64) -> UInt64? {
        guard index > start, index <= last else { return index == start ? startEpoch : nil }
        return records[Int(index - start) - 1].entry.epoch
    }

    /// The entry at `index`, which is kept.
    func entry(at index: UInt64) -> LogEntry {
        precondition(index > start && index <= last, "entry \(index) of \(start)...\(last)")
        return records[Int(index - start) - 1].entry
    }

    private func end(at index: UInt64) -> Int {
        index <= start ? startEnd : records[Int(min(index, last) - start) - 1].end
    }

    /// Bytes of the entries after `low` up to `high`.
    func bytes(after low: UInt64, through high: UInt64) -> Int { high > low ? end(at: high) - end(at: low) : 0 }

    /// The entries after `index`: at least one, and others while they fit into `bytes`.
    func entries(after index: UInt64, bytes: Int) -> [LogEntry] {
        precondition(index >= start && index < last, "entries after \(index) of \(start)...\(last)")
        let first = Int(index - start)
        let bound = end(at: index) + bytes
        var stop = first + 1
        while stop < records.count && records[stop].end <= bound { stop += 1 }
        return records[first..<stop].map(\.entry)
    }

    /// Drops the entries from `index` on, none of which is committed, and returns what was local to them.
    mutating func truncate(from index: UInt64) -> [Local] {
        precondition(index > committed && index <= last, "P2: truncation at \(index), \(committed) are committed")
        let place = Int(index - start) - 1
        let locals = records[place...].map(\.local)
        records.removeSubrange(place...)
        last = index - 1
        lastTime = records.last?.entry.time ?? lastTime
        return locals
    }

    /// Takes what was local to the entries that are not applied: this primary will not answer for them any more.
    mutating func takeLocals() -> [Local] {
        var locals: [Local] = []
        for place in Int(applied - start)..<records.count {
            locals.append(records[place].local)
            records[place].local = .none
        }
        return locals
    }

    /// Drops the entries up to `index`, which are applied: nobody needs them any more.
    mutating func trim(through index: UInt64) {
        guard index > start else { return }
        precondition(index <= applied, "entry \(index) trimmed, \(applied) are applied")
        let count = Int(index - start)
        startEpoch = records[count - 1].entry.epoch
        startEnd = records[count - 1].end
        records.removeFirst(count)
        start = index
    }
}
