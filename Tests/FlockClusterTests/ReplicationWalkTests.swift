// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockCluster

/// A rule of replication that is left out.
enum Mutant: CaseIterable {
    case awaitsInSync
    case checksEpoch
    case publishesCommittedOnly
    case dedupsOutcomes
    case dedupsAfterPrimaryChange
    case waitsForReportedLearner
    case refusesBelowMinimum
    case servesAfterEpochEntry
    case usesPartitionTime

    func leaveOut(of rules: inout Rules) {
        switch self {
        case .awaitsInSync: rules.awaitsInSync = false
        case .checksEpoch: rules.checksEpoch = false
        case .publishesCommittedOnly: rules.publishesCommittedOnly = false
        case .dedupsOutcomes: rules.dedupsOutcomes = false
        case .dedupsAfterPrimaryChange: rules.dedupsAfterPrimaryChange = false
        case .waitsForReportedLearner: rules.waitsForReportedLearner = false
        case .refusesBelowMinimum: rules.refusesBelowMinimum = false
        case .servesAfterEpochEntry: rules.servesAfterEpochEntry = false
        case .usesPartitionTime: rules.usesPartitionTime = false
        }
    }
}

@Suite("Replication, random walks")
struct ReplicationWalkTests {
    private func run(_ seed: UInt64, rules: Rules = .all) -> ReplicationWalk {
        var walk = ReplicationWalk(seed: seed, rules: rules)
        walk.run(4000)
        walk.end()
        return walk
    }

    @Test(
        "replicas agree, and keep what they accepted, whatever the network, crashes and views do",
        arguments: 1...12 as ClosedRange<UInt64>)
    func walk(seed: UInt64) {
        let walk = run(seed)
        #expect(walk.failure == nil, "seed \(seed)")
        #expect(walk.committed > 50, "seed \(seed): only \(walk.committed) entries")
        print("replication walk \(seed): \(walk.summary)")
    }

    @Test(
        "seeds that once failed",
        arguments: [
            15_765_295_795_600_917_904,  // a late part of an earlier snapshot
            9_670_416_686_855_354_241,  // a view under way at the end
            8_146_390_659_845_178_543,  // an outcome of what was never accepted
            1_431_307_487_079_276_495,  // nobody had listened to what a learner has
        ])
    func pinned(seed: UInt64) { #expect(run(seed).failure == nil) }

    @Test("seeds that nobody tried before do as well")
    func freshSeeds() {
        for _ in 0..<4 {
            let seed = UInt64.random(in: 1000...UInt64.max)
            print("replication walk: fresh seed \(seed)")
            #expect(run(seed).failure == nil, "seed \(seed)")
        }
    }

    @Test(
        "each rule is needed: without it some walk goes wrong",
        arguments: Mutant.allCases)
    func mutants(mutant: Mutant) {
        var rules = Rules.all
        mutant.leaveOut(of: &rules)
        for seed in 1...60 as ClosedRange<UInt64> {
            guard let failure = run(seed, rules: rules).failure else { continue }
            print("without \(mutant), seed \(seed): \(failure)")
            return
        }
        Issue.record("nobody misses \(mutant)")
    }
}
