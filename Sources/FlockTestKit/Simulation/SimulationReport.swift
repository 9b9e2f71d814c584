// Flockwork · Apache-2.0 · see LICENSE

/// What happened in a run.
package struct SimulationReport: Sendable {
    package let seed: UInt64
    package internal(set) var hash = EventHash()
    package internal(set) var violations: [Violation] = []
    package internal(set) var counts = SimulationCounts()
    /// Of 1,000 runs that sessions wanted to issue in the third second after all was healed, so many were answered.
    package internal(set) var acceptShare = 1000

    package init(seed: UInt64) { self.seed = seed }
}

/// What is counted in a run, and summed up over many.
package struct SimulationCounts: Sendable {
    package internal(set) var events = 0
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
    package internal(set) var serveGaps: [UInt64] = []
    /// As `acceptGaps`, of partitions that met another death meanwhile, or too few voters to act.
    package internal(set) var doubleGaps: [UInt64] = []

    static func += (sum: inout SimulationCounts, run: SimulationCounts) {
        sum.events += run.events
        sum.requests += run.requests
        sum.accepted += run.accepted
        sum.completed += run.completed
        sum.executed += run.executed
        sum.outages += run.outages
        sum.recovered += run.recovered
        sum.crashes += run.crashes
        sum.pauses += run.pauses
        sum.cuts += run.cuts
        sum.joins += run.joins
        sum.leaves += run.leaves
        sum.evictions += run.evictions
        sum.views += run.views
        sum.acceptGaps += run.acceptGaps
        sum.serveGaps += run.serveGaps
        sum.doubleGaps += run.doubleGaps
    }
}
