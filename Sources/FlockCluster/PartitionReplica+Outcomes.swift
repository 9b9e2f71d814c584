// Flockwork · Apache-2.0 · see LICENSE

// What becomes of accepted requests: outcomes from stages, deadlines, time to live, and who hears of it.

internal import FlockWire

extension PartitionReplica {
    mutating func complete(
        _ session: SessionID, _ runs: [OutcomeRun], budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        guard isServing else { return completeLater(session, runs, budget: &budget, out: &out) }
        guard let slot = sessions.slot(of: session) else {
            counters.duplicates += runs.reduce(0) { $0 + $1.sequences.count }
            return
        }
        for run in runs {
            var open = takeScratch()
            sessions[slot].appendOpen(in: run.sequences, to: &open)
            // Executed while they were on their way to the others: they will be open when this is applied.
            if rules.completesProposed { sessions[slot].appendProposed(in: run.sequences, to: &open) }
            var fresh = 0
            let isWhole = open.count == 1 && open[0] == run.sequences
            if isWhole || !(rules.dedupsOutcomes && rules.dedupsAfterPrimaryChange) {
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
        flushDeliveries(out: &out)
    }

    /// A new primary does not know yet what is open: the entry changes what is when it is applied. What a stage calls
    /// cancelled would look like a client's word there, and is executed again instead.
    private mutating func completeLater(
        _ session: SessionID, _ runs: [OutcomeRun], budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        guard role == .primary else { return }
        for run in runs where run.sequences.count > 0 && !run.outcome.isCancelled {
            proposeBounded(run, session, budget: &budget, out: &out)
        }
    }

    /// The outcome, or `badBatch` when it has another number of values than the run has sequences.
    func bounded(_ run: OutcomeRun) -> RunOutcome {
        guard case .values(let items, let mask) = run.outcome else { return run.outcome }
        let count = run.sequences.count
        if items.count == count && (mask?.count ?? count) == count { return run.outcome }
        return .failed(FlockError(.badBatch, "\(items.count) results for \(count) items"))
    }

    /// Proposes an outcome; a value larger than what was reserved for it becomes `resultTooLarge`, and another number
    /// of values than sequences `badBatch` for all.
    mutating func proposeBounded(
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
                ? .failed(
                    FlockError(
                        .resultTooLarge, "a result over \(reserve) bytes, which were reserved",
                        limit: .reservedResultBytes))
                : run.outcome.slice(from: start, count: end - start)
            propose(
                .completed(session, OutcomeRun(sequences: sequences, outcome: outcome)), budget: &budget, out: &out)
            start = end
        }
    }

    mutating func tick(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        if role == .primary && !isAlone { tickPeers(out: &out) }
        noteTakenAlone(budget: &budget, out: &out)
        guard isServing, sessionsDue <= now else { return }
        sessionsDue = .never
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

    mutating func tickSession(_ slot: Int, budget: inout ByteBudget, out: inout [PartitionDirective]) {
        let id = sessions[slot].id
        var runs = takeScratch()
        sessions[slot].takeDue(now: now, into: &runs)
        for run in runs {
            let outcome = OutcomeRun(sequences: run, outcome: .failed(.pastDeadline))
            propose(.completed(id, outcome), local: PartitionLog.Local(revokes: true), budget: &budget, out: &out)
        }
        flushDeliveries(out: &out)
        runs.removeAll(keepingCapacity: true)
        sessions[slot].takeExpired(now: now, into: &runs)
        for run in runs { propose(.expired(id, run), budget: &budget, out: &out) }
        scratch = runs
        if sessions[slot].idleEnd(idleTime) <= now {
            counters.idleSessions += 1
            sessions[slot].isClosing = true
            propose(.closeSession(id), budget: &budget, out: &out)
        }
    }

    mutating func noteWake(_ slot: Int) {
        guard isServing else { return }
        sessionsDue = min(sessionsDue, sessions[slot].wake(idleTime: idleTime))
    }

    mutating func takeScratch() -> [SequenceRun] {
        var taken: [SequenceRun] = []
        swap(&taken, &scratch)
        taken.removeAll(keepingCapacity: true)
        return taken
    }

    mutating func deliver(_ run: OutcomeRun, slot: Int, out: inout [PartitionDirective]) {
        let bytes = run.outcome.byteCount
        let isFull = delivering.count >= limits.runsPerFrame || deliveringBytes + bytes > limits.frameBytes / 4
        if isFull || slot != deliveringSlot { flushDeliveries(out: &out) }
        deliveringSlot = slot
        delivering.append(run)
        deliveringBytes += bytes
    }

    mutating func flushDeliveries(out: inout [PartitionDirective]) {
        guard !delivering.isEmpty else { return }
        if let subscriber = sessions[deliveringSlot].subscriber {
            out.append(
                .deliver(subscriber: subscriber, session: sessions[deliveringSlot].id, runs: delivering))
        }
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
