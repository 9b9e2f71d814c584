// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import Flockwork

@Suite("A stage in virtual time, with an objective of 20 ms")
struct StageSimulationTests {
    /// What a stage can do in batches that take half of the objective, items a millisecond.
    private static func capacity(_ fixed: Double, _ perItem: Double) -> Double { (10 - fixed) / perItem / 10 }

    /// The cost doubles at half time, and the load is `load` of what the stage can do then and before.
    private func doubling(load: Double, seed: UInt64) -> StageSimulation {
        StageSimulation(
            phases: [
                .init(until: 3000, fixed: 1, perItem: 0.05, rate: load * Self.capacity(1, 0.05)),
                .init(until: 6000, fixed: 2, perItem: 0.1, rate: load * Self.capacity(2, 0.1)),
            ], objective: 20, seed: seed)
    }

    private func compare(
        _ title: String, _ simulation: StageSimulation, _ others: [(String, BatchPolicy)]
    ) -> [StageSimulation.Figures] {
        let all = [("within(20 ms)", BatchPolicy.within(.milliseconds(20)))] + others
        let figures = all.flatMap { simulation.run($0, $1) }
        print("\(title), seed \(simulation.seed)\n" + figures.map { "  \($0)" }.joined(separator: "\n"))
        return figures
    }

    @Test("keeps it at 80 % load through bursts and a cost that doubles", arguments: Array(1...3) as [UInt64])
    func keepsIt(seed: UInt64) {
        var simulation = doubling(load: 0.8, seed: seed)
        simulation.tenants[0].burst = 60
        let figures = compare(
            "80 % load, cost doubles at half time, bursts of 60", simulation,
            [
                ("lingering(10 ms, upTo: 512)", .lingering(.milliseconds(10), upTo: 512)),
                ("lingering(2 ms, upTo: 32)", .lingering(.milliseconds(2), upTo: 32)),
                ("lingering(2 ms, upTo: 512)", .lingering(.milliseconds(2), upTo: 512)), ("drain", .drain),
            ])
        #expect(figures[0].p99 <= 20)
        #expect(figures[1].p99 > 20, "it lingers for time that the call needs")
        #expect(figures[2].p99 > 20, "its batches are too small for the load")
        #expect(figures[0].p50 < figures[1].p50)
    }

    @Test("brings more in time of bursts that are more than it can do", arguments: Array(1...3) as [UInt64])
    func burst(seed: UInt64) {
        var simulation = doubling(load: 0.3, seed: seed)
        simulation.tenants[0].burst = 500
        simulation.tenants[0].burstEvery = 200
        let figures = compare(
            "30 % load, cost doubles at half time, bursts of 500", simulation,
            [("lingering(2 ms, upTo: 512)", .lingering(.milliseconds(2), upTo: 512)), ("drain", .drain)])
        #expect(figures[0].inTime > figures[1].inTime && figures[0].inTime > figures[2].inTime)
    }

    @Test(
        "is not worse than draining where calls stall, which no batch size helps", arguments: Array(1...3) as [UInt64])
    func stalls(seed: UInt64) {
        var simulation = doubling(load: 0.8, seed: seed)
        simulation.tenants[0].burst = 60
        simulation.stalls = 0.001
        let figures = compare("80 % load, 1 call of 1000 takes five times as long", simulation, [("drain", .drain)])
        #expect(figures[0].inTime > figures[1].inTime - 0.01)
    }

    @Test("at 1.5 times what it can do sheds early, and what it does is in time", arguments: Array(1...3) as [UInt64])
    func overload(seed: UInt64) {
        var simulation = doubling(load: 1.5, seed: seed)
        simulation.tenants[0].deadline = 20
        let figures = compare(
            "150 % load, cost doubles at half time, deadlines of 20 ms", simulation,
            [("lingering(2 ms, upTo: 160)", .lingering(.milliseconds(2), upTo: 160)), ("drain", .drain)])
        // At most 1 / 1.5 can be done in batches that take half of the objective.
        #expect(figures[0].inTime > 0.85 / 1.5)
        #expect(figures[0].inTime > figures[1].inTime && figures[0].inTime > figures[2].inTime)
    }

    @Test("keeps it while the cost of the stage changes by ten, down and up", arguments: Array(1...5) as [UInt64])
    func tenfold(seed: UInt64) {
        let phases: [StageSimulation.Phase] = [(0.2, 0.01), (2, 0.1), (0.2, 0.01), (2, 0.1)].enumerated().map {
            .init(
                until: Double($0.offset + 1) * 800, fixed: $0.element.0, perItem: $0.element.1,
                rate: 0.7 * Self.capacity($0.element.0, $0.element.1))
        }
        var simulation = StageSimulation(phases: phases, objective: 20, seed: seed)
        simulation.tenants[0].burst = 40
        let figures = compare(
            "70 % load, cost changes by ten every 0.8 s, bursts of 40", simulation,
            [
                ("lingering(2 ms, upTo: 512)", .lingering(.milliseconds(2), upTo: 512)),
                ("upTo(16)", .upTo(16)), ("drain", .drain),
            ])
        #expect(figures[0].inTime > 0.98)
        #expect(figures[2].inTime < 0.9, "small batches cannot do it")
    }

    @Test(
        "one call of 200 that takes five times as long makes it neither timid nor late",
        arguments: Array(1...5) as [UInt64])
    func outliers(seed: UInt64) {
        var simulation = doubling(load: 0.6, seed: seed)
        let without = simulation.run("without", .within(.milliseconds(20)))[0]
        simulation.stalls = 0.005
        let figures = compare("60 % load, 1 call of 200 takes five times as long", simulation, [("drain", .drain)])
        #expect(figures[0].meanBatch > 0.8 * without.meanBatch)
        #expect(figures[0].inTime > figures[1].inTime - 0.01)
    }

    /// Two tenants of a stage of 1 ms and 50 µs an item: one is a tenth of what it can do, the other ten times that,
    /// and then twice what the stage can do alone.
    private func flood(by factor: Double, _ one: StageSimulation.Tenant, seed: UInt64) -> StageSimulation {
        var flood = StageSimulation.Tenant(name: "flood", rate: factor)
        flood.burst = 500
        return StageSimulation(
            phases: [.init(until: 2000, fixed: 1, perItem: 0.05, rate: 0.1 * Self.capacity(1, 0.05))],
            tenants: [one, flood], weights: one.flow == 0 ? [1] : [1, 1], objective: 20, seed: seed)
    }

    @Test(
        "a pipeline that floods the stage with ten and twenty times as much leaves the other in time",
        arguments: Array(1...3) as [UInt64])
    func pipelines(seed: UInt64) {
        for factor in [10.0, 20] {
            let simulation = flood(by: factor, .init(name: "one", flow: 1), seed: seed)
            let figures = compare(
                "two pipelines, the second \(factor) times the first", simulation, [("drain", .drain)])
            #expect(figures[0].p99 <= 20)
            #expect(figures[2].p99 <= 40, "without an objective rounds are short, too")
            // What one does not need is the other's.
            if factor == 20 { #expect(figures[1].busy > 0.99) }
        }
        var together = flood(by: 20, .init(name: "one"), seed: seed)
        together.weights = [1]
        #expect(together.run("together", .within(.milliseconds(20)))[0].p99 > 20, "without fairness both are late")
    }

    @Test(
        "low requests that flood the stage leave those of high priority in time, and are not starved by them",
        arguments: Array(1...3) as [UInt64])
    func priorities(seed: UInt64) {
        var simulation = flood(by: 20, .init(name: "high", priority: .high), seed: seed)
        let figures = compare("two priorities, twenty times as much of the normal one", simulation, [])
        #expect(figures[0].p99 <= 20)
        // Both more than the stage can do: the low ones still get their 17th part.
        simulation.tenants = [
            .init(name: "high", priority: .high, rate: 20, deadline: 20),
            .init(name: "low", priority: .low, rate: 20, deadline: 30),
        ]
        let both = compare("two priorities, each twice what the stage can do", simulation, [])
        #expect((0.015...0.06).contains(1 - both[1].shed), "\(1 - both[1].shed) of the low ones were done")
        #expect(1 - both[0].shed > 8 * (1 - both[1].shed))
    }
}
