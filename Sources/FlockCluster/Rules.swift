// Flockwork · Apache-2.0 · see LICENSE

// Every rule of the protocol that can be left out, as a field. A product runs with `.all`. The simulator runs each
// mutant (one field turned off) to prove that its checker would see the rule's absence.

/// Which rules of the cluster's protocol are kept.
struct Rules: Sendable, Equatable {
    /// Nothing is acknowledged before the flush that holds it is on the disk. Without: power loss takes what was
    /// accepted.
    var syncsBeforeAck = true

    /// All of them: the protocol.
    static let all = Rules()
}
