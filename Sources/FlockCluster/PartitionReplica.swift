// Flockwork · Apache-2.0 · see LICENSE

// One copy of a partition. Events are checked against the state and become log entries; committed entries change the
// state and yield directives. Nothing is visible before it is committed, so replication only delays the commit.
//
// The extensions: +Calls (what clients ask for), +Outcomes (what becomes of requests), +Log (propose and apply), +Seats
// (roles), +Primary (what the others need), +Backup (what the primary sent), +Digest (for checkers).

internal import DequeModule
public import FlockWire

/// What a partition did since it was made.
public struct PartitionCounters: Sendable, Equatable {
    /// Items accepted.
    public var accepted = 0
    /// Items with an outcome, of any kind.
    public var completed = 0
    /// Items whose outcome is an error.
    public var failed = 0
    /// Calls of `submit` that were refused, in whole or in part.
    public var refused = 0
    /// Outcomes that came for items which had one already, or for nobody.
    public var duplicates = 0
    /// Items whose outcome nobody fetched in time.
    public var expired = 0
    /// Sessions that were closed because their client was not heard of for long.
    public var idleSessions = 0
    /// Messages between replicas that were of another epoch.
    public var outdated = 0
    /// Times that entries were sent again.
    public var resends = 0
}

/// What a replica is for its partition.
public enum PartitionRole: Sendable, Hashable {
    /// It has no seat, and no copy.
    case none
    /// It copies and does not count yet.
    case learner
    /// It is in sync: nothing is committed without it.
    case backup
    /// It alone commits.
    case primary
}

/// A partition's log and the state derived from it: sessions, open runs, outcomes.
public struct PartitionReplica: Sendable {
    /// Which partition.
    public let partition: PartitionID
    /// The node that holds this copy.
    public let node: NodeID
    /// That node's incarnation.
    public let member: MemberNumber
    /// Who holds the partition, in the installed view.
    public internal(set) var seats: PartitionSeats
    /// What this copy is.
    public internal(set) var role = PartitionRole.none
    /// It is the primary and the entry of its epoch is committed: clients are answered.
    public internal(set) var isServing = false
    /// Copies below which nothing is accepted.
    public internal(set) var minimumInSync: Int
    /// What it did so far.
    public internal(set) var counters = PartitionCounters()
    /// Items accepted that have no outcome yet.
    public internal(set) var openItems = 0

    /// Pipelines, by number, of which nothing new is accepted.
    public var suspended: [Int] = []

    let limits: Limits
    let rules: Rules
    /// Entries count only when they are on the disk.
    let isDurable: Bool
    /// It is primary and nobody else has a copy, so entries commit as they are appended and are not kept.
    var isAlone = false
    var log: PartitionLog
    var sessions = SessionTable()
    /// The counter of the next session, as committed.
    var nextSession: UInt32 = 0
    /// The same with those proposed, and how many these are. Primary only.
    var proposedSession: UInt32 = 0
    var proposedOpens = 0
    // In nanoseconds: taking a `Duration` apart costs a 128-bit division, every time.
    let idleTime: UInt64
    let timeToLive: UInt64
    let times: ReplicationTimes

    /// This process's time, and partition time, which is that plus `shift` at the primary.
    var local = Tick.zero
    var now = Tick.zero
    var shift: Int64 = 0
    /// When a session needs a tick, in partition time.
    var sessionsDue = Tick.never

    // Primary: the index of its epoch's entry, what it knows of the others, when it has to look after them.
    var epochIndex: UInt64 = 0
    var epochStart = Tick.zero
    /// What clients have and the log does not say yet.
    var taken = TakenNotes()
    /// Accepted runs in entries up to here were given to the dispatcher.
    var dispatched: UInt64 = 0
    var peers: [ReplicationPeer] = []
    /// Only for the mutant of `Rules.bumpsEpochForLearners`.
    var former: [ReplicationPeer] = []
    var peersDue = Tick.never
    var noticeDue = Tick.never
    // Backup: up to where the log is known to equal that of this epoch's primary; a snapshot that is arriving.
    var matched: UInt64 = 0
    var arriving: [SnapshotPart] = []
    /// The latest epoch that somebody else was heard to be in.
    var heardEpoch: UInt64 = 0
    // Durable: up to where entries were handed to the disk, and are on it.
    var handed: UInt64 = 0
    var synced: UInt64 = 0
    /// The epoch of which it said, after a restart, that it has what its primary began with.
    var rejoinedEpoch: UInt64 = 0

    // Outcomes of one session that its subscriber has not got yet.
    var delivering: [OutcomeRun] = []
    var deliveringBytes = 0
    var deliveringSlot = 0
    // Reused, so that finding open runs does not allocate.
    var scratch: [SequenceRun] = []
    var history: LogHistory
    /// What went against an invariant. Only with a rule left out; with all of them it is a trap.
    var violation: String?

    /// A replica without a seat, as all are before the first view. `isDurable` is a property of the partition's group.
    public init(
        partition: PartitionID, node: NodeID, member: MemberNumber, limits: Limits, isDurable: Bool = false
    ) {
        self.init(
            partition: partition, node: node, member: member, limits: limits, isDurable: isDurable, rules: .all,
            history: 0)
    }

    /// The same, with some rules left out perhaps and the hashes of the last `history` committed entries kept.
    init(
        partition: PartitionID, node: NodeID, member: MemberNumber, limits: Limits, isDurable: Bool, rules: Rules,
        history: Int
    ) {
        self.partition = partition
        self.node = node
        self.member = member
        self.limits = limits
        self.isDurable = isDurable
        self.rules = rules
        self.history = LogHistory(limit: history)
        seats = PartitionSeats(epoch: 0, primary: nil, inSync: [])
        minimumInSync = 1
        idleTime = limits.sessionIdleTime.clampedNanoseconds
        timeToLive = limits.outcomeTimeToLive.clampedNanoseconds
        times = ReplicationTimes(limits)
        log = PartitionLog(epoch: 0)
    }

    /// A replica alone, the primary in `epoch`. `inSync` must be the node itself: others need a view.
    ///
    /// Start `generation` higher than that of any earlier incarnation that lost its memory, so that its clients hear
    /// `lost` and never meet another client's session under their id.
    public init(
        partition: PartitionID, epoch: UInt64, node: NodeID, inSync: [NodeID], minimumInSync: Int = 1,
        generation: UInt16, limits: Limits
    ) {
        precondition(inSync == [node], "\(partition): in-sync set \(inSync) of \(node): others need a view")
        self.init(partition: partition, node: node, member: MemberNumber(rawValue: 1), limits: limits)
        seats = PartitionSeats(epoch: epoch, primary: member, inSync: [member], generation: generation)
        self.minimumInSync = minimumInSync
        log = PartitionLog(epoch: epoch)
        role = .primary
        isServing = true
        isAlone = true
        log.passThrough(time: .zero)  // `epoch`, which changes nothing else
    }

    /// The installed epoch.
    public var epoch: UInt64 { seats.epoch }
    /// How often the partition lost everything; session ids carry it.
    public var generation: UInt16 { seats.generation }
    /// Sessions that exist.
    public var sessionCount: Int { sessions.count }

    /// When `tick` is due; `never` if nothing is waiting for time to pass.
    public var nextDeadline: Tick {
        let others = min(peersDue, noticeDue, taken.due)
        return isServing ? min(others, processTime(sessionsDue)) : others
    }

    /// Partition time in this process's time.
    func processTime(_ tick: Tick) -> Tick {
        if tick == .never || shift == 0 { return tick }
        if shift < 0 { return tick + shift.magnitude }
        return Tick(nanoseconds: tick.nanoseconds - min(shift.magnitude, tick.nanoseconds))
    }

    /// Handles one event and appends what is to be done. `now` must not go back (if it does, it stands still).
    public mutating func step(
        _ event: PartitionEvent, now: Tick, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        local = max(local, now)
        self.now = Tick(nanoseconds: local.nanoseconds &+ UInt64(bitPattern: shift))
        // Also who is turned away may have had something proposed: a question about a session that nobody knows.
        switch event {
        case .open(let pipeline, let secret, let window, let reply):
            open(pipeline: pipeline, secret: secret, window: window, reply: reply, budget: &budget, out: &out)
        case .submit(let session, let secret, let run, let reply):
            guard mayCall(submitting: run.sequences.first, reply: reply, out: &out),
                let slot = find(session, secret, reply: reply, budget: &budget, out: &out)
            else { break }
            submit(run, slot: slot, reply: reply, budget: &budget, out: &out)
        case .cancel(let session, let secret, let sequences, let reply):
            guard mayCall(reply, out: &out), let slot = find(session, secret, reply: reply, budget: &budget, out: &out)
            else { break }
            cancel(sequences, slot: slot, reply: reply, budget: &budget, out: &out)
        case .attach(let session, let secret, let subscriber, let reply):
            guard let slot = find(session, secret, reply: reply, budget: &budget, out: &out) else { break }
            if let reply { out.append(.done(reply: reply)) }
            attach(subscriber, slot: slot, out: &out)
        case .detach(let subscriber): detach(subscriber)
        case .ack(let session, let secret, let runs, let lowestOpen, let reply):
            guard mayCall(reply, out: &out), let slot = find(session, secret, reply: reply, budget: &budget, out: &out)
            else { break }
            acknowledge(runs, lowestOpen: lowestOpen, slot: slot, reply: reply, budget: &budget, out: &out)
        case .close(let session, let secret, let reply):
            guard mayCall(reply, out: &out), find(session, secret, reply: reply, budget: &budget, out: &out) != nil
            else { break }
            propose(.closeSession(session), local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
        case .completed(let session, let runs): complete(session, runs, budget: &budget, out: &out)
        case .attempted(let session, let sequences, let attempts):
            guard role == .primary, sessions.slot(of: session) != nil else { return }
            propose(.failed(session, sequences, attempts: attempts), budget: &budget, out: &out)
        case .failed(let session, let sequences, let attempts):
            guard role == .primary, sessions.slot(of: session) != nil else { return }
            propose(.tried(session, sequences, attempts: attempts), budget: &budget, out: &out)
        case .seats(let seats, let minimum): install(seats, minimumInSync: minimum, budget: &budget, out: &out)
        case .replication(let peer, let message): receive(message, from: peer, budget: &budget, out: &out)
        case .persisted(let through, let epoch): persisted(through: through, epoch: epoch, out: &out)
        case .tick: tick(budget: &budget, out: &out)
        }
        if !isAlone { settle(budget: &budget, out: &out) }
    }

    /// Every run that is open, in the order of ids: what a new dispatcher has to be given.
    public func openRuns() -> [OpenRun] {
        var result: [OpenRun] = []
        for place in 0..<sessions.count {
            let session = sessions[sessions.slot(at: place)]
            for entry in session.entries {
                guard let items = entry.items else { continue }
                var open: [SequenceRun] = []
                entry.appendOpen(in: entry.sequences, to: &open)
                for run in open { result += openRuns(run, of: session, entry: entry, items: items) }
            }
        }
        return result
    }

    /// An open run of an entry with `items`, in the parts that met deaths apart.
    func openRuns(
        _ run: SequenceRun, of session: Session, entry: SessionEntry, items: ItemBuffer
    ) -> [OpenRun] {
        entry.parted(run).map { part in
            var open = OpenRun(
                requests: requests(session.id, part.sequences), pipeline: session.pipeline,
                items: items.slice(
                    from: Int(part.sequences.first - entry.sequences.first), count: part.sequences.count),
                deadline: entry.deadline == .never ? nil : processTime(entry.deadline), trace: entry.trace,
                attempt: part.failures + 1)
            open.deaths = part.deaths
            return open
        }
    }

    func requests(_ session: SessionID, _ run: SequenceRun) -> RequestRun {
        RequestRun(partition: partition, session: session, sequences: run)
    }

    /// The pipeline of a session; nil if there is no such session, or this is not its secret.
    public func pipeline(of session: SessionID, secret: SessionSecret) -> UInt32? {
        guard let slot = sessions.slot(of: session), sessions[slot].secret == secret else { return nil }
        return sessions[slot].pipeline
    }

    /// Whether a session never submitted `sequence` or one behind it; false if there is no such session.
    public func isNew(_ sequence: UInt64, of session: SessionID) -> Bool {
        sessions.slot(of: session).map { sessions[$0].proposedNext <= sequence } ?? false
    }
}

/// The times of replication in nanoseconds.
struct ReplicationTimes: Sendable {
    let resendMinimum, resendMaximum, lagging, notice, taken: UInt64

    init(_ limits: Limits) {
        resendMinimum = limits.resendMinimum.clampedNanoseconds
        resendMaximum = limits.resendMaximum.clampedNanoseconds
        lagging = limits.laggingTime.clampedNanoseconds
        notice = limits.commitNoticeTime.clampedNanoseconds
        // Together with other entries after a tenth of it.
        taken = notice / 2
    }
}
