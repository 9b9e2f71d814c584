// Flockwork · Apache-2.0 · see LICENSE

// Every rule of the protocol that can be left out, as a field. A product runs with `.all`. The simulator runs each
// mutant (one field turned off) to prove that its checker would see the rule's absence.

/// Which rules of the cluster's protocol are kept.
package struct Rules: Sendable, Equatable {
    /// All of them: the protocol.
    package static let all = Rules()
}
