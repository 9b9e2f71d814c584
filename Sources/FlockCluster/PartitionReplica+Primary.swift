// Flockwork · Apache-2.0 · see LICENSE

// What the primary does for the other replicas: it sends them what they lack, commits what all have that count, and
// reports who caught up and who lags.

internal import FlockWire

extension PartitionReplica {
    /// After each event: entries to the disk, what is everywhere is committed, the others get what they lack.
    mutating func settle(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        if role == .primary && isServing { noteTakenWithOthers(budget: &budget, out: &out) }
        if isDurable && handed < log.last { handOut(&out) }
        guard role == .primary else { return }
        advance(budget: &budget, out: &out)
        trim()
        peersDue = .never
        for place in peers.indices {
            feed(place, out: &out)
            peersDue = min(peersDue, peers[place].arm(now: local))
        }
        dispatchEarly(&out)
        isAlone =
            isServing && peers.isEmpty && !isDurable && history.limit == 0 && isSufficient && log.applied == log.last
            && taken.sessions.isEmpty
    }

    private mutating func handOut(_ out: inout [PartitionDirective]) {
        let first = max(handed, log.start)
        out.append(.persist(first: first + 1, log.entries(after: first, bytes: .max / 2)))
        handed = log.last
    }

    mutating func persisted(through: UInt64, epoch: UInt64, out: inout [PartitionDirective]) {
        // What was truncated since has another epoch at that index.
        guard isDurable, through < log.start || log.epoch(at: through) == epoch, through > synced else { return }
        synced = through
        if role == .backup || role == .learner, let primary = seats.primary { acknowledge(to: primary, out: &out) }
    }

    // MARK: Commit

    /// Copies enough to accept anything (S6).
    var isSufficient: Bool { seats.inSync.count >= minimumInSync || !rules.refusesBelowMinimum }

    /// Commits what this replica, all in sync and the learners that were reported have.
    private mutating func advance(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        guard isSufficient else { return }
        var index = isDurable && rules.syncsBeforeAck ? synced : log.last
        if rules.awaitsInSync {
            for peer in peers where peer.isInSync || (peer.isReported && rules.waitsForReportedLearner) {
                index = min(index, peer.acked)
            }
        }
        guard index > log.committed, index >= epochIndex else { return }
        commit(through: index, budget: &budget, out: &out)
        if noticeDue == .never && !peers.isEmpty { noticeDue = local + times.notice }
    }

    /// Runs whose entries are on their way to all copies that count are executed meanwhile. What becomes of them is in
    /// the log behind them, so nobody sees it before they are accepted. On their way they must be: the next primary has
    /// to know of a request that kills this process.
    private mutating func dispatchEarly(_ out: inout [PartitionDirective]) {
        guard isServing, log.last > max(dispatched, log.applied) else { return }
        var through = log.last
        var copies = 0
        for peer in peers where peer.isInSync {
            copies += 1
            through = min(through, peer.sent)
        }
        var index = max(dispatched, log.applied)
        guard copies > 0, through > index else { return }
        while index < through {
            index += 1
            let entry = log.entry(at: index)
            guard case .accept(let id, let run, _) = entry.operation, let slot = sessions.slot(of: id) else { continue }
            dispatch(run, slot: slot, deadline: run.deadline.map { entry.time + $0 }, out: &out)
        }
        dispatched = through
    }

    /// Drops what all others have and know to be committed. A learner cannot keep the log for ever: it gets a snapshot.
    private mutating func trim() {
        guard log.applied > log.start else { return }
        let isLong = log.keptBytes > limits.replicationLogBytes
        var floor = log.applied
        for peer in peers where peer.isInSync || peer.isReported || !isLong { floor = min(floor, peer.floor) }
        log.trim(through: floor)
    }

    // MARK: Sending

    /// Sends what that replica lacks, as far as its window allows.
    private mutating func feed(_ place: Int, out: inout [PartitionDirective]) {
        if peers[place].transfer == nil && peers[place].sent < log.start { beginTransfer(place) }
        if peers[place].transfer != nil { return feedTransfer(place, out: &out) }
        while peers[place].sent < log.last {
            let base = max(peers[place].base, log.start)
            guard log.bytes(after: base, through: peers[place].sent) < limits.replicationWindowBytes else { break }
            let entries = log.entries(after: peers[place].sent, bytes: limits.replicationMessageBytes)
            send(entries, to: place, out: &out)
        }
    }

    private mutating func send(_ entries: [LogEntry], to place: Int, out: inout [PartitionDirective]) {
        let previous = peers[place].sent
        guard let epoch = log.epoch(at: previous) else {
            preconditionFailure("\(partition): no entry \(previous) for \(peers[place].member)")
        }
        let message = ReplicationAppend(
            epoch: seats.epoch, previousIndex: previous, previousEpoch: epoch, commit: log.committed, held: log.start,
            entries: entries)
        out.append(.send(peers[place].member, .append(message)))
        peers[place].sent += UInt64(entries.count)
        peers[place].told = log.committed
    }

    /// Something new was heard of that replica: the next pause is short again.
    private mutating func heard(_ place: Int) {
        peers[place].pause = times.resendMinimum
        peers[place].resendAt = .never
    }

    mutating func tickPeers(out: inout [PartitionDirective]) {
        if noticeDue <= local {
            noticeDue = .never
            for place in peers.indices { notify(place, out: &out) }
        }
        guard peersDue <= local else { return }
        for place in peers.indices where peers[place].resendAt <= local {
            counters.resends += 1
            reportLag(place, out: &out)
            peers[place].sent = peers[place].base
            let received = peers[place].transfer?.received ?? 0
            peers[place].transfer?.sent = received
            peers[place].pause = min(peers[place].pause * 2, times.resendMaximum)
            peers[place].resendAt = local + peers[place].pause
            if let since = waitingSince(place) {
                let due = processTime(since + times.lagging)
                if due > local { peers[place].resendAt = min(peers[place].resendAt, due) }
            }
            if peers[place].sent == log.last { peers[place].told = 0 }
            notify(place, out: &out)
        }
    }

    /// Tells the commit index if nothing else will.
    private mutating func notify(_ place: Int, out: inout [PartitionDirective]) {
        let peer = peers[place]
        guard peer.sent == log.last, peer.transfer == nil, peer.told < log.committed, peer.sent >= log.start
        else { return }
        send([], to: place, out: &out)
    }

    // MARK: Hearing

    mutating func acknowledged(
        by other: MemberNumber, through: UInt64, committed: UInt64, out: inout [PartitionDirective]
    ) {
        guard let place = peers.firstIndex(where: { $0.member == other }) else { return }
        if !(through <= log.last) {
            broken("\(other) has \(through) of \(partition), which ends at \(log.last)")
        }
        let through = min(through, log.last)
        if through > peers[place].acked || committed > peers[place].committed { heard(place) }
        peers[place].acked = max(peers[place].acked, through)
        peers[place].committed = max(peers[place].committed, committed)
        peers[place].base = max(peers[place].base, through)
        peers[place].sent = max(peers[place].sent, through)
        if let transfer = peers[place].transfer, through >= transfer.index { peers[place].transfer = nil }
        reportCaughtUp(place, out: &out)
    }

    /// That replica lacks what comes before the entries sent. Its log is this one's up to its last entry if that has
    /// the same epoch here, and else up to what it knows as committed.
    mutating func mismatched(by other: MemberNumber, committed: UInt64, last: UInt64, lastEpoch: UInt64) {
        guard let place = peers.firstIndex(where: { $0.member == other }), peers[place].transfer == nil else { return }
        let at = last >= committed && log.epoch(at: last) == lastEpoch ? last : committed
        if !(at <= log.last) {
            broken("P2: \(other) knows entry \(at) of \(partition), which ends at \(log.last)")
        }
        // An old one that was overtaken, or one of many because a message was lost: the first has done it.
        guard at >= peers[place].acked, at <= log.last else { return }
        if at == peers[place].base && peers[place].sent > at && peers[place].resendAt != .never { return }
        peers[place].base = at
        peers[place].sent = at
        heard(place)
    }

    // MARK: Reports

    /// From here on commits wait for the learner (R3), which has all that was committed without it.
    private mutating func reportCaughtUp(_ place: Int, out: inout [PartitionDirective]) {
        let peer = peers[place]
        guard !peer.isInSync, !peer.isReported, peer.acked >= log.committed, peer.acked >= epochIndex else { return }
        peers[place].isReported = true
        out.append(.report(.caughtUp(partition, epoch: seats.epoch, peer.member)))
    }

    /// Since when commits wait for that replica; nil if they do not.
    private func waitingSince(_ place: Int) -> Tick? {
        let peer = peers[place]
        guard peer.isInSync || peer.isReported, peer.acked < log.last else { return nil }
        return max(log.entry(at: max(peer.acked, log.start) + 1).time, epochStart)
    }

    private mutating func reportLag(_ place: Int, out: inout [PartitionDirective]) {
        guard let since = waitingSince(place), now >= since + times.lagging, local >= peers[place].mayReportAt
        else { return }
        peers[place].mayReportAt = local + 2 * times.lagging
        out.append(.report(.lagging(partition, epoch: seats.epoch, peers[place].member)))
    }

    // MARK: Snapshots

    private mutating func beginTransfer(_ place: Int) {
        peers[place].transfer = SnapshotTransfer(index: log.applied, parts: snapshotParts())
    }

    /// The state after the last entry that was applied.
    private func snapshotParts() -> [SnapshotPart] {
        guard let entryEpoch = log.epoch(at: log.applied) else {
            preconditionFailure("\(partition): no entry \(log.applied)")
        }
        let parts = sessions.parts(of: limits.replicationMessageBytes)
        return parts.enumerated().map { number, sessions in
            SnapshotPart(
                epoch: seats.epoch, index: log.applied, entryEpoch: entryEpoch, time: log.lastTime, hash: history.hash,
                nextSession: nextSession, number: number, count: parts.count, sessions: sessions)
        }
    }

    /// All that this copy has: the state after what was applied, and the log beyond that.
    func snapshot() -> (parts: [SnapshotPart], tail: [LogEntry]) {
        (snapshotParts(), log.applied < log.last ? log.entries(after: log.applied, bytes: .max / 2) : [])
    }

    private mutating func feedTransfer(_ place: Int, out: inout [PartitionDirective]) {
        guard var transfer = peers[place].transfer else { return }
        while transfer.sent < transfer.parts.count && transfer.sent < transfer.received + 4 {
            out.append(.send(peers[place].member, .snapshot(transfer.parts[transfer.sent])))
            transfer.sent += 1
        }
        peers[place].transfer = transfer
    }

    mutating func received(parts: Int, at index: UInt64, by other: MemberNumber) {
        guard let place = peers.firstIndex(where: { $0.member == other }), var transfer = peers[place].transfer,
            transfer.index == index, parts > transfer.received
        else { return }
        heard(place)
        transfer.received = min(parts, transfer.parts.count)
        transfer.sent = max(transfer.sent, transfer.received)
        peers[place].transfer = transfer
        guard transfer.received == transfer.parts.count else { return }
        peers[place].transfer = nil
        peers[place].committed = max(peers[place].committed, index)
        peers[place].base = max(peers[place].acked, index)
        peers[place].sent = peers[place].base
    }
}
