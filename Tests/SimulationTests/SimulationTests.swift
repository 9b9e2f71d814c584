// Flockwork · Apache-2.0 · see LICENSE

import FlockCluster
import FlockTestKit
import Testing

// One after another: each holds a thread of Swift's pool for seconds, and other tests' calls would run out of time.
@Suite("simulation", .serialized)
struct SimulationTests {
    @Test("one seed gives one run: the same hash twice, and another one for another seed")
    func repeatable() {
        let hashes = [7, 7, 8].map { Simulation(seed: $0, profile: .brief).run().hash }
        #expect(hashes[0] == hashes[1])
        #expect(hashes[0] != hashes[2])
    }

    // The last ones; `make sim` runs them all.
    @Test("a pinned seed run twice has equal hashes and no violation", arguments: PinnedSeed.all.suffix(2))
    func pinned(pinned: PinnedSeed) {
        let reports = (0..<2).map { _ in Simulation(seed: pinned.seed, profile: pinned.profile ?? .all).run() }
        #expect(reports[0].hash == reports[1].hash)
        #expect(reports[0].violations == [], "seed \(pinned.seed)")
    }

    @Test("without faults every request is accepted and completed, and executed once", arguments: [1, 2] as [UInt64])
    func calm(seed: UInt64) {
        let report = Simulation(seed: seed, profile: .calm).run()
        #expect(report.violations == [], "seed \(seed)")
        #expect(report.counts.requests > 1000, "seed \(seed)")
        #expect(report.counts.completed == report.counts.requests, "seed \(seed)")
        #expect(report.counts.executed <= report.counts.requests, "seed \(seed)")
        #expect(report.counts.crashes == 0)
    }

    @Test("processes die, and nothing that was accepted is lost", arguments: 1...3 as ClosedRange<UInt64>)
    func crashes(seed: UInt64) {
        let report = Simulation(seed: seed, profile: .crashes).run()
        #expect(report.violations == [], "seed \(seed)")
        #expect(report.counts.accepted > 1000, "seed \(seed)")
    }

    @Test("requests kill the processes that execute them, and no other request is given up for it")
    func poison() {
        let report = Simulation(seed: 3, profile: .poison).run()
        #expect(report.violations == [])
        #expect(report.counts.crashes > 3, "some requests should have been deadly")
        #expect(report.counts.completed == report.counts.requests)
    }

    // `make sim` compares with the same hash in release.
    @Test("debug and release builds go the same way, on a seed on which they once parted")
    func builds() {
        let report = Simulation(seed: PinnedSeed.compared.seed, profile: .all).run()
        #expect(report.violations == [])
        #expect(report.hash.description == PinnedSeed.compared.hash)
    }

    // The others take release builds: `make sim` runs them all.
    static let quick = Mutant.all.filter {
        ["awaitsInSync", "dedupsOutcomes", "checksEpoch", "syncsBeforeAck"].contains($0.name)
    }

    @Test("a rule that is left out is missed within its budget of seeds", arguments: quick)
    func mutant(mutant: Mutant) {
        let hunt = mutant.hunt()
        #expect(hunt.violation != nil, "\(mutant) passed \(hunt.seeds) seeds")
    }

    @Test("each rule that can be left out has a mutant")
    func everyRule() {
        let fields = Mirror(reflecting: Rules.all).children.compactMap(\.label)
        #expect(Set(fields).subtracting(Mutant.all.map(\.name)) == [])
    }

    @Test(
        "all processes die at once, again and again, and what is on their disks is enough",
        arguments: 1...2 as ClosedRange<UInt64>)
    func durable(seed: UInt64) {
        let report = Simulation(seed: seed, profile: .durable).run()
        #expect(report.violations == [], "seed \(seed)")
        #expect(report.counts.recovered > 0, "copies should have been found on disks")
    }
}

extension FaultProfile {
    /// All faults for a short time.
    static let brief = FaultProfile.all.with {
        $0.faultsEnd = 4_000_000_000
        $0.end = 5_000_000_000
    }
}
