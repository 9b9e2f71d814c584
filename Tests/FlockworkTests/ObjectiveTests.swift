// Flockwork · Apache-2.0 · see LICENSE

import FlockCluster
import FlockTestKit
import FlockWire
import Foundation
import Testing

@testable import Flockwork

@Suite("A cost model")
struct CostModelTests {
    /// Calls of the sizes that a stage sees whose load varies.
    private func learn(
        _ model: inout CostModel, fixed: Double, perItem: Double, calls: Int, noise: Double = 0, outliers: Double = 0,
        sizes: ClosedRange<Int> = 1...100, random: inout SeededRandom
    ) {
        for _ in 0..<calls {
            let items = Int.random(in: sizes, using: &random)
            var time = (fixed + perItem * Double(items)) * (1 + .random(in: -noise...noise, using: &random))
            if Double.random(in: 0..<1, using: &random) < outliers { time *= 20 }
            model.observe(items: items, time: time)
        }
    }

    private func isNear(_ model: CostModel, fixed: Double, perItem: Double, within part: Double) -> Bool {
        [1, 10, 50, 100].allSatisfy { items in
            abs(model.expected(items) / (fixed + perItem * Double(items)) - 1) < part
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var fixed: Double
        var perItem: Double
        var noise = 0.0
        var outliers = 0.0
        var within: Double
        var testDescription: String { name }
    }

    @Test(
        "finds the fixed part and the part per item",
        arguments: [
            Case(name: "exact", fixed: 1e6, perItem: 5e4, within: 0.01),
            Case(name: "no fixed part", fixed: 0, perItem: 5e4, within: 0.01),
            Case(name: "no part per item", fixed: 1e6, perItem: 0, within: 0.01),
            Case(name: "noise of 20 %", fixed: 1e6, perItem: 5e4, noise: 0.2, within: 0.15),
            Case(
                name: "1 call of 50 is 20 times slower", fixed: 1e6, perItem: 5e4, noise: 0.1, outliers: 0.02,
                within: 0.15),
        ])
    func learns(_ row: Case) {
        for seed in UInt64(1)...20 {
            var random = SeededRandom(seed: seed)
            var model = CostModel()
            learn(
                &model, fixed: row.fixed, perItem: row.perItem, calls: 400, noise: row.noise, outliers: row.outliers,
                random: &random)
            #expect(
                isNear(model, fixed: row.fixed, perItem: row.perItem, within: row.within),
                "seed \(seed): \(model.fixed) + \(model.perItem) n")
        }
    }

    @Test("follows a cost that changes within ten calls, up and down")
    func changes() {
        for seed in UInt64(1)...20 {
            var random = SeededRandom(seed: seed)
            var model = CostModel()
            for factor in [1.0, 3, 0.5, 2] {
                learn(
                    &model, fixed: 1e6 * factor, perItem: 5e4 * factor, calls: 10, noise: 0.05, random: &random)
                #expect(
                    isNear(model, fixed: 1e6 * factor, perItem: 5e4 * factor, within: 0.4),
                    "seed \(seed), factor \(factor): \(model.fixed) + \(model.perItem) n")
                learn(
                    &model, fixed: 1e6 * factor, perItem: 5e4 * factor, calls: 200, noise: 0.05, random: &random)
                #expect(
                    isNear(model, fixed: 1e6 * factor, perItem: 5e4 * factor, within: 0.1),
                    "seed \(seed), factor \(factor): \(model.fixed) + \(model.perItem) n")
            }
        }
    }

    @Test("calls of one size keep the relation of the two parts, and their own time right")
    func oneSize() {
        var random = SeededRandom(seed: 1)
        var model = CostModel()
        learn(&model, fixed: 1e6, perItem: 5e4, calls: 100, random: &random)
        learn(&model, fixed: 1.3e6, perItem: 6.5e4, calls: 600, sizes: 40...40, random: &random)
        #expect(isNear(model, fixed: 1.3e6, perItem: 6.5e4, within: 0.1))
    }

    @Test("a call that takes no time, or for ever, breaks nothing")
    func extremes() {
        for time in [0, -1, .infinity, .nan, 1e30] {
            var model = CostModel()
            for items in [1, 1, 2, 1_000_000] { model.observe(items: items, time: time) }
            #expect(model.expected(7).isFinite && model.most(within: 1e9) >= 0)
            _ = LatencyObjective(.seconds(1)).expected(.max)
        }
    }
}

@Suite("A latency objective")
struct ObjectiveTests {
    /// One that knows a stage of 1 ms and 50 µs an item; the objective is 20 ms.
    private var learned: LatencyObjective {
        var objective = LatencyObjective(.milliseconds(20))
        for round in 0..<400 {
            let items = 1 + round * 37 % 160
            objective.finished(items: items, took: .microseconds(1000 + 50 * items))
        }
        return objective
    }

    @Test("begins with one item and at most doubles")
    func explores() {
        var objective = LatencyObjective(.milliseconds(20))
        var sizes: [Int] = []
        for _ in 0..<12 {
            let size = objective.limit(waiting: 10_000, waited: .zero)
            sizes.append(size)
            objective.finished(items: size, took: .microseconds(1000 + 10 * size))
        }
        #expect(sizes.prefix(8) == [1, 2, 4, 8, 16, 32, 64, 128])
        // (10 ms - 1 ms) / 10 µs.
        #expect(sizes.suffix(2).allSatisfy { (850...950).contains($0) }, "\(sizes)")
    }

    @Test("takes a batch of half its time, and a smaller one for an item that has waited too long for that")
    func decides() {
        let objective = learned
        let full = objective.limit(waiting: 1000, waited: .zero)
        #expect((170...190).contains(full))
        #expect(objective.limit(waiting: 1000, waited: .milliseconds(7)) == full)
        let early = objective.limit(waiting: 1000, waited: .milliseconds(12))
        #expect(early < full && early > full / 2, "\(early) of \(full)")
        #expect(objective.limit(waiting: 1000, waited: .milliseconds(19)) > full, "too late: throughput counts")
        #expect(objective.limit(waiting: 1, waited: .milliseconds(19)) >= 1)
    }

    @Test("that cannot be kept still takes batches that are worth their fixed part")
    func impossible() {
        var objective = LatencyObjective(.milliseconds(1))
        for round in 0..<100 {
            let items = 1 + round % 50
            objective.finished(items: items, took: .microseconds(5000 + 100 * items))
        }
        #expect((40...60).contains(objective.limit(waiting: 1000, waited: .zero)))
    }

    private func run(_ count: Int, deadline: Duration?, first: UInt64) -> WorkRun {
        let bytes = Bytes(count: 8 * count) { $0.initializeMemory(as: UInt8.self, repeating: 0) }
        return WorkRun(
            run: RequestRun(
                partition: PartitionID(rawValue: 0), session: SessionID(rawValue: 1),
                sequences: SequenceRun(first: first, count: count)),
            items: ItemBuffer(fixed: bytes, stride: 8, count: count),
            deadline: deadline.map { Tick(nanoseconds: 1 << 40) + $0 }, arrived: Tick(nanoseconds: 1 << 40),
            assignment: Assignment { _, _ in })
    }

    @Test("sheds what the next batch would bring too late, unless that is all there is")
    func sheds() {
        let now = Tick(nanoseconds: 1 << 40)
        let policy = BatchPolicy.within(.milliseconds(20))
        var queue = WorkQueue()
        // 40 items take 3 ms.
        queue.append(run(10, deadline: .milliseconds(2), first: 0))
        queue.append(run(20, deadline: .milliseconds(5), first: 10))
        queue.append(run(10, deadline: nil, first: 30))
        let (batch, late) = policy.take(from: &queue, for: learned, idle: 0, now: now, limits: Limits())
        #expect(late.map(\.run.sequences.first) == [0] && batch.map(\.run.sequences.first) == [10, 30])
        #expect(queue.isEmpty && queue.items == 0 && queue.bytes == 0)

        queue.append(run(10, deadline: .zero, first: 0))
        queue.append(run(10, deadline: .microseconds(100), first: 10))
        queue.append(run(10, deadline: .microseconds(100), first: 20))
        let (probe, rest) = policy.take(from: &queue, for: learned, idle: 0, now: now, limits: Limits())
        #expect(probe.map(\.run.sequences.first) == [10] && rest.map(\.run.sequences.first) == [0, 20])
        #expect(queue.isEmpty && queue.items == 0 && queue.bytes == 0)
    }

    @Test("a pipeline with one answers, and learns, end to end")
    func endToEnd() async throws {
        let pipeline = Pipeline("timed", of: Int.self)
            .stage(batch: .within(.milliseconds(20)), instances: .perNode(2)) { AddOne(actorSystem: $0) }
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let tickets = try await inbox.post(Array(0..<5000))
            let itemOfTicket = Dictionary(uniqueKeysWithValues: zip(tickets, 0..<5000))
            var right = 0
            for await (ticket, outcome) in inbox.outbox() {
                #expect(outcome == .value(try #require(itemOfTicket[ticket]) + 1))
                right += 1
                if right == 5000 { break }
            }
            let status = try await flock.nodes[0].status()
            #expect(status.stages[0].items == 5000)
            #expect(status.stages[0].batches > 2, "it began with small batches")
        }
    }
}

/// One instance and its queue in virtual time.
struct StageSimulation {
    struct Phase {
        var until: Double
        /// Milliseconds.
        var fixed: Double
        var perItem: Double
        /// Items a millisecond, without the bursts.
        var rate: Double
    }

    struct Figures: CustomStringConvertible {
        var name: String
        var p50 = 0.0
        var p99 = 0.0
        /// Of all items, those within the objective.
        var inTime = 0.0
        var meanBatch = 0.0
        var busy = 0.0
        var shed = 0.0

        var description: String {
            String(
                format: "p50 %7.2f ms, p99 %8.2f ms, in time %6.2f %%, batch %6.1f, busy %5.1f %%, shed %5.2f %%  ",
                p50,
                p99, inTime * 100, meanBatch, busy * 100, shed * 100) + name
        }
    }

    var phases: [Phase]
    var burst = 0
    var burstEvery = 500.0
    /// What items bring as their deadline, in milliseconds.
    var deadline: Double?
    var objective: Double
    /// Share of calls that take five times as long.
    var stalls = 0.0
    let seed: UInt64

    private func arrivals(_ random: inout SeededRandom) -> [Double] {
        var times: [Double] = []
        var time = 0.0
        for phase in phases {
            while time < phase.until {
                time += -log(1 - Double.random(in: 0..<1, using: &random)) / phase.rate
                times.append(time)
            }
        }
        var next = burstEvery
        while burst > 0, next < phases.last?.until ?? 0 {
            for _ in 0..<burst { times.append(next) }
            next += burstEvery
        }
        return times.sorted()
    }

    private func tick(_ milliseconds: Double) -> Tick { Tick(nanoseconds: UInt64(milliseconds * 1e6)) }

    private static let item = ItemBuffer(
        fixed: Bytes(count: 8) { $0.initializeMemory(as: UInt8.self, repeating: 0) }, stride: 8, count: 1)
    private static let nothing = Assignment { _, _ in }

    private func work(_ number: Int, arrived: Double) -> WorkRun {
        WorkRun(
            run: RequestRun(
                partition: PartitionID(rawValue: 0), session: SessionID(rawValue: 1),
                sequences: SequenceRun(first: UInt64(number), count: 1)), items: Self.item,
            deadline: deadline.map { tick(arrived + $0) }, arrived: tick(arrived), assignment: Self.nothing)
    }

    func run(_ name: String, _ policy: BatchPolicy) -> Figures {
        var random = SeededRandom(seed: seed)
        let times = arrivals(&random)
        var learned = policy.objective.map(LatencyObjective.init)
        var queue = WorkQueue()
        var next = 0
        var now = 0.0
        var latencies: [Double] = []
        var busy = 0.0
        var batches = 0
        var shed = 0
        let limits = Limits()
        while next < times.count || !queue.isEmpty {
            if queue.isEmpty { now = max(now, times[next]) }
            while next < times.count, times[next] <= now {
                queue.append(work(next, arrived: times[next]))
                next += 1
            }
            guard let oldest = queue.oldest else { continue }
            var batch: [WorkRun] = []
            if learned != nil {
                let late: [WorkRun]
                (batch, late) = policy.take(from: &queue, for: learned, idle: 0, now: tick(now), limits: limits)
                shed += late.count
            } else {
                switch policy.decide(
                    items: queue.items, bytes: queue.bytes, waited: tick(now) - oldest.arrived, idle: 0,
                    draining: next == times.count, limits: limits)
                {
                case .wait(let duration):
                    // Until then, or until another item may have filled the batch.
                    let end = now + max(Double(duration.clampedNanoseconds) / 1e6, 1e-6)
                    now = next < times.count ? min(end, times[next]) : end
                    continue
                case .take(let items, let bytes):
                    batch = queue.cut(items: items, bytes: bytes)
                    // As a lane does: what is over is not worth a call.
                    let due = batch.filter { $0.deadline.map { $0 > tick(now) } ?? true }
                    shed += batch.count - due.count
                    batch = due
                }
            }
            guard !batch.isEmpty else { continue }
            let phase = phases.first { now < $0.until } ?? phases[phases.count - 1]
            var time = (phase.fixed + phase.perItem * Double(batch.count)) * .random(in: 0.9...1.1, using: &random)
            if random.chance(stalls) { time *= 5 }
            now += time
            busy += time
            batches += 1
            learned?.finished(items: batch.count, took: .nanoseconds(Int64(time * 1e6)))
            for work in batch { latencies.append(now - times[Int(work.run.sequences.first)]) }
        }
        latencies.sort()
        var figures = Figures(name: name)
        figures.p50 = latencies[latencies.count / 2]
        figures.p99 = latencies[latencies.count * 99 / 100]
        figures.inTime = Double(latencies.count { $0 <= objective }) / Double(times.count)
        figures.meanBatch = Double(latencies.count) / Double(batches)
        figures.busy = busy / now
        figures.shed = Double(shed) / Double(times.count)
        return figures
    }
}

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
        let figures = all.map { simulation.run($0, $1) }
        print("\(title), seed \(simulation.seed)\n" + figures.map { "  \($0)" }.joined(separator: "\n"))
        return figures
    }

    @Test("keeps it at 80 % load through bursts and a cost that doubles", arguments: Array(1...3) as [UInt64])
    func keepsIt(seed: UInt64) {
        var simulation = doubling(load: 0.8, seed: seed)
        simulation.burst = 60
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
        simulation.burst = 500
        simulation.burstEvery = 200
        let figures = compare(
            "30 % load, cost doubles at half time, bursts of 500", simulation,
            [("lingering(2 ms, upTo: 512)", .lingering(.milliseconds(2), upTo: 512)), ("drain", .drain)])
        #expect(figures[0].inTime > figures[1].inTime && figures[0].inTime > figures[2].inTime)
    }

    @Test(
        "is not worse than draining where calls stall, which no batch size helps", arguments: Array(1...3) as [UInt64])
    func stalls(seed: UInt64) {
        var simulation = doubling(load: 0.8, seed: seed)
        simulation.burst = 60
        simulation.stalls = 0.001
        let figures = compare("80 % load, 1 call of 1000 takes five times as long", simulation, [("drain", .drain)])
        #expect(figures[0].inTime > figures[1].inTime - 0.01)
    }

    @Test("at 1.5 times what it can do sheds early, and what it does is in time", arguments: Array(1...3) as [UInt64])
    func overload(seed: UInt64) {
        var simulation = doubling(load: 1.5, seed: seed)
        simulation.deadline = 20
        let figures = compare(
            "150 % load, cost doubles at half time, deadlines of 20 ms", simulation,
            [("lingering(2 ms, upTo: 160)", .lingering(.milliseconds(2), upTo: 160)), ("drain", .drain)])
        // At most 1 / 1.5 can be done in batches that take half of the objective.
        #expect(figures[0].inTime > 0.85 / 1.5)
        #expect(figures[0].inTime > figures[1].inTime && figures[0].inTime > figures[2].inTime)
    }
}
