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
            _ = LatencyObjective(.seconds(1)).upper(.max)
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
    func sheds() throws {
        let now = Tick(nanoseconds: 1 << 40)
        var queue = LaneQueue(policy: .within(.milliseconds(20)), limits: Limits())
        for round in 0..<400 {
            let items = 1 + round * 37 % 160
            queue.finished(0, items: items, took: .microseconds(1000 + 50 * items))
        }
        func take() throws -> (batch: [UInt64], late: [UInt64]) {
            guard case .batch(let taken) = queue.next(idle: 0, isClosing: false, now: now) else {
                throw FlockError(.invalidInput, "no batch")
            }
            return (taken.runs.map(\.run.sequences.first), taken.late.map(\.run.sequences.first))
        }
        // 40 items take 3 ms.
        queue.append(run(10, deadline: .milliseconds(2), first: 0), to: 0)
        queue.append(run(20, deadline: .milliseconds(5), first: 10), to: 0)
        queue.append(run(10, deadline: nil, first: 30), to: 0)
        let (batch, late) = try take()
        #expect(late == [0] && batch == [10, 30])
        #expect(queue.isEmpty && queue.backlog(of: 0) == (0, 0))

        queue.append(run(10, deadline: .zero, first: 0), to: 0)
        queue.append(run(10, deadline: .microseconds(100), first: 10), to: 0)
        queue.append(run(10, deadline: .microseconds(100), first: 20), to: 0)
        let (probe, rest) = try take()
        #expect(probe == [10] && rest == [0, 20])
        #expect(queue.isEmpty && queue.backlog(of: 0) == (0, 0))
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
