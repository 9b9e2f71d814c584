// Flockwork · Apache-2.0 · see LICENSE

// Roles come from installed views. Within an epoch they never change, so all that a replica knows of others is thrown
// away with each epoch; its log and its state stay.

internal import FlockWire

extension PartitionReplica {
    mutating func install(
        _ new: PartitionSeats?, minimumInSync: Int, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        guard let new, new.holds(member) else {
            if let new, new.epoch <= seats.epoch { return }
            if role != .none { leave(budget: &budget, out: &out) }
            if let new { seats = new }
            return
        }
        guard new.epoch >= seats.epoch else { return }
        self.minimumInSync = minimumInSync
        isAlone = false
        guard new.epoch > seats.epoch else {
            if !rules.bumpsEpochForLearners { changeLearners(new) }
            return
        }
        if (role != .none || log.last > 0) && new.generation != seats.generation { leave(budget: &budget, out: &out) }
        let wasPrimary = role == .primary
        seats = new
        log.epoch = new.epoch
        matched = log.committed
        arriving = []
        if new.primary == member {
            if !(new.inSync.contains(member)) {
                broken("R1: \(member) leads \(partition) out of sync: \(new)")
            }
            lead(continuing: wasPrimary, out: &out)
        } else {
            if wasPrimary { demote(budget: &budget, out: &out) }
            role = new.inSync.contains(member) ? .backup : .learner
            if let primary = new.primary { out.append(.send(primary, mismatch)) }
        }
    }

    /// The mutant of `Rules.bumpsEpochForLearners`: others come and go within an epoch, and who comes again is taken
    /// for the one that went.
    private mutating func changeLearners(_ new: PartitionSeats) {
        guard role == .primary else { return }
        seats = new
        former += peers.filter { !new.holds($0.member) }
        peers.removeAll { !new.holds($0.member) }
        for learner in new.learners where !peers.contains(where: { $0.member == learner }) {
            let known = former.last { $0.member == learner }
            peers.append(
                known ?? ReplicationPeer(learner, isInSync: false, base: log.last, pause: times.resendMinimum))
        }
    }

    /// The primary that goes on in a new epoch keeps what it proposed and whom it has to answer: nobody else could have
    /// committed anything since, as that would have needed this member in sync.
    private mutating func lead(continuing: Bool, out: inout [PartitionDirective]) {
        let before = peers
        role = .primary
        if !continuing {
            // Partition time goes on where the log ends, whatever this process's clock says.
            now = log.last == 0 ? local : log.lastTime
            shift = Int64(bitPattern: now.nanoseconds &- local.nanoseconds)
            (proposedSession, proposedOpens) = (nextSession, 0)
        }
        peers = []
        former = []
        for (place, other) in (seats.inSync + seats.learners).enumerated() where other != member {
            let known = before.first { $0.member == other }
            peers.append(
                ReplicationPeer(
                    other, isInSync: place < seats.inSync.count, base: known.map { $0.acked } ?? log.last,
                    pause: times.resendMinimum))
        }
        log.append(.epoch(seats.epoch), time: now, local: .none)
        epochIndex = log.last
        epochStart = now
        noticeDue = .never
        if !rules.servesAfterEpochEntry && !isServing { serve(out: &out) }
    }

    /// The epoch's entry is committed, and with it all that came before.
    mutating func serve(out: inout [PartitionDirective]) {
        isServing = true
        dispatched = log.applied
        forgetTaken()
        sessionsDue = .never
        for place in 0..<sessions.count {
            let slot = sessions.slot(at: place)
            sessions[slot].takeOver(now: now)
            noteWake(slot)
        }
        (proposedSession, proposedOpens) = (nextSession, 0)
        out.append(.serving)
    }

    /// What it proposed may be committed by the next primary or not: nobody here knows.
    private mutating func demote(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        for local in log.takeLocals() { giveUp(local, budget: &budget, out: &out) }
        for place in 0..<sessions.count { sessions[sessions.slot(at: place)].takeOver(now: now) }
        peers = []
        (peersDue, noticeDue) = (.never, .never)
        forgetTaken()
        isAlone = false
        if isServing { out.append(.demoted) }
        isServing = false
    }

    mutating func giveUp(_ local: PartitionLog.Local, budget: inout ByteBudget, out: inout [PartitionDirective]) {
        budget.withdraw(local.charge)
        if let reply = local.reply { out.append(.failed(reply: reply, error: notServing)) }
    }

    /// The copy is given up: it has no seat any more, or everything in the partition was declared lost.
    private mutating func leave(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        if role == .primary { demote(budget: &budget, out: &out) }
        role = .none
        clear(budget: &budget, out: &out)
        log = PartitionLog(epoch: seats.epoch)
        nextSession = 0
        history.clear(to: 0)
        (matched, handed, synced) = (0, 0, 0)
        arriving = []
    }

    /// All sessions go.
    mutating func clear(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        for place in 0..<sessions.count {
            let slot = sessions.slot(at: place)
            if sessions[slot].subscriber != nil { out.append(.sessionClosed(sessions[slot].id)) }
            sessions[slot].release(budget: &budget)
        }
        sessions = SessionTable()
        openItems = 0
    }

    /// A broken invariant: a trap, unless a rule was left out in order to see it.
    mutating func broken(_ text: String) {
        precondition(rules != .all, text)
        if violation == nil { violation = text }
    }
}
