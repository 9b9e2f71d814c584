// Flockwork · Apache-2.0 · see LICENSE

/// Many runs together.
package struct SimulationSum: Sendable, CustomStringConvertible {
    package private(set) var seeds = 0
    package private(set) var violations = 0
    package private(set) var counts = SimulationCounts()
    private var acceptShares: [Int] = []
    /// The seeds that failed, ascending, and over all hashes whatever order they came in.
    package private(set) var failed: [UInt64] = []
    package private(set) var hash: UInt64 = 0

    package init() {}

    package mutating func add(_ report: SimulationReport) {
        seeds += 1
        if !report.violations.isEmpty {
            violations += 1
            failed.append(report.seed)
            failed.sort()
        }
        counts += report.counts
        acceptShares.append(report.acceptShare)
        hash ^= mixed(report.hash.value ^ mixed(report.seed))
    }

    /// Milliseconds below which half of the gaps were, and 99 of 100.
    private func gaps(_ gaps: [UInt64]) -> String {
        let sorted = gaps.sorted()
        func percentile(_ percent: Int) -> Double {
            guard !sorted.isEmpty else { return 0 }
            return Double(sorted[sorted.count * percent / 100] / 10_000) / 100
        }
        return "p50 \(percentile(50)), p99 \(percentile(99))"
    }

    package var description: String {
        let each = max(seeds, 1)
        let shares = acceptShares.sorted()
        let disks =
            counts.recovered > 0
            ? ", \(counts.outages) outages of all, \(counts.recovered) copies found on disks" : ""
        return """
            per seed: \(counts.events / each) events, \(counts.requests / each) requests, \
            \(counts.executed / each) executed, \(counts.views / UInt64(each)) views
            in all: \(counts.crashes) crashes, \(counts.pauses) pauses, \(counts.cuts) cuts, \(counts.joins) joins, \
            \(counts.leaves) leaves, \(counts.evictions) evictions\(disks); \
            \(counts.accepted) accepted, \(counts.completed) completed
            after the death of a primary, ms: next accepted \(gaps(counts.acceptGaps)) of \(counts.acceptGaps.count); \
            with another death meanwhile or too few voters \(gaps(counts.doubleGaps)) of \(counts.doubleGaps.count); \
            next committed \(gaps(counts.serveGaps))
            of 1,000 runs to be issued 3 s after the faults, answered: \(shares.first ?? 0) at least, \
            \(shares.isEmpty ? 0 : shares[shares.count / 100]) in 99 of 100 seeds
            hash of all: \(String(hash, radix: 16)); failed: \(failed.prefix(20).map { "\($0)" }.joined(separator: " "))
            """
    }

    /// The line that says what was run.
    package func json(seconds: Double, mutants: Int, caught: Int, pinned: Int = 0) -> String {
        let rate = seconds > 0 ? Int(Double(seeds) * 60 / seconds) : 0
        return "{\"seeds\": \(seeds), \"violations\": \(violations + pinned), \"seeds_per_minute\": \(rate), "
            + "\"crashes\": \(counts.crashes), \"requests\": \(counts.requests), \"mutants\": \(mutants), "
            + "\"mutants_caught\": \(caught)}"
    }
}
