// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockCluster

@Suite("Rules of control that are left out")
struct ControlMutantTests {
    /// A rule less, and the faults under which it is missed.
    struct Mutant: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let budget: UInt64
        var chaos = Chaos()
        let change: @Sendable (inout Rules) -> Void
    }

    /// Voters that crash and come back at once, so that a forgotten promise is asked for again.
    static let restarts = Chaos(
        crash: 0, restart: 0, pause: 0, split: 0, cutOne: 0, mend: 0, reset: 0, leave: 0, replaceVoter: 0, bounce: 1,
        pauses: 20...150, voters: [3], events: 60...90, delays: [100, 200], others: 0)

    static let mutants = [
        Mutant(testDescription: "promises in memory", budget: 200, chaos: restarts) { $0.persistsPromise = false },
        Mutant(testDescription: "accepted states installed", budget: 40) { $0.installsAgreedOnly = false },
        Mutant(testDescription: "suspects leave below the minimum", budget: 40) { $0.keepsMinimumInSync = false },
        Mutant(testDescription: "two moves at once", budget: 40) { $0.movesOneAtATime = false },
        Mutant(testDescription: "leaving without handing over", budget: 40) { $0.handsOverBeforeLeaving = false },
        Mutant(testDescription: "a reset taken for death", budget: 40) { $0.resetIsNotDeath = false },
    ]

    @Test("a rule that is left out is missed within its budget of seeds", arguments: mutants)
    func mutant(mutant: Mutant) {
        var rules = Rules.all
        mutant.change(&rules)
        let first = (0..<mutant.budget).first { !mutant.chaos.run(seed: $0, rules: rules).world.problems.isEmpty }
        #expect(first != nil, "\(mutant.testDescription) passed \(mutant.budget) seeds")
    }
}
