// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTestKit
internal import Glibc

/// Runs seeds and sums up.
struct SimulateCommand: Sendable {
    let options: SimulateOptions

    init(_ options: SimulateOptions) { self.options = options }

    /// Returns the exit code.
    func run() async -> Int32 {
        let first = options.first ?? UInt64.random(in: 0..<1_000_000_000_000)
        let count = options.seeds ?? (options.first == nil ? 100 : 1)
        print("seeds \(first) ..< \(first + UInt64(count)), \(options.profile.nodes) nodes")
        let began = ContinuousClock.now
        var sum = SimulationSum()
        let width = options.jobs > 0 ? options.jobs : max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1)
        await withTaskGroup(of: SimulationReport.self) { group in
            var next = first
            let end = first + UInt64(count)
            func add() {
                guard next < end else { return }
                let seed = next
                next += 1
                group.addTask { simulate(seed) }
            }
            for _ in 0..<width { add() }
            for await report in group {
                sum.add(report)
                if !report.violations.isEmpty { tell(report) }
                add()
            }
        }
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        print(sum.description)
        print(sum.json(seconds: seconds, mutants: 0, caught: 0))
        return sum.violations == 0 ? 0 : 1
    }

    private func simulate(_ seed: UInt64) -> SimulationReport {
        let simulation =
            options.mutant.map { Simulation(seed: seed, mutant: $0) }
            ?? Simulation(seed: seed, profile: options.profile)
        if options.trace { simulation.trace = { print($0) } }
        if options.history { simulation.historySink = { print($0) } }
        return simulation.run()
    }

    private func tell(_ report: SimulationReport) {
        for violation in report.violations.prefix(3) { print("seed \(report.seed): \(violation)") }
        print("  replay: make sim SEED=\(report.seed) NODES=\(options.profile.nodes) TRACE=1  (hash \(report.hash))")
        fflush(nil)
    }
}
