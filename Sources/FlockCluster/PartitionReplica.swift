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
    public private(set) var counters = PartitionCounters()
    /// Items accepted that have no outcome yet.
    public private(set) var openItems = 0
    /// When `tick` is due; `never` if nothing is waiting for time to pass.
    public private(set) var nextDeadline = Tick.never

    let limits: Limits
    private(set) var log: PartitionLog
    private(set) var sessions = SessionTable()
    private var nextSession: UInt32 = 0
    // In nanoseconds: taking a `Duration` apart costs a 128-bit division, every time.
    private let idleTime: UInt64
    private let timeToLive: UInt64
    private var now = Tick.zero
    // Outcomes of the session being stepped that its subscriber has not got yet.
    private var delivering: [OutcomeRun] = []
    private var deliveringBytes = 0
    // Reused, so that finding open runs does not allocate.
    private var scratch: [SequenceRun] = []

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

    private func requests(_ session: SessionID, _ run: SequenceRun) -> RequestRun {
        RequestRun(partition: partition, session: session, sequences: run)
    }

    /// The pipeline of a session; nil if there is no such session, or this is not its secret.
    public func pipeline(of session: SessionID, secret: SessionSecret) -> UInt32? {
        guard let slot = sessions.slot(of: session), sessions[slot].secret == secret else { return nil }
        return sessions[slot].pipeline
    }

    // MARK: Calls of clients

    /// The session's slot if the secret is right. A wrong secret is answered as an unknown session is.
    private mutating func find(
        _ id: SessionID, _ secret: SessionSecret, reply: UInt64?, out: inout [PartitionDirective]
    ) -> Int? {
        if let slot = sessions.slot(of: id), sessions[slot].secret == secret {
            sessions[slot].lastCall = now
            return slot
        }
        if let reply {
            let error =
                id.generation < generation
                ? FlockError(.lost, "the partition lost its replicas, and with them this session", node: node)
                : FlockError(.notFound, "no such session, or not its secret", node: node)
            out.append(.failed(reply: reply, error: error))
        }
        return nil
    }

    private mutating func open(
        pipeline: UInt32, secret: SessionSecret, window: Int, reply: UInt64, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        guard sessions.count < limits.sessionsPerPartition, nextSession < .max else {
            out.append(.failed(reply: reply, error: overloaded("the partition has no room for another session")))
            return
        }
        guard inSync.count >= minimumInSync else {
            out.append(.failed(reply: reply, error: tooFewReplicas))
            return
        }
        let id = SessionID(generation: generation, counter: nextSession)
        nextSession += 1
        let window = min(max(window, 1), limits.sessionWindow)
        propose(
            .openSession(id, pipeline: pipeline, secret: secret, window: window),
            local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
    }

    private mutating func submit(
        _ run: AcceptRun, slot: Int, reply: UInt64, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let sequences = run.sequences
        let next = sessions[slot].next
        func refused(from: UInt64, _ error: FlockError) -> PartitionDirective {
            .refused(reply: reply, from: from, error: error)
        }
        guard sequences.count > 0, sequences.count == run.items.count, sequences.count <= limits.itemsPerRun else {
            let error = FlockError(.invalidInput, "a run of \(sequences.count) sequences and \(run.items.count) items")
            return refuse(refused(from: sequences.first, error), out: &out)
        }
        guard sequences.end > sessions[slot].base else {
            let error = FlockError(.expired, "sequences below \(sessions[slot].base) were acknowledged")
            return refuse(refused(from: sequences.first, error), out: &out)
        }
        guard sequences.end > next else {
            return out.append(.accepted(reply: reply, through: sequences.end - 1))
        }
        // An earlier run was refused, so this one must wait for it: the order of a session is never broken.
        guard sequences.first <= next else {
            return refuse(refused(from: sequences.first, overloaded("sequence \(next) comes first")), out: &out)
        }
        var tail = run
        let known = Int(next - sequences.first)
        if known > 0 {
            tail.sequences = SequenceRun(first: next, count: sequences.count - known)
            tail.items = run.items.slice(from: known, count: tail.sequences.count)
        }
        if let error = admit(tail, slot: slot, budget: budget) {
            return refuse(refused(from: next, error), out: &out)
        }
        propose(
            .accept(sessions[slot].id, tail, timeToLive: timeToLive),
            local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
    }

    private mutating func refuse(_ answer: PartitionDirective, out: inout [PartitionDirective]) {
        counters.refused += 1
        out.append(answer)
    }

    /// Why the run cannot be accepted now (or ever); nil if it can.
    private func admit(_ run: AcceptRun, slot: Int, budget: ByteBudget) -> FlockError? {
        let count = run.sequences.count
        let reserved = count * limits.reservedResultBytes
        let bytes = run.items.chargedBytes + reserved
        if inSync.count < minimumInSync { return tooFewReplicas }
        if count > sessions[slot].window {
            return FlockError(
                .tooLarge, "a run of \(count) in a window of \(sessions[slot].window): submit less at once")
        }
        if reserved > limits.sessionResultBytes || bytes > budget.limit || reserved > budget.unreadLimit {
            return FlockError(.tooLarge, "a run of \(bytes) bytes never fits: submit less at once")
        }
        if Int(sessions[slot].next - sessions[slot].base) + count > sessions[slot].window {
            return overloaded("the session's window is full: acknowledge outcomes")
        }
        if sessions[slot].unreadBytes + sessions[slot].reservedBytes + reserved > limits.sessionResultBytes {
            return overloaded("the session has too many outcomes that were not acknowledged")
        }
        if !budget.admits(bytes, reserved: reserved) { return overloaded("the node holds as much as it may") }
        return nil
    }

    private func overloaded(_ message: String) -> FlockError {
        FlockError(.overloaded, message, node: node, retryAfter: limits.retryAfter)
    }

    private var tooFewReplicas: FlockError {
        FlockError(
            .unavailable, "\(inSync.count) replicas in sync, \(minimumInSync) needed", node: node,
            retryAfter: limits.retryAfter)
    }

    private mutating func cancel(
        _ run: SequenceRun, slot: Int, reply: UInt64?, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let id = sessions[slot].id
        let next = sessions[slot].next
        if run.end > next {
            let room = sessions[slot].window - Int(next - sessions[slot].base)
            guard run.first <= next, run.end - next <= UInt64(room) else {
                let why = run.first > next ? "sequence \(next) comes first" : "the session's window is full"
                if let reply { out.append(.failed(reply: reply, error: overloaded(why))) }
                return
            }
        }
        var open = takeScratch()
        sessions[slot].appendOpen(in: run, to: &open)
        let local = PartitionLog.Local(revokes: true)
        for part in open {
            let outcome = OutcomeRun(sequences: part, outcome: .failed(.requestCancelled))
            propose(.completed(id, outcome), local: local, budget: &budget, out: &out)
        }
        scratch = open
        if run.end > next {
            let tail = SequenceRun(first: next, count: Int(run.end - next))
            let outcome = OutcomeRun(sequences: tail, outcome: .failed(.requestCancelled))
            propose(.completed(id, outcome), budget: &budget, out: &out)
        }
        flushDeliveries(slot, out: &out)
        if let reply { out.append(.done(reply: reply)) }
    }

    private mutating func attach(_ subscriber: UInt64, slot: Int, out: inout [PartitionDirective]) {
        sessions[slot].subscriber = subscriber
        let session = sessions[slot]
        session.forEachHeld { sequences, held in
            deliver(OutcomeRun(sequences: sequences, outcome: held.outcome), slot: slot, out: &out)
        }
        flushDeliveries(slot, out: &out)
    }

    private mutating func detach(_ subscriber: UInt64) {
        for place in 0..<sessions.count {
            let slot = sessions.slot(at: place)
            guard sessions[slot].subscriber == subscriber else { continue }
            sessions[slot].subscriber = nil
            sessions[slot].lastCall = now
            noteWake(slot)
        }
    }

    private mutating func revokeAll(_ slot: Int, out: inout [PartitionDirective]) {
        var open = takeScratch()
        sessions[slot].appendOpen(in: sessions[slot].held, to: &open)
        for run in open { out.append(.revoke(requests(sessions[slot].id, run))) }
        scratch = open
    }

    // MARK: Outcomes and time

    private mutating func complete(
        _ session: SessionID, _ runs: [OutcomeRun], budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        guard let slot = sessions.slot(of: session) else {
            counters.duplicates += runs.reduce(0) { $0 + $1.sequences.count }
            return
        }
        for run in runs {
            var open = takeScratch()
            sessions[slot].appendOpen(in: run.sequences, to: &open)
            var fresh = 0
            if open.count == 1 && open[0] == run.sequences {
                fresh = run.sequences.count
                proposeBounded(run, session, budget: &budget, out: &out)
            } else {
                let whole = bounded(run)
                for part in open {
                    fresh += part.count
                    let outcome = whole.slice(from: Int(part.first - run.sequences.first), count: part.count)
                    proposeBounded(OutcomeRun(sequences: part, outcome: outcome), session, budget: &budget, out: &out)
                }
            }
            counters.duplicates += run.sequences.count - fresh
            scratch = open
        }
        flushDeliveries(slot, out: &out)
    }

    /// The outcome, or `badBatch` when it has another number of values than the run has sequences.
    private func bounded(_ run: OutcomeRun) -> RunOutcome {
        guard case .values(let items, let mask) = run.outcome else { return run.outcome }
        let count = run.sequences.count
        if items.count == count && (mask?.count ?? count) == count { return run.outcome }
        return .failed(FlockError(.badBatch, "\(items.count) results for \(count) items"))
    }

    /// Proposes an outcome; a value larger than what was reserved for it becomes `resultTooLarge`, and another number
    /// of values than sequences `badBatch` for all.
    private mutating func proposeBounded(
        _ run: OutcomeRun, _ session: SessionID, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let reserve = limits.reservedResultBytes
        guard case .values(let items, let mask) = run.outcome else {
            return propose(.completed(session, run), budget: &budget, out: &out)
        }
        let count = run.sequences.count
        guard items.count == count && (mask?.count ?? count) == count else {
            let error = FlockError(.badBatch, "\(items.count) results for \(count) items")
            let bad = OutcomeRun(sequences: run.sequences, outcome: .failed(error))
            return propose(.completed(session, bad), budget: &budget, out: &out)
        }
        guard items.byteCount > reserve, items.largestItem > reserve else {
            return propose(.completed(session, run), budget: &budget, out: &out)
        }
        var start = 0
        while start < items.count {
            let isTooLarge = items.byteCount(of: start) > reserve
            var end = start + 1
            while end < items.count && (items.byteCount(of: end) > reserve) == isTooLarge { end += 1 }
            let sequences = SequenceRun(first: run.sequences.first + UInt64(start), count: end - start)
            let outcome =
                isTooLarge
                ? .failed(FlockError(.resultTooLarge, "a result over \(reserve) bytes, which were reserved"))
                : run.outcome.slice(from: start, count: end - start)
            propose(
                .completed(session, OutcomeRun(sequences: sequences, outcome: outcome)), budget: &budget, out: &out)
            start = end
        }
    }

    private mutating func tick(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        guard nextDeadline <= now else { return }
        nextDeadline = .never
        var place = 0
        while place < sessions.count {
            let slot = sessions.slot(at: place)
            let id = sessions[slot].id
            if sessions[slot].wake(idleTime: idleTime) <= now {
                tickSession(slot, budget: &budget, out: &out)
            }
            guard sessions.slot(of: id) != nil else { continue }  // closed: the next one has moved to this place
            noteWake(slot)
            place += 1
        }
    }

    private mutating func tickSession(_ slot: Int, budget: inout ByteBudget, out: inout [PartitionDirective]) {
        let id = sessions[slot].id
        var runs = takeScratch()
        sessions[slot].takeDue(now: now, into: &runs)
        for run in runs {
            let outcome = OutcomeRun(sequences: run, outcome: .failed(.pastDeadline))
            propose(.completed(id, outcome), local: PartitionLog.Local(revokes: true), budget: &budget, out: &out)
        }
        flushDeliveries(slot, out: &out)
        runs.removeAll(keepingCapacity: true)
        sessions[slot].takeExpired(now: now, into: &runs)
        for run in runs { propose(.expired(id, run), budget: &budget, out: &out) }
        scratch = runs
        if sessions[slot].idleEnd(idleTime) <= now {
            propose(.closeSession(id), budget: &budget, out: &out)
        }
    }

    private mutating func noteWake(_ slot: Int) {
        nextDeadline = min(nextDeadline, sessions[slot].wake(idleTime: idleTime))
    }

    private mutating func takeScratch() -> [SequenceRun] {
        var taken: [SequenceRun] = []
        swap(&taken, &scratch)
        taken.removeAll(keepingCapacity: true)
        return taken
    }

    // MARK: Log

    private mutating func propose(
        _ operation: PartitionOperation, local: PartitionLog.Local = .none, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        // The in-sync set is this node: what is appended is committed, applied and trimmed at once. Replication keeps
        // the entry until the whole in-sync set has it, and applies what `commit(through:)` lets go.
        log.passThrough()
        apply(operation, time: now, local: local, budget: &budget, out: &out)
    }

    private mutating func apply(
        _ operation: PartitionOperation, time: Tick, local: PartitionLog.Local, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        precondition(inSync.count >= minimumInSync, "S6: \(partition) commits with \(inSync) of \(minimumInSync)")
        switch operation {
        case .epoch: return
        case .openSession(let id, let pipeline, let secret, let window):
            sessions.insert(
                Session(
                    id: id, pipeline: pipeline, secret: secret, window: window, reserve: limits.reservedResultBytes,
                    now: time))
            if let slot = sessions.slot(of: id) { noteWake(slot) }
            if let reply = local.reply { out.append(.opened(reply: reply, session: id)) }
        case .closeSession(let id):
            guard let slot = sessions.slot(of: id) else { return }
            openItems -= sessions[slot].openItems
            sessions[slot].release(budget: &budget)
            sessions.remove(id)
            out.append(.sessionClosed(id))
            if let reply = local.reply { out.append(.done(reply: reply)) }
        case .accept(let id, let run, let timeToLive):
            guard let slot = sessions.slot(of: id) else { return }
            let deadline = run.deadline.map { time + $0 }
            sessions[slot].accept(
                run, deadline: deadline ?? .never, timeToLive: timeToLive, bytes: run.items.chargedBytes,
                budget: &budget)
            accepted(run, slot: slot, deadline: deadline, reply: local.reply, out: &out)
        case .completed(let id, let run):
            guard let slot = sessions.slot(of: id) else { return }
            applyCompleted(run, slot: slot, time: time, budget: &budget, out: &out)
            if local.revokes { out.append(.revoke(requests(id, run.sequences))) }
        case .failed(let id, let run, let attempts):
            guard let slot = sessions.slot(of: id) else { return }
            sessions[slot].attempted(run, attempts: attempts)
        case .acked(let id, let runs, let lowestOpen):
            guard let slot = sessions.slot(of: id) else { return }
            for run in runs { sessions[slot].acknowledge(run, budget: &budget) }
            let below = min(lowestOpen, sessions[slot].next)
            let base = sessions[slot].base
            if below > base {
                sessions[slot].acknowledge(SequenceRun(first: base, count: Int(below - base)), budget: &budget)
            }
            noteWake(slot)
            if let reply = local.reply { out.append(.done(reply: reply)) }
        case .expired(let id, let run):
            guard let slot = sessions.slot(of: id) else { return }
            counters.expired += run.count
            sessions[slot].expire(run, budget: &budget)
        }
    }

    private mutating func accepted(
        _ run: AcceptRun, slot: Int, deadline: Tick?, reply: UInt64?, out: inout [PartitionDirective]
    ) {
        openItems += run.sequences.count
        counters.accepted += run.sequences.count
        nextDeadline = min(nextDeadline, deadline ?? .never)
        if let reply { out.append(.accepted(reply: reply, through: run.sequences.end - 1)) }
        out.append(
            .dispatch(
                OpenRun(
                    requests: requests(sessions[slot].id, run.sequences), pipeline: sessions[slot].pipeline,
                    items: run.items, deadline: deadline, trace: run.trace)))
    }

    private mutating func applyCompleted(
        _ run: OutcomeRun, slot: Int, time: Tick, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let count = run.sequences.count
        if run.sequences.first >= sessions[slot].next {
            sessions[slot].skip(run.sequences, outcome: run.outcome, time: time, timeToLive: timeToLive)
            counters.accepted += count
        } else {
            sessions[slot].complete(run.sequences, outcome: run.outcome, time: time, budget: &budget)
            openItems -= count
        }
        precondition(openItems >= 0, "S2: \(partition) has \(openItems) open items after \(run.sequences)")
        counters.completed += count
        if case .failed = run.outcome { counters.failed += count }
        noteWake(slot)
        if sessions[slot].subscriber != nil { deliver(run, slot: slot, out: &out) }
    }

    private mutating func deliver(_ run: OutcomeRun, slot: Int, out: inout [PartitionDirective]) {
        let bytes = run.outcome.byteCount
        let isFull = delivering.count >= limits.runsPerFrame || deliveringBytes + bytes > limits.frameBytes / 4
        if isFull { flushDeliveries(slot, out: &out) }
        delivering.append(run)
        deliveringBytes += bytes
    }

    private mutating func flushDeliveries(_ slot: Int, out: inout [PartitionDirective]) {
        guard !delivering.isEmpty, let subscriber = sessions[slot].subscriber else { return }
        out.append(.deliver(subscriber: subscriber, session: sessions[slot].id, runs: delivering))
        delivering = []
        deliveringBytes = 0
    }
}

extension ItemBuffer {
    func byteCount(of item: Int) -> Int { self[item].count }

    /// Bytes of the largest item.
    var largestItem: Int {
        if case .fixed(let stride) = layout { return count > 0 ? stride : 0 }
        var largest = 0
        for item in 0..<count { largest = max(largest, byteCount(of: item)) }
        return largest
    }
}
