// Flockwork · Apache-2.0 · see LICENSE

// What replicas hear from each other. A message counts in its own epoch only (E1): a later one waits for the view, an
// earlier one is told so.

internal import FlockWire

extension PartitionReplica {
    mutating func receive(
        _ message: ReplicationMessage, from other: MemberNumber, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        if message.epoch != seats.epoch && (rules.checksEpoch || message.epoch > seats.epoch) {
            return outdated(message, from: other, out: &out)
        }
        switch message {
        case .append(let append): receive(append, from: other, budget: &budget, out: &out)
        case .appended(_, let through, let committed):
            guard role == .primary else { return }
            acknowledged(by: other, through: through, committed: committed, out: &out)
        case .mismatch(_, let committed, let last, let lastEpoch):
            guard role == .primary else { return }
            mismatched(by: other, committed: committed, last: last, lastEpoch: lastEpoch)
        case .snapshot(let part): receive(part, from: other, budget: &budget, out: &out)
        case .received(_, let index, let parts):
            guard role == .primary else { return }
            received(parts: parts, at: index, by: other)
        case .stale: return
        }
    }

    private mutating func outdated(
        _ message: ReplicationMessage, from other: MemberNumber, out: inout [PartitionDirective]
    ) {
        counters.outdated += 1
        if message.epoch > seats.epoch {
            guard message.epoch > heardEpoch else { return }
            heardEpoch = message.epoch
            return out.append(.behind(epoch: message.epoch))
        }
        switch message {
        case .append, .snapshot: out.append(.send(other, .stale(epoch: seats.epoch)))
        case .appended, .mismatch, .received, .stale: return
        }
    }

    /// What the primary has to know in order to begin.
    var mismatch: ReplicationMessage {
        .mismatch(epoch: seats.epoch, committed: log.committed, last: log.last, lastEpoch: log.lastEpoch)
    }

    mutating func acknowledge(to primary: MemberNumber, out: inout [PartitionDirective]) {
        let through = isDurable && rules.syncsBeforeAck ? min(matched, synced) : matched
        out.append(.send(primary, .appended(epoch: seats.epoch, through: through, committed: log.committed)))
        if !seats.recovering.isEmpty { reportRejoined(through, out: &out) }
    }

    /// Back from its disk, it has the entry with which the present primary began, and so all before it: it may become
    /// primary again.
    private mutating func reportRejoined(_ through: UInt64, out: inout [PartitionDirective]) {
        guard isDurable, rejoinedEpoch != seats.epoch, seats.recovering.contains(member),
            log.epoch(at: through) == seats.epoch
        else { return }
        rejoinedEpoch = seats.epoch
        out.append(.report(.rejoined(partition, member, lastEpoch: seats.epoch, lastIndex: through)))
    }

    private var copies: Bool { role == .backup || role == .learner }

    private mutating func receive(
        _ append: ReplicationAppend, from primary: MemberNumber, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        guard copies, primary == seats.primary || !rules.checksEpoch else { return }
        // Up to what is committed here all logs are equal. Beyond that one equal epoch at one index proves it.
        let previous = append.previousIndex
        guard previous <= log.last, previous <= log.committed || log.epoch(at: previous) == append.previousEpoch
        else { return out.append(.send(primary, mismatch)) }
        var end = previous
        let before = log.last
        for entry in append.entries {
            guard entry.index == end + 1 else { return }
            end = entry.index
            if end <= log.committed || log.epoch(at: end) == entry.epoch { continue }
            if end <= log.last { truncate(from: end, budget: &budget, out: &out) }
            if end == log.last + 1 { log.append(entry) }
        }
        matched = max(matched, end)
        let committed = min(append.commit, matched)
        if committed > log.committed { commit(through: committed, budget: &budget, out: &out) }
        log.trim(through: min(append.held, log.applied))
        // What is new is acknowledged when it is on the disk: that comes soon, and says this too.
        let isOnTheWay = isDurable && rules.syncsBeforeAck && log.last > before && synced < matched
        if !isOnTheWay { acknowledge(to: primary, out: &out) }
    }

    /// The primary has something else there. Only what was never committed may go (P2).
    private mutating func truncate(
        from index: UInt64, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        if !(index > log.committed) {
            broken("P2: \(partition) cut at \(index), \(log.committed) are committed")
        }
        if !(index > matched) {
            broken("P2: \(partition) cut at \(index), \(matched) were acknowledged in \(seats.epoch)")
        }
        guard index > log.committed else { return }
        for local in log.truncate(from: index) { giveUp(local, budget: &budget, out: &out) }
        handed = min(handed, index - 1)
        synced = min(synced, index - 1)
        matched = min(matched, index - 1)
    }

    // MARK: Snapshots

    private mutating func receive(
        _ part: SnapshotPart, from primary: MemberNumber, budget: inout ByteBudget, out: inout [PartitionDirective]
    ) {
        guard copies, primary == seats.primary || !rules.checksEpoch else { return }
        let isKnown = part.index <= log.committed || log.epoch(at: part.index) == part.entryEpoch
        if isKnown {
            // It is here already: the log goes on from it, and keeps what comes after it.
            if let index = arriving.first?.index, index <= part.index { arriving = [] }
            matched = max(matched, part.index)
            if part.index > log.committed { commit(through: part.index, budget: &budget, out: &out) }
            out.append(.send(primary, .received(epoch: seats.epoch, index: part.index, parts: part.count)))
            return acknowledge(to: primary, out: &out)
        }
        // A part of an earlier snapshot that was overtaken must not undo what came of this one.
        if let index = arriving.first?.index, index > part.index { return }
        if arriving.first?.index != part.index { arriving = [] }
        if part.number == arriving.count { arriving.append(part) }
        let parts = arriving.count
        if parts == part.count { restore(budget: &budget, out: &out) }
        out.append(.send(primary, .received(epoch: seats.epoch, index: part.index, parts: parts)))
        if parts == part.count { acknowledge(to: primary, out: &out) }
    }

    /// All parts are here: the state is theirs, the log begins after it. What the log held beyond what is committed
    /// differs from the primary's at the snapshot's index, so it never was committed.
    private mutating func restore(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        let parts = arriving
        arriving = []
        guard let head = parts.first else { return }
        for local in log.takeLocals() { giveUp(local, budget: &budget, out: &out) }
        let subscribers = takeSubscribers()
        clear(budget: &budget, out: &out)
        adopt(parts, budget: &budget)
        for (session, subscriber) in subscribers {
            guard let slot = sessions.slot(of: session) else {
                out.append(.sessionClosed(session))
                continue
            }
            attach(subscriber, slot: slot, out: &out)
        }
        matched = head.index
        (handed, synced) = (head.index, 0)
        if isDurable { out.append(.persistSnapshot(parts)) }
    }

    private mutating func takeSubscribers() -> [(SessionID, UInt64)] {
        var result: [(SessionID, UInt64)] = []
        for place in 0..<sessions.count {
            let slot = sessions.slot(at: place)
            guard let subscriber = sessions[slot].subscriber else { continue }
            result.append((sessions[slot].id, subscriber))
            sessions[slot].subscriber = nil
        }
        return result
    }
}
