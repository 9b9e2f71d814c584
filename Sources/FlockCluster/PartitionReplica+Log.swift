// Flockwork · Apache-2.0 · see LICENSE

// Events become operations, operations become state. Only `apply` changes what a request's outcome is, and it does so
// from the entry and the state alone: every replica that applies the same entries has the same state.

internal import FlockWire

extension PartitionReplica {
    mutating func propose(
        _ operation: PartitionOperation, local: PartitionLog.Local = .none, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        guard isAlone else {
            log.append(operation, time: now, local: local)
            if !rules.publishesCommittedOnly { publishEarly(operation, out: &out) }
            return
        }
        log.passThrough(time: now)
        apply(operation, time: now, local: local, budget: &budget, out: &out)
    }

    private mutating func publishEarly(_ operation: PartitionOperation, out: inout [PartitionDirective]) {
        guard case .completed(let id, let run) = operation, let slot = sessions.slot(of: id) else { return }
        if sessions[slot].subscriber != nil { deliver(run, slot: slot, out: &out) }
        flushDeliveries(out: &out)
    }

    /// All that count have the entries up to `index`: their effects become visible, in order.
    mutating func commit(through index: UInt64, budget: inout ByteBudget, out: inout [PartitionDirective]) {
        log.commit(through: index)
        while let (entry, local) = log.takeCommitted() {
            history.note(entry)
            let time = rules.usesPartitionTime ? entry.time : self.local
            apply(entry.operation, time: time, local: local, budget: &budget, out: &out)
            if entry.index == epochIndex && role == .primary && !isServing { serve(out: &out) }
        }
        flushDeliveries(out: &out)
    }

    private mutating func apply(
        _ operation: PartitionOperation, time: Tick, local: PartitionLog.Local, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        switch operation {
        case .epoch: return
        case .openSession(let id, let pipeline, let secret, let window):
            applyOpen(id, pipeline: pipeline, secret: secret, window: window, time: time, local: local, out: &out)
        case .closeSession(let id):
            guard let slot = slot(of: id, local: local, out: &out) else { return }
            applyClose(slot, local: local, budget: &budget, out: &out)
        case .accept(let id, let run, let timeToLive):
            if local.charge > 0 { budget.withdraw(local.charge) }
            guard let slot = slot(of: id, local: local, out: &out) else { return }
            if local.charge > 0 { sessions[slot].proposedItems -= run.sequences.count }
            guard run.sequences.first == sessions[slot].next else {
                if !(run.sequences.end <= sessions[slot].next) {
                    broken("\(run.sequences) accepted in \(sessions[slot].held)")
                }
                return
            }
            let deadline = run.deadline.map { time + $0 }
            sessions[slot].accept(
                run, deadline: deadline ?? .never, timeToLive: timeToLive, bytes: run.items.chargedBytes,
                budget: &budget)
            accepted(run, slot: slot, deadline: deadline, reply: local.reply, out: &out)
        case .completed(let id, let run):
            guard let slot = sessions.slot(of: id) else { return }
            applyCompleted(run, slot: slot, time: time, revokes: local.revokes, budget: &budget, out: &out)
        case .failed(let id, let run, let attempts):
            guard let slot = slot(of: id, local: local, out: &out) else { return }
            applyFailed(run, attempts: attempts, slot: slot, local: local, out: &out)
        case .tried(let id, let run, let attempts):
            guard let slot = slot(of: id, local: local, out: &out) else { return }
            sessions[slot].failed(run, attempts)
            tell(run, attempts: attempts, slot: slot, out: &out)
        case .acked(let id, let runs, let lowestOpen):
            guard let slot = slot(of: id, local: local, out: &out) else { return }
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

    /// The session, which may have been closed between proposal and commit.
    private func slot(
        of id: SessionID, local: PartitionLog.Local, out: inout [PartitionDirective]
    ) -> Int? {
        if let slot = sessions.slot(of: id) { return slot }
        if let reply = local.reply {
            out.append(.failed(reply: reply, error: FlockError(.notFound, "the session was closed", node: node)))
        }
        return nil
    }

    private mutating func applyOpen(
        _ id: SessionID, pipeline: UInt32, secret: SessionSecret, window: Int, time: Tick, local: PartitionLog.Local,
        out: inout [PartitionDirective]
    ) {
        nextSession = max(nextSession, UInt32(truncatingIfNeeded: id.rawValue) + 1)
        if local.reply != nil { proposedOpens -= 1 }
        if !(sessions.slot(of: id) == nil) {
            broken("\(partition): two sessions \(id)")
        }
        guard sessions.slot(of: id) == nil else { return }
        sessions.insert(
            Session(
                id: id, pipeline: pipeline, secret: secret, window: window, reserve: limits.reservedResultBytes,
                now: time))
        if let slot = sessions.slot(of: id) { noteWake(slot) }
        if let reply = local.reply { out.append(.opened(reply: reply, session: id)) }
    }

    private mutating func applyClose(
        _ slot: Int, local: PartitionLog.Local, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        let id = sessions[slot].id
        flushDeliveries(out: &out)
        if isServing && sessions[slot].openItems > 0 { revokeAll(slot, out: &out) }
        openItems -= sessions[slot].openItems
        sessions[slot].release(budget: &budget)
        sessions.remove(id)
        out.append(.sessionClosed(id))
        if let reply = local.reply { out.append(.done(reply: reply)) }
    }

    private mutating func accepted(
        _ run: AcceptRun, slot: Int, deadline: Tick?, reply: UInt64?, out: inout [PartitionDirective]
    ) {
        openItems += run.sequences.count
        counters.accepted += run.sequences.count
        guard isServing else { return }
        sessionsDue = min(sessionsDue, deadline ?? .never)
        if let reply { out.append(.accepted(reply: reply, through: run.sequences.end - 1)) }
        guard log.applied > dispatched else { return }
        dispatched = log.applied
        dispatch(run, slot: slot, deadline: deadline, out: &out)
    }

    func dispatch(_ run: AcceptRun, slot: Int, deadline: Tick?, out: inout [PartitionDirective]) {
        out.append(
            .dispatch(
                OpenRun(
                    requests: requests(sessions[slot].id, run.sequences), pipeline: sessions[slot].pipeline,
                    items: run.items, deadline: deadline.map { processTime($0) }, trace: run.trace)))
    }

    /// Processes that died with these; none where the entry only marks a place in the log for an answer.
    private mutating func applyFailed(
        _ run: SequenceRun, attempts: Int, slot: Int, local: PartitionLog.Local, out: inout [PartitionDirective]
    ) {
        guard attempts > 0 else {
            guard let reply = local.reply else { return }
            return out.append(run.count == 0 ? .done(reply: reply) : .accepted(reply: reply, through: run.first))
        }
        sessions[slot].died(run, attempts)
        tell(run, attempts: attempts, slot: slot, out: &out)
    }

    /// What is open of these may be dispatched again.
    private mutating func tell(
        _ run: SequenceRun, attempts: Int, slot: Int, out: inout [PartitionDirective]
    ) {
        guard isServing else { return }
        var open = takeScratch()
        sessions[slot].appendOpen(in: run, to: &open)
        for part in open { out.append(.attempted(requests(sessions[slot].id, part), attempts: attempts)) }
        scratch = open
    }

    /// The first outcome counts: what has one, or was acknowledged since this was proposed, keeps it. What comes right
    /// after the last accepted sequence and is cancelled was so before it was accepted. Another outcome of such a
    /// sequence is that of a run that was executed early, and whose entry went with its primary: it is nobody's.
    private mutating func applyCompleted(
        _ run: OutcomeRun, slot: Int, time: Tick, revokes: Bool, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        let next = sessions[slot].next
        if isAlone || run.sequences.first >= next {
            return settle(run, slot: slot, time: time, revokes: revokes, budget: &budget, out: &out)
        }
        var open = takeScratch()
        sessions[slot].appendOpen(in: run.sequences, to: &open)
        if open.count == 1 && open[0] == run.sequences {
            scratch = open
            return settle(run, slot: slot, time: time, revokes: revokes, budget: &budget, out: &out)
        }
        var fresh = 0
        for part in open {
            fresh += part.count
            let outcome = run.outcome.slice(from: Int(part.first - run.sequences.first), count: part.count)
            settle(
                OutcomeRun(sequences: part, outcome: outcome), slot: slot, time: time, revokes: revokes,
                budget: &budget, out: &out)
        }
        counters.duplicates += run.sequences.count - fresh
        if fresh < run.sequences.count && !(rules.dedupsOutcomes && rules.dedupsAfterPrimaryChange) {
            answerTwice(run, except: open, slot: slot, out: &out)
        }
        scratch = open
    }

    /// What a replica without the rules of the first outcome would do.
    private mutating func answerTwice(
        _ run: OutcomeRun, except fresh: [SequenceRun], slot: Int, out: inout [PartitionDirective]
    ) {
        guard sessions[slot].subscriber != nil else { return }
        var again: [SequenceRun] = []
        sessions[slot].forEachHeld { sequences, held in
            let isEarlier = held.expires < epochStart + timeToLive
            guard !rules.dedupsOutcomes || isEarlier, sequences.overlaps(run.sequences),
                !fresh.contains(where: { $0.overlaps(sequences) })
            else { return }
            again.append(sequences.clipped(to: run.sequences))
        }
        for part in again {
            let outcome = run.outcome.slice(from: Int(part.first - run.sequences.first), count: part.count)
            deliver(OutcomeRun(sequences: part, outcome: outcome), slot: slot, out: &out)
        }
    }

    private mutating func settle(
        _ run: OutcomeRun, slot: Int, time: Tick, revokes: Bool, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        let count = run.sequences.count
        if run.sequences.first >= sessions[slot].next {
            guard run.sequences.first == sessions[slot].next, run.outcome.isCancelled else { return }
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
        if revokes { out.append(.revoke(requests(sessions[slot].id, run.sequences))) }
    }
}
