// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Testing

@Suite("parts of the simulator")
struct PartsTests {
    @Test("events come by time, and those of one time in the order in which they were pushed")
    func order() {
        var random = SimulatedRandom(seed: 3)
        var queue = EventQueue<Int>()
        var pushed: [(time: UInt64, number: Int)] = []
        var popped: [(time: UInt64, number: Int)] = []
        for number in 0..<2000 {
            let time = random.below(UInt64(50)) + (popped.last?.time ?? 0)
            queue.push(number, at: time)
            pushed.append((time, number))
            if random.chance(300), let next = queue.pop() { popped.append((next.time, next.event)) }
        }
        while let next = queue.pop() { popped.append((next.time, next.event)) }
        #expect(popped.count == pushed.count)
        for (left, right) in zip(popped, popped.dropFirst()) { #expect(left.time <= right.time) }
        for (left, right) in zip(popped, popped.dropFirst()) where left.time == right.time {
            #expect(left.number < right.number)
        }
    }

    @Test("a clock shows a time no earlier than asked for when it is waited for", arguments: [-2000, 0, 731, 2000])
    func clock(drift: Int) {
        let clock = SimulatedClock(start: 1_000_000, offset: 77_000_000_000, driftPartsPerMillion: drift)
        var random = SimulatedRandom(seed: UInt64(drift + 5000))
        for _ in 0..<1000 {
            let local = 77_000_000_000 + random.below(UInt64(60_000_000_000))
            let global = clock.global(local)
            #expect(clock.local(global) >= local)
            #expect(clock.local(global) - local < 10)
        }
    }

    @Test("a cut loses one direction, cuts add up, and healing ends them all")
    func cuts() {
        var random = SimulatedRandom(seed: 1)
        var network = SimulatedNetwork(ends: 3, shortest: 10, longest: 20)
        network.cut(from: 0, to: 1)
        network.cut(from: 0, to: 1)
        #expect(network.send(from: 0, to: 1, random: &random).first == nil)
        #expect(network.send(from: 1, to: 0, random: &random).first.map { (10...20).contains($0) } == true)
        network.mend(from: 0, to: 1)
        #expect(network.isCut(from: 0, to: 1))
        network.heal()
        #expect(!network.isCut(from: 0, to: 1))
    }
}
