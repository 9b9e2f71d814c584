// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTestKit
internal import Glibc

/// Runs seeds, pinned ones first, then the mutants, and sums up.
struct SimulateCommand: Sendable {
    let options: SimulateOptions
    let width: Int

    init(_ options: SimulateOptions) {
        self.options = options
        width = options.jobs > 0 ? options.jobs : max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1)
    }

    /// Returns the exit code.
    func run() async -> Int32 {
        let isOne = options.first != nil && options.seeds == nil
        let first = options.first ?? UInt64.random(in: 0..<1_000_000_000_000)
        let count = options.seeds ?? (isOne ? 1 : 100)
        let isPlain = !isOne && options.mutant == nil
        var pinned = SimulationSum()
        if isPlain { pinned = await run(PinnedSeed.all.map { ($0.seed, $0.profile) }, for: nil) }
        let isSame = !isPlain || comparesWithTests()
        let began = ContinuousClock.now
        let seeds = (first..<(first + UInt64(count))).lazy.map { ($0, FaultProfile?.none) }
        let sum = await run(seeds, for: options.seconds)
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        print(
            "seeds \(first) ..< \(first + UInt64(sum.seeds)) and \(pinned.seeds) pinned, \(options.profile.nodes) nodes"
        )
        print(sum.description)
        let mutants = isPlain && options.mutants ? Mutant.all : []
        let caught = await run(mutants)
        print(sum.json(seconds: seconds, mutants: mutants.count, caught: caught, pinned: pinned.violations))
        return sum.violations + pinned.violations == 0 && caught == mutants.count && isSame ? 0 : 1
    }

    /// Whether this build goes the way that the tests, which are another build, go with one seed.
    private func comparesWithTests() -> Bool {
        let (seed, expected) = PinnedSeed.compared
        let hash = Simulation(seed: seed, profile: .all).run().hash.description
        if hash != expected { print("seed \(seed): hash \(hash), PinnedSeed.compared has \(expected)") }
        return hash == expected
    }

    /// Seeds with the faults that were asked for, or with faults of their own.
    private func run(_ seeds: some Sequence<(UInt64, FaultProfile?)>, for seconds: Int?) async -> SimulationSum {
        let began = ContinuousClock.now
        var sum = SimulationSum()
        await withTaskGroup(of: SimulationReport.self) { group in
            var iterator = seeds.makeIterator()
            var running = 0
            while true {
                let isInTime = seconds.map { ContinuousClock.now - began < .seconds($0) } ?? true
                if running < width, isInTime, let (seed, profile) = iterator.next() {
                    running += 1
                    group.addTask { simulate(seed, profile) }
                    continue
                }
                guard let report = await group.next() else { break }
                running -= 1
                sum.add(report)
                if !report.violations.isEmpty { tell(report) }
            }
        }
        return sum
    }

    private func simulate(_ seed: UInt64, _ profile: FaultProfile?) -> SimulationReport {
        let simulation =
            options.mutant.map { Simulation(seed: seed, mutant: $0) }
            ?? Simulation(seed: seed, profile: profile ?? options.profile)
        if options.trace { simulation.trace = { print($0) } }
        if options.history { simulation.historySink = { print($0) } }
        return simulation.run()
    }

    private func tell(_ report: SimulationReport) {
        for violation in report.violations.prefix(3) { print("seed \(report.seed): \(violation)") }
        let mutant = options.mutant.map { " MUTANT=\($0.name)" } ?? " NODES=\(options.profile.nodes)"
        print("  replay: make sim SEED=\(report.seed)\(mutant) TRACE=1  (hash \(report.hash))")
        fflush(nil)
    }

    /// Returns how many of the mutants were caught within their budgets.
    private func run(_ mutants: [Mutant]) async -> Int {
        var caught = 0
        await withTaskGroup(of: (Mutant, MutantHunt).self) { group in
            var iterator = mutants.makeIterator()
            for _ in 0..<width {
                if let mutant = iterator.next() { group.addTask { (mutant, mutant.hunt()) } }
            }
            for await (mutant, hunt) in group {
                if let mutant = iterator.next() { group.addTask { (mutant, mutant.hunt()) } }
                if let violation = hunt.violation {
                    caught += 1
                    print("mutant \(mutant.name): caught by seed \(hunt.seeds) of \(mutant.budget): \(violation)")
                } else {
                    print("mutant \(mutant.name): NOT CAUGHT by \(mutant.budget) seeds")
                }
                fflush(nil)
            }
        }
        return caught
    }
}
