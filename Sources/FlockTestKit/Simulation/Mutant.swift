// Flockwork · Apache-2.0 · see LICENSE

// A checker that never objects proves nothing. Each mutant is the protocol without one of its rules; each has faults
// under which the rule is missed often, and a number of seeds within which that must be seen.

package import FlockCluster
internal import FlockWire

/// The protocol without one rule.
package struct Mutant: Sendable, CustomStringConvertible {
    /// The field of `Rules` that is turned off.
    package let name: String
    /// Seeds within which a run must fail.
    package let budget: Int
    /// The invariants of which one is broken.
    package let breaks: [String]
    package let rules: Rules
    package let profile: FaultProfile

    package var description: String { name }

    private init(
        _ name: String, _ rule: WritableKeyPath<Rules, Bool>, budget: Int, breaks: [String],
        _ change: (inout FaultProfile) -> Void
    ) {
        self.name = name
        self.budget = budget
        self.breaks = breaks
        var rules = Rules.all
        rules[keyPath: rule] = false
        self.rules = rules
        profile = FaultProfile.small.with(change)
    }

    /// All of them.
    package static let all: [Mutant] = [
        // A log that says that entries are on its disk when they are only written, and copies that do not wait for it.
        Mutant("syncsBeforeAck", \.syncsBeforeAck, budget: 20, breaks: ["P2", "P3", "S1", "S2"]) {
            $0.durablePartitions = $0.partitions
            $0.outage = 1
            $0.crash = 1
            $0.longestSync = 20 * Virtual.millisecond
        },
        Mutant("awaitsInSync", \.awaitsInSync, budget: 20, breaks: ["P2", "P3", "S1", "S2"]) {
            $0.crash = 3
            $0.isolation = 1
        },
        Mutant("agreesOnOwnership", \.agreesOnOwnership, budget: 20, breaks: ["P1", "P2", "P3", "S2"]) {
            $0.reset = 2
            $0.oneWayCut = 1
        },
        Mutant("checksEpoch", \.checksEpoch, budget: 20, breaks: ["E1", "P1", "P2", "P3"]) {
            $0.pause = 2
            $0.badWeather = 2
        },
        Mutant("publishesCommittedOnly", \.publishesCommittedOnly, budget: 40, breaks: ["S2", "S1"]) {
            $0.crash = 2
            $0.isolation = 2
        },
        Mutant("dedupsOutcomes", \.dedupsOutcomes, budget: 20, breaks: ["S2"]) {
            $0.cut = 2
            $0.isolation = 2
            $0.crash = 1
        },
        Mutant("dedupsAfterPrimaryChange", \.dedupsAfterPrimaryChange, budget: 40, breaks: ["S2"]) {
            $0.isolation = 2
            $0.crash = 1
            $0.cut = 1
        },
        Mutant("waitsForReportedLearner", \.waitsForReportedLearner, budget: 60, breaks: ["P2", "P3"]) {
            $0.crash = 2
            $0.badWeather = 2
            $0.slow = 1
        },
        Mutant("refusesBelowMinimum", \.refusesBelowMinimum, budget: 20, breaks: ["S6"]) {
            $0.crash = 2
            $0.beyond = 1
            $0.nodes = 3
            $0.shortestDown = Virtual.second
        },
        Mutant("servesAfterEpochEntry", \.servesAfterEpochEntry, budget: 60, breaks: ["S1", "S2", "P2", "P3"]) {
            $0.crash = 2
            $0.resetPerMille = 1000
            $0.thinkTime = 40 * Virtual.millisecond
            $0.closePerMille = 100
        },
        Mutant("usesPartitionTime", \.usesPartitionTime, budget: 20, breaks: ["P3"]) {
            $0.crash = 1
            $0.comparesStates = true
        },
        Mutant("confirmsUnknown", \.confirmsUnknown, budget: 60, breaks: ["S1"]) {
            $0.isolation = 2
            $0.oneWayCut = 2
            $0.closePerMille = 100
        },
        Mutant("completesProposed", \.completesProposed, budget: 20, breaks: ["S1", "L3"]) {
            $0.badWeather = 2
            $0.slow = 1
        },
        // A voter's disk that does not sync comes back with what was on it when the process began.
        Mutant("persistsPromise", \.persistsPromise, budget: 60, breaks: ["C1", "C2"]) {
            $0.nodes = 5
            $0.partitions = 1
            $0.clients = 1
            $0.crash = 5
            $0.isolation = 2
            $0.cut = 3
            $0.badWeather = 1
            $0.diskLies = true
            $0.shortestDown = Virtual.millisecond
            $0.longestDown = 50 * Virtual.millisecond
            $0.longestCut = Virtual.second
            $0.faultInterval = 60 * Virtual.millisecond
        },
        Mutant("installsAgreedOnly", \.installsAgreedOnly, budget: 20, breaks: ["C1"]) {
            $0.crash = 2
            $0.isolation = 2
        },
        Mutant("keepsMinimumInSync", \.keepsMinimumInSync, budget: 40, breaks: ["S1", "P2", "S6"]) {
            $0.nodes = 4
            $0.voters = 1
            $0.crash = 2
            $0.isolation = 3
            $0.pause = 3
            $0.faultInterval = 150 * Virtual.millisecond
        },
        Mutant("movesOneAtATime", \.movesOneAtATime, budget: 40, breaks: ["S1", "P2", "P3"]) {
            $0.crash = 2
            $0.join = 2
            $0.leave = 1
        },
        Mutant("handsOverBeforeLeaving", \.handsOverBeforeLeaving, budget: 20, breaks: ["L5", "S1", "P2"]) {
            $0.leave = 2
        },
        Mutant("asksRemainingVoters", \.asksRemainingVoters, budget: 40, breaks: ["L4", "L1"]) {
            $0.voters = 5
            $0.crash = 1
            $0.voterLoss = 6
            $0.removeVoter = 2
        },
        Mutant("relievesDrained", \.relievesDrained, budget: 20, breaks: ["L7"]) {
            $0.drain = 1
            $0.faultInterval = 3 * Virtual.second
        },
        Mutant("refusesSuspended", \.refusesSuspended, budget: 20, breaks: ["S7"]) {
            $0.suspend = 1
        },
        Mutant("resetIsNotDeath", \.resetIsNotDeath, budget: 20, breaks: ["L4", "S1", "P2"]) {
            $0.reset = 2
        },
        Mutant("bumpsEpochForLearners", \.bumpsEpochForLearners, budget: 60, breaks: ["P2", "P3"]) {
            $0.isolation = 1
            $0.crash = 2
            $0.pause = 6
            $0.slow = 2
            $0.longestPause = 500 * Virtual.millisecond
            $0.longestCut = 600 * Virtual.millisecond
            $0.shortestDown = 10 * Virtual.millisecond
            $0.longestDown = 100 * Virtual.millisecond
            $0.faultInterval = 80 * Virtual.millisecond
            $0.times.suspectAfterMinimum = .milliseconds(150)
            $0.times.suspectAfterMaximum = .milliseconds(150)
        },
        Mutant("partsAfterDeath", \.partsAfterDeath, budget: 20, breaks: ["L6"]) {
            $0.deadlyPerMille = 4
            $0.shortestDown = 20 * Virtual.millisecond
            $0.longestDown = 200 * Virtual.millisecond
        },
        Mutant("countsAtHome", \.countsAtHome, budget: 20, breaks: ["L4", "L3", "S1"]) {
            $0.placement = .total(1)
            $0.nodes = 3
            $0.deadlyPerMille = 8
            $0.shortestDown = 20 * Virtual.millisecond
            $0.longestDown = 200 * Virtual.millisecond
        },
        Mutant("followsPlacement", \.followsPlacement, budget: 20, breaks: ["L8"]) {
            $0.placement = .total(1)
            $0.crash = 2
            $0.drain = 1
        },
        Mutant("returnsCredits", \.returnsCredits, budget: 20, breaks: ["S1", "L2", "L3"]) {
            $0.burst = 1
        },
    ]
}

/// What became of the search for a mutant.
package struct MutantHunt: Sendable {
    /// Seeds that were run.
    package var seeds: Int
    /// What gave it away; nil if nothing did.
    package var violation: Violation?
}

extension Mutant {
    /// Runs seeds from 1 on until one breaks an invariant that this rule keeps, or the budget is spent.
    package func hunt() -> MutantHunt {
        for seed in 1...UInt64(budget) {
            let report = Simulation(seed: seed, mutant: self).run()
            if let violation = report.violations.first(where: { breaks.contains($0.rule) }) {
                return MutantHunt(seeds: Int(seed), violation: violation)
            }
        }
        return MutantHunt(seeds: budget, violation: nil)
    }
}

extension FaultProfile {
    /// A small cluster for a short time, for one kind of fault or a few.
    static let small = FaultProfile.none.with {
        $0.partitions = 6
        $0.clients = 3
        $0.sessions = 3
        $0.thinkTime = 150 * Virtual.millisecond
        $0.faultInterval = 300 * Virtual.millisecond
        $0.faultsBegin = 1600 * Virtual.millisecond
        $0.faultsEnd = 8 * Virtual.second
        $0.end = 15 * Virtual.second
    }
}
