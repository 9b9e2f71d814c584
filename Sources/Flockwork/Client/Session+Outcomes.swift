// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The loop's side of a session: outcomes go to those who wait for them, and the inbox hears what was taken.

extension Session {
    func received(_ part: StreamPart) {
        if !part.outcomes.isEmpty { followed(part.outcomes) }
        if port.isRouted, part.accepted != nil || !part.outcomes.isEmpty { loopState.with { $0.lostSince = nil } }
        var answered: [SequenceRun] = []
        var posted: [OutcomeRun] = []
        for outcome in part.outcomes {
            if resumed.load(ordering: .relaxed) {
                for fresh in loopState.with({ $0.taken.missing(in: outcome.sequences) }) {
                    let offset = Int(fresh.first - outcome.sequences.first)
                    posted.append(
                        OutcomeRun(sequences: fresh, outcome: outcome.outcome.slice(from: offset, count: fresh.count)))
                }
                continue
            }
            for (run, addressee) in loopState.with({ $0.sent.deliver(outcome) }) {
                switch addressee {
                case .callers:
                    if answered.isEmpty { gather() }
                    answer(run)
                    answered.append(run.sequences)
                case .outbox: posted.append(run)
                case .nobody: answered.append(run.sequences)
                }
            }
        }
        let accepted = loopState.with { state in
            let accepted = state.sent.takeAccepted(through: part.accepted ?? 0)
            state.sent.trim()
            return accepted
        }
        if !answered.isEmpty { noteAnswer() }
        for caller in accepted { caller.resume(returning: nil) }
        if !posted.isEmpty { outbox.put(posted, from: self) }
        if !answered.isEmpty { tell(answered) }
        if let refused = part.refused { refuse(from: refused.from, refused.error) }
    }

    private func answer(_ run: OutcomeRun) {
        let first = run.sequences.first
        switch run.outcome {
        case .values(let items, let filtered):
            let isSmall =
                filtered == nil
                && items.forEachSmall { index, item in
                    takeSlot(first + UInt64(index))?.resume(returning: .small(item))
                }
            if isSmall { return }
            let answered = AnsweredRun(items)
            for index in 0..<run.sequences.count {
                let isFiltered = filtered?[index] == true
                takeSlot(first + UInt64(index))?.resume(
                    returning: isFiltered ? .filtered : .value(answered, index: index))
            }
        case .filtered:
            for index in 0..<run.sequences.count { takeSlot(first + UInt64(index))?.resume(returning: .filtered) }
        case .failed(let error):
            let failed = Answer.failed(error)
            for index in 0..<run.sequences.count { takeSlot(first + UInt64(index))?.resume(returning: failed) }
        }
    }

    func takeSlot(_ sequence: UInt64) -> UnsafeContinuation<Answer, Never>? {
        let slot = Int(sequence & mask)
        defer { slots[slot] = nil }
        return slots[slot]
    }

    /// Notes what was taken; tells the inbox with the next submit, at the latest soon.
    func tell(_ sequences: [SequenceRun]) {
        let (base, isMuch, isQuiet) = loopState.with { state -> (UInt64, Bool, Bool) in
            for run in sequences {
                for fresh in state.taken.insert(run) {
                    if let last = state.untold.last, last.end == fresh.first {
                        state.untold[state.untold.count - 1].count += fresh.count
                    } else {
                        state.untold.append(fresh)
                    }
                    state.untoldItems += fresh.count
                }
            }
            let isMuch = state.untoldItems >= token.window / 8 || state.untold.count >= port.limits.runsPerFrame / 2
            return (state.taken.base, isMuch, state.tellTimer == nil && state.untoldItems > 0)
        }
        let woken = pending.withLock { pending in
            pending.base = max(pending.base, base)
            return pending.wakeable()
        }
        for caller in woken { caller.resume() }
        if isMuch {
            tellNow()
        } else if isQuiet {
            let timer = port.loop.schedule(after: .milliseconds(20)) {
                self.loopState.with { $0.tellTimer = nil }
                self.tellNow()
            }
            loopState.with { $0.tellTimer = timer }
        }
    }

    func tellNow() {
        guard loopState.with({ $0.isAttached && $0.untoldItems > 0 }) else { return }
        port.submit(nextMessage())
    }

    /// The inbox took nothing from `first` on. Callers hear it, and the sequences are given up.
    func refuse(from first: UInt64, _ error: FlockError) {
        // A refusal of what was given up already, on its way when that was told: it says nothing of later requests.
        guard loopState.with({ first >= $0.givenUp }) else { return }
        if isPassing(error, from: first) { return sendAgain(from: first, after: error) }
        let open = loopState.with { $0.sent.open(from: first) }
        guard let last = open.last else { return }
        let run = SequenceRun(first: first, count: Int(last.end - first))
        loopState.with { state in
            state.givenUp = last.end
            state.givenUpRun = run
        }
        fail(open, with: error)
        port.cancel(CancelMessage(key: token.key, sequences: run))
    }

    /// Ends open requests on the client's side.
    func fail(_ runs: [SequenceRun], with error: FlockError) {
        for run in runs {
            let waiting = loopState.with { $0.sent.takeAcceptances(in: run) }
            let parts = loopState.with { $0.sent.deliver(OutcomeRun(sequences: run, outcome: .failed(error))) }
            for (part, addressee) in parts {
                switch addressee {
                case .callers:
                    answer(part)
                    tell([part.sequences])
                case .outbox:
                    // A post that still waits for acceptance throws; any other one hears it in the outbox.
                    let thrown = SequenceSet(of: waiting.map(\.requests))
                    let heard = thrown.missing(in: part.sequences)
                    outbox.put(heard.map { OutcomeRun(sequences: $0, outcome: part.outcome) }, from: self)
                    tell(SequenceSet(of: heard).missing(in: part.sequences))
                case .nobody: tell([part.sequences])
                }
            }
            for acceptance in waiting { acceptance.caller.resume(returning: error) }
        }
        loopState.with { $0.sent.trim() }
    }
}
