// Flockwork · Apache-2.0 · see LICENSE

// Every rule of the protocol that can be left out, as a field. A product runs with `.all`. The simulator runs each
// mutant (one field turned off) to prove that its checker would see the rule's absence.

/// Which rules of the cluster's protocol are kept.
package struct Rules: Sendable, Equatable {
    /// Nothing is acknowledged before it is on the disk. Without: power loss takes accepted requests.
    package var syncsBeforeAck = true
    /// Entries commit when every replica in sync has them. Without: a crash of the primary takes accepted requests.
    package var awaitsInSync = true
    /// Replicas take messages of their own epoch only (E1). Without: a primary that was replaced goes on and cuts logs.
    package var checksEpoch = true
    /// Outcomes are seen when they are committed. Without: a client reads one that the next primary does not have.
    package var publishesCommittedOnly = true
    /// The first outcome in the log is the request's. Without: a request that ran twice is answered twice.
    package var dedupsOutcomes = true
    /// The same for outcomes that an earlier primary committed. Without: a primary change forgets who has an outcome.
    package var dedupsAfterPrimaryChange = true
    /// Commits wait for learners that were reported as caught up (R3). Without: one gets in sync with a gap.
    package var waitsForReportedLearner = true
    /// Nothing commits with fewer replicas in sync than the minimum (S6). Without: the last copy accepts, and is lost.
    package var refusesBelowMinimum = true
    /// A new primary answers when the entry of its epoch is committed (R6). Without: it does not know what it has.
    package var servesAfterEpochEntry = true
    /// Outcomes live by the time of the log's entries. Without: replicas disagree about what has expired.
    package var usesPartitionTime = true

    /// A session is called unknown when an entry commits after the question. Without: a primary that was replaced, and
    /// does not know it, denies the sessions of its successor.
    package var confirmsUnknown = true

    /// What was executed before it was accepted has its outcome when it is. Without: nobody executes it again, and it
    /// never gets one.
    package var completesProposed = true

    // MARK: Control

    /// A voter answers a prepare only with its promise on disk. Without it, a restarted voter helps two states of one
    /// version to be chosen (C1).
    package var persistsPromise = true
    /// R4: who is only suspected stays in sync if too few would be left. Without it, suspicion and one crash together
    /// lose what f failures must not.
    package var keepsMinimumInSync = true
    /// R5: one step of a move per view, the new copy in sync before the old one goes. Without it, two copies of a
    /// partition are exchanged at once, and one crash loses it.
    package var movesOneAtATime = true
    /// A leaving member goes when others have its partitions. Without it, its copies go with it.
    package var handsOverBeforeLeaving = true
    /// A voter is removed when a majority of the others votes. Without it, those that are left may have no majority
    /// with a record, and no view ever changes again.
    package var asksRemainingVoters = true
    /// Who is drained leads nothing. Without it, a drained node that is stopped stops what it led.
    package var relievesDrained = true
    /// A suspended pipeline accepts nothing new. Without it, work comes in that an operator has shut out.
    package var refusesSuspended = true
    /// A reset connection only makes voters look. Without it, a network's hiccup declares a process dead, whose copies
    /// then are thrown away while it lives.
    package var resetIsNotDeath = true
    /// Only a chosen state is installed. Without it, a voter installs what it accepted, and two processes see two
    /// states of one version (C1).
    package var installsAgreedOnly = true

    /// A change of learners is a new epoch too. Without: one that went and came back empty is taken for the one that
    /// acknowledged.
    package var bumpsEpochForLearners = true

    // MARK: The composed node

    /// Seats are agreed on in views. Without: whoever cannot reach a primary takes its place, and two members commit in
    /// one epoch.
    package var agreesOnOwnership = true
    /// A run that was on a process that died is executed in halves, apart from others. Without: a request that kills
    /// its process takes those beside it along, as poison.
    package var partsAfterDeath = true
    /// A suspect request that only its own primary can execute is counted in the log before it begins. Without: nobody
    /// knows that the primary died of it, and it kills one process after another.
    package var countsAtHome = true
    /// Who has no share of a stage any more ends its instances. Without: a stage of one instance has two.
    package var followsPlacement = true
    /// What a host has answered may be sent to it again. Without: a dispatcher runs dry.
    package var returnsCredits = true

    /// All of them: the protocol.
    package static let all = Rules()
}
