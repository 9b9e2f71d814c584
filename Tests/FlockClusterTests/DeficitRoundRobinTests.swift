// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Deficit round robin")
struct DeficitRoundRobinTests {
    /// What each flow gets of 20,000 pieces, if each of its pieces costs `costs` of it. Flows wait always.
    private func shares(_ weights: [Int], quantum: Int, costs: [ClosedRange<Int>], seed: UInt64) -> [Double] {
        var random = seed
        var turns = DeficitRoundRobin(weights: weights)
        var got = weights.map { _ in 0.0 }
        for _ in 0..<20_000 {
            guard let (flow, credit) = turns.next(quantum: quantum, isWaiting: { _ in true }) else { break }
            #expect(credit > 0)
            random = StableHash.mix(random &+ 1)
            let cost = costs[flow].lowerBound + Int(random >> 33) % costs[flow].count
            got[flow] += Double(cost)
            turns.take(cost, from: flow)
        }
        let all = got.reduce(0, +)
        return got.map { $0 / all }
    }

    @Test(
        "gives each flow its weight's part of the cost, whatever its pieces cost", arguments: Array(1...5) as [UInt64])
    func isFair(seed: UInt64) {
        for quantum in [1, 10, 1000] {
            let shares = shares([1, 4, 16], quantum: quantum, costs: [1...1, 50...150, 1...500], seed: seed)
            for (share, weight) in zip(shares, [1.0, 4, 16]) {
                #expect(abs(share / (weight / 21) - 1) < 0.05, "seed \(seed), quantum \(quantum): \(shares)")
            }
        }
    }

    @Test("no flow that waits is passed over for more than a round, however much the others have waiting")
    func starvesNobody() {
        var turns = DeficitRoundRobin(weights: [1, 16])
        var since = [0, 0]
        for step in 0..<1000 {
            guard let (flow, credit) = turns.next(quantum: 10, isWaiting: { _ in true }) else { return }
            turns.take(credit, from: flow)
            #expect(step - since[0] <= 2 && step - since[1] <= 2)
            since[flow] = step
        }
    }

    @Test("a flow that waits for nothing saves nothing, and what it does not take is the others'")
    func idle() {
        var turns = DeficitRoundRobin(weights: [1, 1])
        for _ in 0..<100 {
            let next = turns.next(quantum: 10) { $0 == 0 }
            #expect(next?.flow == 0 && next?.credit == 10)
            turns.take(10, from: 0)
        }
        #expect(turns.next(quantum: 10) { _ in false } == nil)
        let later = turns.next(quantum: 10) { $0 == 1 }
        #expect(later?.flow == 1 && later?.credit == 10)
    }

    @Test("what is left of a turn that ends is there in the next one, and a debt is paid back in one step")
    func carries() {
        var turns = DeficitRoundRobin(weights: [1, 1])
        let first = turns.next(quantum: 10) { _ in true }
        #expect(first?.flow == 0)
        turns.take(4, from: 0)
        turns.endTurn()
        #expect(turns.next(quantum: 10) { _ in true }?.flow == 1)
        turns.take(1_000_000_000, from: 1)
        let again = turns.next(quantum: 10) { _ in true }
        #expect(again?.flow == 0 && again?.credit == 16)
        // Alone, a flow in debt is served at once all the same.
        let alone = turns.next(quantum: 10) { $0 == 1 }
        #expect(alone?.flow == 1 && (alone?.credit ?? 0) > 0)
    }

    @Test("of queued runs those of a higher priority go first where credit is short, and the others go too")
    func dispatcher() {
        var limits = Limits()
        limits.creditItems = 100
        var dispatcher = Dispatcher(seed: 1, limits: limits)
        var out: [DispatcherDirective] = []
        func feed(_ event: DispatcherEvent) { dispatcher.step(event, now: .zero, out: &out) }
        func run(_ number: Int, _ priority: RequestPriority) -> OpenRun {
            var run = OpenRun(
                requests: RequestRun(
                    partition: Partition.id, session: SessionID(rawValue: UInt64(priority.rawValue)),
                    sequences: sequences(UInt64(number) * 10, 10)), pipeline: 0,
                items: items(10, from: UInt64(number) * 10))
            run.priority = priority
            return run
        }
        for number in 0..<2000 { feed(.enqueue(run(number, .low))) }
        for number in 0..<2000 { feed(.enqueue(run(number, .high))) }
        #expect(dispatcher.heldItems(of: .low) == 20_000 && dispatcher.heldItems(of: .high) == 20_000)
        feed(.hostUp(HostID(rawValue: 1), isLocal: true, creditItems: 100, creditBytes: 1 << 20))
        var sent: [RequestPriority: Int] = [:]
        for _ in 0..<170 {
            out = []
            feed(.tick)
            var answered: [RequestRun] = []
            for case .send(_, let runs) in out {
                for run in runs {
                    sent[run.priority, default: 0] += run.items.count
                    answered.append(run.requests)
                }
            }
            feed(.finished(HostID(rawValue: 1), runs: answered))
        }
        // 16 to 1, as long as both wait.
        #expect((900...1100).contains(sent[.low] ?? 0), "\(sent)")
        #expect(dispatcher.heldItems(of: .low) == 20_000 - (sent[.low] ?? 0))
        #expect(dispatcher.heldItems(of: .high) == 20_000 - (sent[.high] ?? 0))
    }
}
