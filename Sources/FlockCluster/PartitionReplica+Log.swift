// Flockwork · Apache-2.0 · see LICENSE

// Events become operations, operations become state. Only `apply` changes what a request's outcome is.

internal import FlockWire

extension PartitionReplica {
    mutating func propose(
        _ operation: PartitionOperation, local: PartitionLog.Local = .none, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        // An in-sync set of one commits as it appends. A larger one keeps the entry until `commit(through:)`; admission
        // must then count what is proposed and not yet committed (next sequence, window, bytes), which is why `init`
        // does not allow it before replication is built.
        guard inSync.count == 1 else { return log.append(operation, time: now, local: local) }
        log.passThrough()
        apply(operation, time: now, local: local, budget: &budget, out: &out)
    }

    /// The whole in-sync set has the entries up to `index`: their effects become visible, in order.
    mutating func commit(through index: UInt64, budget: inout ByteBudget, out: inout [PartitionDirective]) {
        log.commit(through: index)
        while let (entry, local) = log.takeCommitted() {
            apply(entry.operation, time: entry.time, local: local, budget: &budget, out: &out)
        }
    }

    mutating func apply(
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

    mutating func accepted(
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

    mutating func applyCompleted(
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
}
