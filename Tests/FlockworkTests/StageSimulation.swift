// Flockwork · Apache-2.0 · see LICENSE

import FlockCluster
import FlockTestKit
import FlockWire
import Foundation

@testable import Flockwork

/// One instance and its queue in virtual time: the queue is the node's own.
struct StageSimulation {
    struct Phase {
        /// Milliseconds.
        var until: Double
        var fixed: Double
        var perItem: Double
        /// Items a millisecond of the first tenant, without the bursts.
        var rate: Double
    }

    /// Who sends. Each has a flow of its own, or shares one with another priority.
    struct Tenant {
        var name = "all"
        var flow = 0
        var priority = RequestPriority.normal
        /// Times the rate of the phase.
        var rate = 1.0
        var burst = 0
        var burstEvery = 500.0
        /// What its items bring as their deadline, in milliseconds.
        var deadline: Double?
    }

    struct Figures: CustomStringConvertible {
        var name: String
        var p50 = 0.0
        var p99 = 0.0
        /// Of all items, those within the objective.
        var inTime = 0.0
        var shed = 0.0
        var meanBatch = 0.0
        var busy = 0.0

        var description: String {
            String(
                format: "p50 %7.2f ms, p99 %8.2f ms, in time %6.2f %%, batch %6.1f, busy %5.1f %%, shed %5.2f %%  ",
                p50, p99, inTime * 100, meanBatch, busy * 100, shed * 100) + name
        }
    }

    private struct Item {
        var time: Double
        var tenant: Int
    }

    var phases: [Phase]
    var tenants = [Tenant()]
    var weights = [1]
    var objective: Double
    /// Share of calls that take five times as long.
    var stalls = 0.0
    let seed: UInt64

    private func arrivals(_ random: inout SeededRandom) -> [Item] {
        var items: [Item] = []
        let end = phases[phases.count - 1].until
        for (index, tenant) in tenants.enumerated() {
            var time = 0.0
            for phase in phases {
                while time < phase.until {
                    time += -log(1 - Double.random(in: 0..<1, using: &random)) / (phase.rate * tenant.rate)
                    items.append(Item(time: time, tenant: index))
                }
            }
            var next = tenant.burstEvery
            while tenant.burst > 0, next < end {
                for _ in 0..<tenant.burst { items.append(Item(time: next, tenant: index)) }
                next += tenant.burstEvery
            }
        }
        return items.sorted { ($0.time, $0.tenant) < ($1.time, $1.tenant) }
    }

    private func tick(_ milliseconds: Double) -> Tick { Tick(nanoseconds: UInt64(milliseconds * 1e6)) }

    private static let item = ItemBuffer(
        fixed: Bytes(count: 8) { $0.initializeMemory(as: UInt8.self, repeating: 0) }, stride: 8, count: 1)
    private static let nothing = Assignment { _, _ in }

    private func work(_ number: Int, _ item: Item) -> WorkRun {
        let tenant = tenants[item.tenant]
        return WorkRun(
            run: RequestRun(
                partition: PartitionID(rawValue: 0), session: SessionID(rawValue: UInt64(item.tenant)),
                sequences: SequenceRun(first: UInt64(number), count: 1)), items: Self.item,
            deadline: tenant.deadline.map { tick(item.time + $0) }, arrived: tick(item.time),
            priority: tenant.priority, assignment: Self.nothing)
    }

    /// The figures of each tenant. Every item must be computed or shed, once.
    func run(_ name: String, _ policy: BatchPolicy) -> [Figures] {
        var random = SeededRandom(seed: seed)
        let items = arrivals(&random)
        var queue = LaneQueue(policy: policy, weights: weights, limits: Limits())
        var log = Log(items: items.count, tenants: tenants.count)
        var next = 0
        var now = 0.0
        while next < items.count || !queue.isEmpty {
            if queue.isEmpty { now = max(now, items[next].time) }
            while next < items.count, items[next].time <= now {
                queue.append(work(next, items[next]), to: tenants[items[next].tenant].flow)
                next += 1
            }
            switch queue.next(idle: 0, isClosing: next == items.count, now: tick(now)) {
            case .empty: continue
            case .wait(let duration):
                // Until then, or until another item may have filled the batch.
                let end = now + max(Double(duration.clampedNanoseconds) / 1e6, 1e-6)
                now = next < items.count ? min(end, items[next].time) : end
            case .batch(let taken):
                // As a lane does: what is over is not worth a call.
                let due = taken.runs.filter { $0.deadline.map { $0 > tick(now) } ?? true }
                log.shed(taken.late + taken.runs.filter { $0.deadline.map { $0 <= tick(now) } ?? false })
                guard !due.isEmpty else { continue }
                let phase = phases.first { now < $0.until } ?? phases[phases.count - 1]
                var time = (phase.fixed + phase.perItem * Double(due.count)) * .random(in: 0.9...1.1, using: &random)
                if random.chance(stalls) { time *= 5 }
                now += time
                queue.finished(taken.flow, items: due.count, took: .nanoseconds(Int64(time * 1e6)))
                log.done(due, at: now, took: time)
            }
        }
        return tenants.indices.map { index in
            let of = tenants.count > 1 ? "\(name): \(tenants[index].name)" : name
            return log.figures(of, tenant: index, objective: objective, all: items.count { $0.tenant == index }, now)
        }
    }

    /// What became of the items.
    private struct Log {
        private var ended: [Bool]
        private var latencies: [[Double]]
        private var shed: [Int]
        private var busy = 0.0
        private var batches = 0

        init(items: Int, tenants: Int) {
            ended = Array(repeating: false, count: items)
            latencies = Array(repeating: [], count: tenants)
            shed = Array(repeating: 0, count: tenants)
        }

        private mutating func end(_ work: WorkRun) {
            let number = Int(work.run.sequences.first)
            precondition(!ended[number], "item \(number) ended twice")
            ended[number] = true
        }

        mutating func shed(_ runs: [WorkRun]) {
            for work in runs {
                end(work)
                shed[Int(work.run.session.rawValue)] += 1
            }
        }

        mutating func done(_ runs: [WorkRun], at now: Double, took time: Double) {
            for work in runs {
                end(work)
                latencies[Int(work.run.session.rawValue)].append(
                    now - Double(work.arrived.nanoseconds) / 1e6)
            }
            busy += time
            batches += 1
        }

        func figures(_ name: String, tenant: Int, objective: Double, all: Int, _ now: Double) -> Figures {
            precondition(ended.allSatisfy(\.self), "\(ended.count { !$0 }) items never ended")
            let sorted = latencies[tenant].sorted()
            var figures = Figures(name: name)
            figures.p50 = sorted.isEmpty ? .infinity : sorted[sorted.count / 2]
            figures.p99 = sorted.isEmpty ? .infinity : sorted[sorted.count * 99 / 100]
            figures.inTime = Double(sorted.count { $0 <= objective }) / Double(all)
            figures.shed = Double(shed[tenant]) / Double(all)
            figures.meanBatch = Double(latencies.reduce(0) { $0 + $1.count }) / Double(max(batches, 1))
            figures.busy = busy / now
            return figures
        }
    }
}
