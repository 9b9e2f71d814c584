// Flockwork · Apache-2.0 · see LICENSE

// What clients have taken need not be kept. Nobody waits for that, so it does not go into the log at once, with a
// message to each copy and a sync of each disk: it waits for other entries, and for more of its kind.

internal import FlockWire

/// Which sessions have told what they took, and when the log has to say it.
struct TakenNotes: Sendable {
    fileprivate(set) var sessions: [SessionID] = []
    /// From then on it goes with other entries.
    fileprivate var joinsAt = Tick.never
    /// Then it goes alone.
    fileprivate(set) var due = Tick.never
    /// The last entry when this was looked at.
    fileprivate var seen: UInt64 = 0

    init() {}
}

/// What a session's client has taken, beyond what the log says.
struct TakenRuns: Sendable {
    private(set) var runs: [SequenceRun] = []
    private(set) var lowestOpen: UInt64 = 0
    private(set) var items = 0

    mutating func add(_ more: [SequenceRun], lowestOpen: UInt64) {
        for run in more {
            runs.appendMerged(run)
            items += run.count
        }
        self.lowestOpen = max(self.lowestOpen, lowestOpen)
    }
}

extension PartitionReplica {
    mutating func acknowledge(
        _ runs: [SequenceRun], lowestOpen: UInt64, slot: Int, reply: UInt64?, budget: inout ByteBudget,
        out: inout [PartitionDirective]
    ) {
        let id = sessions[slot].id
        guard reply == nil, !isAlone else {
            return propose(
                .acked(id, runs, lowestOpen: lowestOpen), local: PartitionLog.Local(reply: reply), budget: &budget,
                out: &out)
        }
        let known = sessions[slot].taken
        if known.map({ $0.runs.count + runs.count > limits.runsPerFrame }) ?? false {
            noteTaken(budget: &budget, out: &out)
        }
        if sessions[slot].taken == nil {
            sessions[slot].taken = TakenRuns()
            taken.sessions.append(id)
        }
        sessions[slot].taken?.add(runs, lowestOpen: lowestOpen)
        if taken.due == .never {
            taken.joinsAt = local + times.taken / 10
            taken.due = local + times.taken
        }
        let items = sessions[slot].taken?.items ?? 0
        let base = sessions[slot].base
        let below = lowestOpen > base ? Int(min(lowestOpen, sessions[slot].next) - base) : 0
        // Its window must not fill up for this.
        if max(items, below) >= sessions[slot].window / 8 { noteTaken(budget: &budget, out: &out) }
    }

    /// The log says now what clients have taken.
    mutating func noteTaken(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        let noted = taken.sessions
        forgetTaken()
        for id in noted {
            guard let slot = sessions.slot(of: id), let taken = sessions[slot].taken else { continue }
            sessions[slot].taken = nil
            propose(.acked(id, taken.runs, lowestOpen: taken.lowestOpen), budget: &budget, out: &out)
        }
    }

    /// The same if this step has appended other entries, and the first note is not quite new.
    mutating func noteTakenWithOthers(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        if log.last != taken.seen && local >= taken.joinsAt { noteTaken(budget: &budget, out: &out) }
        taken.seen = log.last
    }

    /// The same if none came for long. A step for the time's sake: a message that does not count appends nothing (E1).
    mutating func noteTakenAlone(budget: inout ByteBudget, out: inout [PartitionDirective]) {
        if role == .primary && isServing && local >= taken.due { noteTaken(budget: &budget, out: &out) }
    }

    /// Another primary hears from clients itself.
    mutating func forgetTaken() {
        let seen = taken.seen
        taken = TakenNotes()
        taken.seen = seen
    }
}
