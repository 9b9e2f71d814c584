// Flockwork · Apache-2.0 · see LICENSE

/// What happened in a run.
package struct SimulationReport: Sendable {
    package let seed: UInt64
    package internal(set) var hash = EventHash()
    package internal(set) var violations: [Violation] = []
    package internal(set) var events = 0
    package internal(set) var messages = 0
    package internal(set) var virtualTime: UInt64 = 0
    package internal(set) var requests = 0
    package internal(set) var accepted = 0
    package internal(set) var completed = 0
    package internal(set) var executed = 0
    /// All processes were killed at once.
    package internal(set) var outages = 0
    /// Copies that were found on disks.
    package internal(set) var recovered = 0
    package internal(set) var crashes = 0
    package internal(set) var pauses = 0
    package internal(set) var cuts = 0
    package internal(set) var joins = 0
    package internal(set) var leaves = 0
    package internal(set) var evictions = 0
    package internal(set) var views: UInt64 = 0
    /// Nanoseconds from the death of a partition's primary to its next accepted run, and to its next committed entry.
    package internal(set) var acceptGaps: [UInt64] = []
    /// The same of partitions that met another death meanwhile, or too few voters to act.
    package internal(set) var doubleGaps: [UInt64] = []
    /// Of 1,000 runs that sessions wanted to issue in the third second after all was healed, so many were answered.
    package internal(set) var acceptShare = 1000
    package internal(set) var serveGaps: [UInt64] = []

    package init(seed: UInt64) { self.seed = seed }
}
