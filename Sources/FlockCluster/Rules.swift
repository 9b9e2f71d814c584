// Flockwork · Apache-2.0 · see LICENSE

// Every rule of the protocol that can be left out, as a field. A product runs with `.all`. The simulator runs each
// mutant (one field turned off) to prove that its checker would see the rule's absence.

/// Which rules of the cluster's protocol are kept.
struct Rules: Sendable, Equatable {
    /// All of them: the protocol.
    static let all = Rules()

    // MARK: Control

    /// A voter answers a prepare only with its promise on disk. Without it, a restarted voter helps two states of one
    /// version to be chosen (C1).
    var persistsPromise = true
    /// R4: who is only suspected stays in sync if too few would be left. Without it, suspicion and one crash together
    /// lose what f failures must not.
    var keepsMinimumInSync = true
    /// R5: one step of a move per view, the new copy in sync before the old one goes. Without it, two copies of a
    /// partition are exchanged at once, and one crash loses it.
    var movesOneAtATime = true
    /// A leaving member goes when others have its partitions. Without it, its copies go with it.
    var handsOverBeforeLeaving = true
    /// A reset connection only makes voters look. Without it, a network's hiccup declares a process dead, whose copies
    /// then are thrown away while it lives.
    var resetIsNotDeath = true
    /// Only a chosen state is installed. Without it, a voter installs what it accepted, and two processes see two
    /// states of one version (C1).
    var installsAgreedOnly = true
}
