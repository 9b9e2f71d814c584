// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The end of a process in a chosen moment, for tests only: `package`, so that no user of the library can ask for it,
// and a comparison with nil in a node that was not given one.

/// A moment in the life of a request at its partition's primary, or of a copy that is made. What "was sent" is with the
/// kernel.
package enum CrashMoment: String, CaseIterable, Sendable {
    /// A client's run came; nothing was done about it.
    case submitCame
    /// Its entry was sent to the other copies.
    case acceptSent
    /// One of them has it, and this node has not taken note of that.
    case acceptCopied
    /// It is committed, and nobody was told.
    case acceptCommitted
    /// The client was told.
    case acceptSaid
    /// This node's stages are about to get it.
    case runTaken
    /// The stages are done with it, and nobody was told.
    case outcomeMade
    /// The outcome's entry was sent to the other copies.
    case outcomeSent
    /// One of them has it, and this node has not taken note of that.
    case outcomeCopied
    /// It is committed, and the client was not told.
    case outcomeCommitted
    /// The client was told.
    case outcomeSaid
    /// The client has said that it has it; nothing was done about that.
    case outcomeTaken
    /// A part of a copy was sent to a learner.
    case snapshotSent
    /// A part of a copy came, and the learner has not looked at it.
    case snapshotCame
    /// A primary has told the voters that a learner has all.
    case learnerReported
}

/// Watches what a node hears and does, and ends the process when the moment has come. On the loop, but for `arm`.
package final class CrashPoint: Sendable {
    private struct State {
        /// The entry of a run, or of an outcome, that was sent to the other copies last.
        var sent: [PartitionID: UInt64] = [:]
        /// It is time as soon as what is about to leave has left.
        var isDue = false
    }

    private let moment: CrashMoment
    private let isArmed: Atomic<Bool>
    private let state = Mutex(State())
    private let crash: @Sendable (CrashMoment) -> Void

    /// `crash` ends the process; it is called when the moment comes for the first time after `arm`.
    package init(_ moment: CrashMoment, isArmed: Bool, crash: @escaping @Sendable (CrashMoment) -> Void) {
        self.moment = moment
        self.isArmed = Atomic(isArmed)
        self.crash = crash
    }

    /// The next time it is.
    package func arm() { isArmed.store(true, ordering: .releasing) }

    /// Before the node hears of it.
    func sees(_ event: NodeEvent) {
        guard isArmed.load(ordering: .acquiring) else { return }
        let seen: CrashMoment? =
            switch event {
            case .call(_, _, .submit): .submitCame
            case .call(_, _, .ack(_, _, _, let runs, _)) where !runs.isEmpty: .outcomeTaken
            case .executed(_, let outcomes, _, _) where !outcomes.isEmpty: .outcomeMade
            case .message(_, .replication(_, _, _, .snapshot)): .snapshotCame
            case .message(_, .replication(_, _, let partition, .appended(_, let through, _))):
                // Only entries that this moment is about are noted.
                state.withLock { $0.sent[partition].map { through >= $0 } ?? false } ? moment : nil
            default: nil
            }
        if seen == moment { crash(moment) }
    }

    /// Before it is carried out.
    func sees(_ directive: NodeDirective) {
        guard isArmed.load(ordering: .acquiring) else { return }
        switch (moment, directive) {
        case (.acceptCommitted, .answer(_, _, .accepted)), (.runTaken, .execute), (.outcomeCommitted, .push):
            crash(moment)
        case (.acceptSaid, .answer(_, _, .accepted)), (.outcomeSaid, .push),
            (.snapshotSent, .send(_, .replication(_, _, _, .snapshot))),
            (.learnerReported, .send(_, .control(.report(.caughtUp, _)))):
            state.withLock { $0.isDue = true }
        case (_, .send(_, .replication(_, _, let partition, .append(let append)))):
            guard let entry = append.entries.last(where: { isAwaited($0.operation) }) else { return }
            state.withLock { state in
                state.sent[partition] = entry.index
                state.isDue = moment == .acceptSent || moment == .outcomeSent
            }
        default: return
        }
    }

    private func isAwaited(_ operation: PartitionOperation) -> Bool {
        switch (moment, operation) {
        case (.acceptSent, .accept), (.acceptCopied, .accept): true
        case (.outcomeSent, .completed), (.outcomeCopied, .completed): true
        default: false
        }
    }

    /// All that the turn has to say was handed to the connections, which are written to before the next one.
    func turnEnds(on loop: EventLoop) {
        guard state.withLock({ $0.isDue }) else { return }
        loop.schedule(after: .zero) { [moment, crash] in crash(moment) }
    }
}
