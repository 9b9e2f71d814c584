// Flockwork · Apache-2.0 · see LICENSE

// What clients ask for. Everything here may come from a hostile client that knows a session's secret.

internal import FlockWire

extension PartitionReplica {
    /// Whether a call can be proposed here and now; else it is answered.
    mutating func mayCall(_ reply: UInt64?, out: inout [PartitionDirective]) -> Bool {
        if isServing && log.last - log.committed <= UInt64(limits.uncommittedEntries) { return true }
        if let reply { out.append(.failed(reply: reply, error: whyNot)) }
        return false
    }

    /// The same for a submit, which keeps its stream.
    mutating func mayCall(submitting first: UInt64, reply: UInt64, out: inout [PartitionDirective]) -> Bool {
        if isServing && isSufficient && log.last - log.committed <= UInt64(limits.uncommittedEntries) { return true }
        refuse(.refused(reply: reply, from: first, error: whyNot), out: &out)
        return false
    }

    private var whyNot: FlockError {
        if !isServing { return notServing }
        return isSufficient
            ? overloaded("too much of the partition waits for its replicas", .uncommittedEntries) : tooFewReplicas
    }

    /// Why this replica does not know what became of anything.
    var notServing: FlockError {
        if let primary = seats.primary, primary != member {
            return FlockError(.moved, "\(primary) is the primary of \(partition)", node: node)
        }
        if role == .none { return FlockError(.moved, "\(partition) is not here", node: node) }
        return FlockError(
            .unavailable, "\(partition) has no primary that serves yet", node: node, retryAfter: limits.retryAfter)
    }

    /// The session's slot if the secret is right. A wrong secret is answered as an unknown session is.
    ///
    /// A primary that was replaced and does not know it yet has never heard of sessions that its successor opened. So
    /// that a session is unknown is said only when an entry commits that was proposed after the question.
    mutating func find(
        _ id: SessionID, _ secret: SessionSecret, reply: UInt64?, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) -> Int? {
        if let slot = sessions.slot(of: id), sessions[slot].secret == secret {
            sessions[slot].lastCall = now
            return slot
        }
        if let reply {
            if isServing && !isAlone && rules.confirmsUnknown && id.generation >= generation
                && sessions.slot(of: id) == nil
            {
                // Anybody may ask for any session: without a bound a client would grow a log that does not commit.
                guard log.last - log.committed <= UInt64(limits.uncommittedEntries) else {
                    out.append(.failed(reply: reply, error: whyNot))
                    return nil
                }
                propose(
                    .acked(id, [], lowestOpen: 0), local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
                return nil
            }
            let isLost = isAlone ? id.generation != generation : id.generation < generation
            let error =
                isLost
                ? FlockError(.lost, "the partition lost its replicas, and with them this session", node: node)
                : isServing ? FlockError(.notFound, "no such session, or not its secret", node: node) : notServing
            out.append(.failed(reply: reply, error: error))
        }
        return nil
    }

    mutating func open(
        pipeline: UInt32, secret: SessionSecret, window: Int, reply: UInt64, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        guard mayCall(reply, out: &out) else { return }
        let counter = max(nextSession, proposedSession)
        guard sessions.count + proposedOpens < limits.sessionsPerPartition, counter < .max else {
            out.append(
                .failed(
                    reply: reply,
                    error: overloaded("the partition has no room for another session", .sessionsPerPartition)))
            return
        }
        guard isSufficient else {
            out.append(.failed(reply: reply, error: tooFewReplicas))
            return
        }
        let id = SessionID(generation: generation, counter: counter)
        proposedSession = counter + 1
        proposedOpens += 1
        let window = min(max(window, 1), limits.sessionWindow)
        propose(
            .openSession(id, pipeline: pipeline, secret: secret, window: window),
            local: PartitionLog.Local(reply: reply), budget: &budget, out: &out)
    }

    mutating func submit(
        _ run: AcceptRun, slot: Int, reply: UInt64, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let sequences = run.sequences
        let next = sessions[slot].proposedNext
        func refused(from: UInt64, _ error: FlockError) -> PartitionDirective {
            .refused(reply: reply, from: from, error: error)
        }
        guard sequences.count > 0, sequences.count == run.items.count, sequences.count <= limits.itemsPerRun else {
            let error = FlockError(
                .invalidInput, "a run of \(sequences.count) sequences and \(run.items.count) items",
                limit: sequences.count > limits.itemsPerRun ? .itemsPerRun : nil)
            return refuse(refused(from: sequences.first, error), out: &out)
        }
        guard sequences.end > sessions[slot].base else {
            let error = FlockError(.expired, "sequences below \(sessions[slot].base) were acknowledged")
            return refuse(refused(from: sequences.first, error), out: &out)
        }
        guard sequences.end > next else {
            return acceptedBefore(sequences, slot: slot, reply: reply, out: &out)
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
            // It may be for what was taken already; the next try shall find room.
            if error.code == .overloaded && !taken.sessions.isEmpty { noteTaken(budget: &budget, out: &out) }
            return refuse(refused(from: next, error), out: &out)
        }
        var local = PartitionLog.Local(reply: reply)
        if !isAlone {
            local.charge = tail.items.chargedBytes + tail.sequences.count * limits.reservedResultBytes
            budget.propose(local.charge)
            sessions[slot].proposedItems += tail.sequences.count
            sessions[slot].proposedNext = tail.sequences.end
        }
        propose(
            .accept(sessions[slot].id, tail, timeToLive: timeToLive), local: local, budget: &budget, out: &out)
    }

    /// All of it was accepted or at least proposed before. What is only proposed is answered once it is committed: by
    /// an entry that changes nothing, after those.
    private mutating func acceptedBefore(
        _ sequences: SequenceRun, slot: Int, reply: UInt64, out: inout [PartitionDirective]
    ) {
        guard sequences.end > sessions[slot].next else {
            return out.append(.accepted(reply: reply, through: sequences.end - 1))
        }
        let again = SequenceRun(first: sequences.end - 1, count: 1)
        log.append(
            .failed(sessions[slot].id, again, attempts: 0), time: now, local: PartitionLog.Local(reply: reply))
    }

    mutating func refuse(_ answer: PartitionDirective, out: inout [PartitionDirective]) {
        counters.refused += 1
        out.append(answer)
    }

    /// Why the run cannot be accepted now (or ever); nil if it can.
    func admit(_ run: AcceptRun, slot: Int, budget: ByteBudget) -> FlockError? {
        if !suspended.isEmpty, isSuspended(sessions[slot].pipeline) {
            return FlockError(
                .suspended, "an operator has suspended the pipeline: nothing was accepted; try again later", node: node,
                retryAfter: Self.suspendedRetry)
        }
        let count = run.sequences.count
        let reserved = count * limits.reservedResultBytes
        let bytes = run.items.chargedBytes + reserved
        if count > sessions[slot].window {
            return FlockError(
                .tooLarge, "a run of \(count) in a window of \(sessions[slot].window): submit less at once",
                limit: .sessionWindow)
        }
        if reserved > limits.sessionResultBytes || bytes > budget.limit || reserved > budget.unreadLimit {
            let limit: Limit =
                bytes > budget.limit
                ? .openBytes : reserved > budget.unreadLimit ? .unreadResultBytes : .sessionResultBytes
            return FlockError(.tooLarge, "a run of \(bytes) bytes never fits: submit less at once", limit: limit)
        }
        if Int(sessions[slot].proposedNext - sessions[slot].base) + count > sessions[slot].window {
            return overloaded("the session's window is full: acknowledge outcomes", .sessionWindow)
        }
        if sessions[slot].unreadBytes + sessions[slot].promisedBytes + reserved > limits.sessionResultBytes {
            return overloaded("the session has too many outcomes that were not acknowledged", .sessionResultBytes)
        }
        if let limit = budget.limit(against: bytes, reserved: reserved) {
            return overloaded("the node holds as much as it may", limit)
        }
        return nil
    }

    /// A person has to end it.
    private static let suspendedRetry = Duration.seconds(1)

    private func isSuspended(_ number: UInt32) -> Bool {
        guard rules.refusesSuspended, let kind = SessionKind(number: number) else { return false }
        return suspended.contains(kind.pipeline)
    }

    func overloaded(_ message: String, _ limit: Limit? = nil) -> FlockError {
        FlockError(.overloaded, message, node: node, retryAfter: limits.retryAfter, limit: limit)
    }

    var tooFewReplicas: FlockError {
        FlockError(
            .unavailable, "\(seats.inSync.count) replicas in sync, \(minimumInSync) needed", node: node,
            retryAfter: limits.retryAfter)
    }

    mutating func cancel(
        _ run: SequenceRun, slot: Int, reply: UInt64?, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let id = sessions[slot].id
        let accepted = sessions[slot].next
        let next = sessions[slot].proposedNext
        if run.end > next {
            let room = sessions[slot].window - Int(next - sessions[slot].base)
            guard run.first <= next, run.end - next <= UInt64(max(room, 0)) else {
                let why = run.first > next ? "sequence \(next) comes first" : "the session's window is full"
                let limit: Limit? = run.first > next ? nil : .sessionWindow
                if let reply { out.append(.failed(reply: reply, error: overloaded(why, limit))) }
                return
            }
        }
        var open = takeScratch()
        sessions[slot].appendOpen(in: run, to: &open)
        // Those proposed will be open when this is applied; those not proposed yet are skipped.
        let first = max(run.first, accepted)
        if run.end > first && first < next {
            open.appendMerged(SequenceRun(first: first, count: Int(min(run.end, next) - first)))
        }
        let local = PartitionLog.Local(revokes: true)
        for part in open {
            let outcome = OutcomeRun(sequences: part, outcome: .failed(.requestCancelled))
            propose(.completed(id, outcome), local: local, budget: &budget, out: &out)
        }
        scratch = open
        if run.end > next {
            let tail = SequenceRun(first: next, count: Int(run.end - next))
            let outcome = OutcomeRun(sequences: tail, outcome: .failed(.requestCancelled))
            sessions[slot].proposedNext = tail.end
            propose(.completed(id, outcome), budget: &budget, out: &out)
        }
        flushDeliveries(out: &out)
        guard let reply else { return }
        guard isAlone else {
            return log.append(
                .failed(id, SequenceRun(first: run.first, count: 0), attempts: 0), time: now,
                local: PartitionLog.Local(reply: reply))
        }
        out.append(.done(reply: reply))
    }

    mutating func attach(_ subscriber: UInt64, slot: Int, out: inout [PartitionDirective]) {
        sessions[slot].subscriber = subscriber
        let session = sessions[slot]
        session.forEachHeld { sequences, held in
            deliver(OutcomeRun(sequences: sequences, outcome: held.outcome), slot: slot, out: &out)
        }
        flushDeliveries(out: &out)
    }

    mutating func detach(_ subscriber: UInt64) {
        for place in 0..<sessions.count {
            let slot = sessions.slot(at: place)
            guard sessions[slot].subscriber == subscriber else { continue }
            sessions[slot].subscriber = nil
            sessions[slot].lastCall = now
            noteWake(slot)
        }
    }

    mutating func revokeAll(_ slot: Int, out: inout [PartitionDirective]) {
        var open = takeScratch()
        sessions[slot].appendOpen(in: sessions[slot].held, to: &open)
        for run in open { out.append(.revoke(requests(sessions[slot].id, run))) }
        scratch = open
    }
}
