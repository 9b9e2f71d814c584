// Flockwork · Apache-2.0 · see LICENSE

/// A seed that once failed. What it meets today may be something else, since every change of the protocol moves the
/// dice; the tests beside the protocol are what keeps the fault away. Seeds are kept all the same: they cost little.
package struct PinnedSeed: Sendable, CustomStringConvertible {
    package let seed: UInt64
    /// What it found.
    package let found: String
    /// The faults that it met, if they are not those of `all`.
    package let profile: FaultProfile?

    package var description: String { "\(seed)" }

    private init(_ seed: UInt64, _ found: String, profile: FaultProfile? = nil) {
        self.seed = seed
        self.found = found
        self.profile = profile
    }

    /// A seed and the hash of its run, in debug and release. A change of the protocol, or of the simulator's dice,
    /// changes the hash: `make sim` says the new one, and if the debug tests say the same it is written down here.
    package static let compared = (seed: UInt64(878_483_177), hash: "d6c65ccdfca11101")

    /// All of them, in the order in which they were found.
    package static let all = [
        PinnedSeed(18, "a delta left out which processes had been members: two states of one version (C1)"),
        PinnedSeed(41, "a primary that had been replaced denied the sessions of its successor (S1)"),
        PinnedSeed(61, "a stale primary confirmed an outcome that its successor waited for for ever (S1)"),
        PinnedSeed(129, "a request failed between two answers about who holds it, and was forgotten (S1)"),
        PinnedSeed(456_674_727, "a debug build forgot runs that were handed back to be logged (S1), as 878483177"),
        PinnedSeed(7_000_048, "a suspect run went back and forth within a node that had another (a node without rest)"),
        PinnedSeed(878_483_177, "a debug build read freed memory, and a dead member's run was forgotten (S1)"),
        PinnedSeed(300_115, "a learner died that was about to count, and then the primary: two failures, not one"),
        PinnedSeed(96_345_059_063, "a message of an ended epoch came, and its step noted what clients had taken (E1)"),
        PinnedSeed(342_183_962_439, "runs that had an outcome held up suspect ones, half a second each (S1)"),
        PinnedSeed(342_183_962_515, "a learner that caught up and fell silent in between never counted (L5)"),
        PinnedSeed(342_183_961_863, "the same as 342183962439, where requests kill", profile: .poison),
        PinnedSeed(
            5_400_000_294, "a question about an unknown session was sent with the next event (E1)",
            profile: .operators),
        PinnedSeed(
            273_147_203_607, "suspect requests where one process has all instances came out after the end (S1)",
            profile: .poison),
        PinnedSeed(
            612_282_327_895, "after three outages of all, suspect requests came out one by one after the end (S1)",
            profile: .durable),
        PinnedSeed(
            417_283_800_604, "a voter's disk was lost while one of three was being removed: not promised (L1)",
            profile: .operators),
    ]
}
