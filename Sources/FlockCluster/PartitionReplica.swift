// Flockwork · Apache-2.0 · see LICENSE

// One copy of a partition. Events are checked against the state and become log entries; committed entries change the
// state and yield directives. Nothing is visible before it is committed, so replication only has to delay the commit.

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
}

/// A partition's log and the state derived from it: sessions, open runs, outcomes.
public struct PartitionReplica: Sendable {
    /// Which partition.
    public let partition: PartitionID
    /// The node that holds this copy.
    public let node: NodeID
    /// The nodes that must have an entry before it counts.
    public let inSync: [NodeID]
    /// Copies below which nothing is accepted.
    public let minimumInSync: Int
    /// How often the partition lost everything; session ids carry it.
    public let generation: UInt16
    /// What it did so far.
    public internal(set) var counters = PartitionCounters()
    /// Items accepted that have no outcome yet.
    public internal(set) var openItems = 0
    /// When `tick` is due; `never` if nothing is waiting for time to pass.
    public internal(set) var nextDeadline = Tick.never

    let limits: Limits
    var log: PartitionLog
    var sessions = SessionTable()
    var nextSession: UInt32 = 0
    // In nanoseconds: taking a `Duration` apart costs a 128-bit division, every time.
    let idleTime: UInt64
    let timeToLive: UInt64
    var now = Tick.zero
    // Outcomes of the session being stepped that its subscriber has not got yet.
    var delivering: [OutcomeRun] = []
    var deliveringBytes = 0
    // Reused, so that finding open runs does not allocate.
    var scratch: [SequenceRun] = []

    /// A primary in `epoch`. `inSync` must be the node itself: replication is not built yet.
    ///
    /// Start `generation` higher than that of any earlier incarnation that lost its memory, so that its clients hear
    /// `lost` and never meet another client's session under their id.
    public init(
        partition: PartitionID, epoch: UInt64, node: NodeID, inSync: [NodeID], minimumInSync: Int = 1,
        generation: UInt16, limits: Limits
    ) {
        precondition(inSync == [node], "\(partition): in-sync set \(inSync) of \(node): replication is not built yet")
        self.partition = partition
        self.node = node
        self.inSync = inSync
        self.minimumInSync = minimumInSync
        self.generation = generation
        self.limits = limits
        idleTime = limits.sessionIdleTime.clampedNanoseconds
        timeToLive = limits.outcomeTimeToLive.clampedNanoseconds
        log = PartitionLog(epoch: epoch)
        log.passThrough()  // `epoch`, which changes nothing else
    }

    /// The epoch of this primary.
    public var epoch: UInt64 { log.epoch }
    /// Sessions that exist.
    public var sessionCount: Int { sessions.count }

    /// Handles one event and appends what is to be done. `now` must not go back (if it does, it stands still).
    public mutating func step(
        _ event: PartitionEvent, now: Tick, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        self.now = max(self.now, now)
        switch event {
        case .open(let pipeline, let secret, let window, let reply):
            open(pipeline: pipeline, secret: secret, window: window, reply: reply, budget: &budget, out: &out)
        case .submit(let session, let secret, let run, let reply):
            guard let slot = find(session, secret, reply: reply, out: &out) else { return }
            submit(run, slot: slot, reply: reply, budget: &budget, out: &out)
        case .cancel(let session, let secret, let sequences, let reply):
            guard let slot = find(session, secret, reply: reply, out: &out) else { return }
            cancel(sequences, slot: slot, reply: reply, budget: &budget, out: &out)
        case .attach(let session, let secret, let subscriber, let reply):
            guard let slot = find(session, secret, reply: reply, out: &out) else { return }
            if let reply { out.append(.done(reply: reply)) }
            attach(subscriber, slot: slot, out: &out)
        case .detach(let subscriber): detach(subscriber)
        case .ack(let session, let secret, let runs, let lowestOpen, let reply):
            guard find(session, secret, reply: reply, out: &out) != nil else { return }
            propose(
                .acked(session, runs, lowestOpen: lowestOpen), local: PartitionLog.Local(reply: reply),
                budget: &budget, out: &out)
        case .close(let session, let secret, let reply):
            guard let slot = find(session, secret, reply: reply, out: &out) else { return }
            revokeAll(slot, out: &out)
            propose(.closeSession(session), local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
        case .completed(let session, let runs): complete(session, runs, budget: &budget, out: &out)
        case .attempted(let session, let sequences, let attempts):
            guard sessions.slot(of: session) != nil else { return }
            propose(.failed(session, sequences, attempts: attempts), budget: &budget, out: &out)
        case .tick: tick(budget: &budget, out: &out)
        }
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
                for run in open {
                    result.append(
                        openRun(
                            run, of: session, entry: entry,
                            items: items.slice(from: Int(run.first - entry.sequences.first), count: run.count)))
                }
            }
        }
        return result
    }

    private func openRun(
        _ run: SequenceRun, of session: Session, entry: SessionEntry, items: ItemBuffer
    ) -> OpenRun {
        OpenRun(
            requests: requests(session.id, run), pipeline: session.pipeline, items: items,
            deadline: entry.deadline == .never ? nil : entry.deadline, trace: entry.trace,
            attempt: entry.attempts + 1)
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
        sessions.slot(of: session).map { sessions[$0].next <= sequence } ?? false
    }
}
