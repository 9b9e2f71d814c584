// Flockwork · Apache-2.0 · see LICENSE

/// Many runs together.
package struct SimulationSum: Sendable, CustomStringConvertible {
    package private(set) var seeds = 0
    package private(set) var violations = 0
    package private(set) var events = 0
    package private(set) var crashes = 0
    package private(set) var requests = 0
    package private(set) var accepted = 0
    package private(set) var completed = 0
    package private(set) var executed = 0
    package private(set) var views: UInt64 = 0
    private var outages = 0
    private var recovered = 0
    private var pauses = 0
    private var cuts = 0
    private var leaves = 0
    private var joins = 0
    private var evictions = 0
    private var acceptGaps: [UInt64] = []
    private var acceptShares: [Int] = []
    private var doubleGaps: [UInt64] = []
    private var serveGaps: [UInt64] = []
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
        events += report.events
        crashes += report.crashes
        requests += report.requests
        accepted += report.accepted
        completed += report.completed
        executed += report.executed
        views += report.views
        outages += report.outages
        recovered += report.recovered
        pauses += report.pauses
        cuts += report.cuts
        leaves += report.leaves
        joins += report.joins
        evictions += report.evictions
        acceptGaps += report.acceptGaps
        acceptShares.append(report.acceptShare)
        doubleGaps += report.doubleGaps
        serveGaps += report.serveGaps
        hash ^= mixed(report.hash.value ^ mixed(report.seed))
    }

    /// Milliseconds below which so many of 1,000 gaps were.
    package static func percentile(_ gaps: [UInt64], perMille: Int) -> Double {
        guard !gaps.isEmpty else { return 0 }
        let sorted = gaps.sorted()
        let place = min(sorted.count - 1, sorted.count * perMille / 1000)
        return Double(sorted[place] / 10_000) / 100
    }

    package var acceptGap: (median: Double, p99: Double) {
        (Self.percentile(acceptGaps, perMille: 500), Self.percentile(acceptGaps, perMille: 990))
    }

    package var description: String {
        let (accept, accept99) = acceptGap
        let (serve, serve99) = (
            Self.percentile(serveGaps, perMille: 500), Self.percentile(serveGaps, perMille: 990)
        )
        let each = max(seeds, 1)
        let shares = acceptShares.sorted()
        let disks = recovered > 0 ? ", \(outages) outages of all, \(recovered) copies found on disks" : ""
        return """
            per seed: \(events / each) events, \(requests / each) requests, \(executed / each) executed, \
            \(views / UInt64(each)) views
            in all: \(crashes) crashes, \(pauses) pauses, \(cuts) cuts, \(joins) joins, \(leaves) leaves, \
            \(evictions) evictions\(disks); \
            \(accepted) accepted, \(completed) completed
            after the death of a primary, ms: next accepted p50 \(accept), p99 \(accept99) of \(acceptGaps.count); \
            with another death meanwhile or too few voters p50 \(Self.percentile(doubleGaps, perMille: 500)), \
            p99 \(Self.percentile(doubleGaps, perMille: 990)) of \(doubleGaps.count); \
            next committed p50 \(serve), p99 \(serve99)
            of 1,000 runs to be issued 3 s after the faults, answered: \(shares.first ?? 0) at least, \
            \(shares.isEmpty ? 0 : shares[shares.count / 100]) in 99 of 100 seeds
            hash of all: \(String(hash, radix: 16)); failed: \(failed.prefix(20).map { "\($0)" }.joined(separator: " "))
            """
    }

    /// The line that says what was run.
    package func json(seconds: Double, mutants: Int, caught: Int, pinned: Int = 0) -> String {
        let rate = seconds > 0 ? Int(Double(seeds) * 60 / seconds) : 0
        return "{\"seeds\": \(seeds), \"violations\": \(violations + pinned), \"seeds_per_minute\": \(rate), "
            + "\"crashes\": \(crashes), \"requests\": \(requests), \"mutants\": \(mutants), "
            + "\"mutants_caught\": \(caught)}"
    }
}
