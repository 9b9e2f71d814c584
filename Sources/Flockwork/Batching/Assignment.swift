// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// Outcomes for one session.
struct SessionOutcomes: Sendable {
    var place: SessionPlace
    var runs: [OutcomeRun]
}

/// How a run of requests ended at the stages.
enum RunEnding: Sendable {
    /// Every item has an outcome.
    case done([OutcomeRun])
    /// Nobody waits for it any more.
    case revoked
    /// Whoever had it gave no outcome: its node was lost, or it took too long.
    case lost
    /// It was never handed to anybody.
    case returned
}

/// Who hears what became of runs that were given to a lane. Called on the loop, once for every item.
final class Assignment: Sendable {
    private let onEnd: @Sendable (RequestRun, RunEnding) -> Void

    init(onEnd: @escaping @Sendable (RequestRun, RunEnding) -> Void) {
        self.onEnd = onEnd
    }

    /// The run, or a part of it, has ended.
    func ended(_ run: RequestRun, _ ending: RunEnding) { onEnd(run, ending) }
}
