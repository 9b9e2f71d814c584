// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Synchronization

/// Outcomes for one session.
struct SessionOutcomes: Sendable {
    var place: SessionPlace
    var runs: [OutcomeRun]
}

/// Runs that were given to a lane together, and who hears what became of them. Used on the loop.
final class Assignment: Sendable {
    private let open: Atomic<Int>
    private let isLost = Atomic(false)
    private let onOutcomes: @Sendable ([SessionOutcomes]) -> Void
    private let onEnd: @Sendable (_ isLost: Bool) -> Void

    /// `onEnd` is called once, when all `items` have ended: with true if some ended without an outcome.
    init(
        items: Int, onOutcomes: @escaping @Sendable ([SessionOutcomes]) -> Void,
        onEnd: @escaping @Sendable (_ isLost: Bool) -> Void
    ) {
        open = Atomic(items)
        self.onOutcomes = onOutcomes
        self.onEnd = onEnd
    }

    /// `items` of it have ended, with these outcomes; `lost`: without, since who had them is gone.
    func ended(_ items: Int, _ outcomes: [SessionOutcomes], lost: Bool) {
        if !outcomes.isEmpty { onOutcomes(outcomes) }
        if lost { isLost.store(true, ordering: .relaxed) }
        let left = open.subtract(items, ordering: .acquiringAndReleasing).newValue
        precondition(left >= 0, "an assignment ended \(-left) items too many")
        if left == 0 { onEnd(isLost.load(ordering: .relaxed)) }
    }
}
