// Flockwork · Apache-2.0 · see LICENSE

// Every rule of the protocol that can be left out, as a field. A product runs with `.all`. The simulator runs each
// mutant (one field turned off) to prove that its checker would see the rule's absence.

/// Which rules of the cluster's protocol are kept.
struct Rules: Sendable, Equatable {
    /// Nothing is acknowledged before it is on the disk. Without: power loss takes accepted requests.
    var syncsBeforeAck = true
    /// Entries commit when every replica in sync has them. Without: a crash of the primary takes accepted requests.
    var awaitsInSync = true
    /// Replicas take messages of their own epoch only (E1). Without: a primary that was replaced goes on and cuts logs.
    var checksEpoch = true
    /// Outcomes are seen when they are committed. Without: a client reads one that the next primary does not have.
    var publishesCommittedOnly = true
    /// The first outcome in the log is the request's. Without: a request that ran twice is answered twice.
    var dedupsOutcomes = true
    /// The same for outcomes that an earlier primary committed. Without: a primary change forgets who has an outcome.
    var dedupsAfterPrimaryChange = true
    /// Commits wait for learners that were reported as caught up (R3). Without: one gets in sync with a gap.
    var waitsForReportedLearner = true
    /// Nothing commits with fewer replicas in sync than the minimum (S6). Without: the last copy accepts, and is lost.
    var keepsMinimumInSync = true
    /// A new primary answers when the entry of its epoch is committed (R6). Without: it does not know what it has.
    var servesAfterEpochEntry = true
    /// Outcomes live by the time of the log's entries. Without: replicas disagree about what has expired.
    var usesPartitionTime = true

    /// All of them: the protocol.
    static let all = Rules()
}
