// Flockwork · Apache-2.0 · see LICENSE

// A durable replica comes back with what its disk holds: a state, and the entries after it. Which of these are
// committed it does not know; whoever is primary will tell.

internal import FlockWire

extension PartitionReplica {
    /// Takes what the disk holds, before the first view. The snapshot may be empty (the log begins at its start);
    /// `entries` follow it without a gap and are on the disk. Appends the report that lets control seat it again.
    mutating func recover(
        _ snapshot: [SnapshotPart], _ entries: [LogEntry], generation: UInt16, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        precondition(role == .none && log.last == 0 && isDurable, "\(partition) recovers as \(role) at \(log.last)")
        seats.generation = generation
        adopt(snapshot, budget: &budget)
        for entry in entries { log.append(entry) }
        (handed, synced) = (log.last, log.last)
        out.append(.report(.rejoined(partition, member, lastEpoch: log.lastEpoch, lastIndex: log.last)))
    }

    /// The state is that of the snapshot, and the log begins after it.
    mutating func adopt(_ parts: [SnapshotPart], budget: inout ByteBudget) {
        guard let head = parts.first else { return }
        log = PartitionLog(epoch: seats.epoch, after: head.index, entryEpoch: head.entryEpoch, time: head.time)
        nextSession = head.nextSession
        history.clear(to: head.hash)
        for snapshot in parts.lazy.flatMap(\.sessions) {
            if sessions.slot(of: snapshot.id) == nil {
                sessions.insert(Session(snapshot, reserve: limits.reservedResultBytes, now: head.time))
            }
            guard let slot = sessions.slot(of: snapshot.id) else { continue }
            let before = sessions[slot].openItems
            sessions[slot].restore(snapshot.entries, budget: &budget)
            openItems += sessions[slot].openItems - before
        }
    }
}
