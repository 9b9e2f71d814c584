// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Timers of a loop", .timeLimit(.minutes(1)))
struct LoopTimerTests {
    @Test("timers fire in the order of their deadlines, not before them")
    func firesTimers() async throws {
        let loop = try EventLoop(name: "timers")
        let order = Mutex<[Tick]>([])
        let done = Counter(goal: 50)
        for number in (0..<50).reversed() {
            let deadline = Promise<Tick>()
            let timer = loop.schedule(after: .microseconds(2000 + number * 200)) {
                let now = EventLoop.now
                Task {
                    let deadline = await deadline.value
                    #expect(now >= deadline)
                    done.add()
                }
            }
            deadline.fulfil(timer.deadline)
        }
        await done.reachGoal()
        // In order: timers of one turn, set before any of them is due.
        let fired = Counter(goal: 50)
        await loop.run {
            for number in (0..<50).reversed() {
                let box = Mutex<LoopTimer?>(nil)
                let timer = loop.schedule(after: .microseconds(number * 50)) {
                    order.withLock { $0.append(box.withLock { $0.take() }!.deadline) }
                    fired.add()
                }
                box.withLock { $0 = timer }
            }
        }
        await fired.reachGoal()
        let seen = order.withLock { $0 }
        #expect(seen == seen.sorted())
        await loop.stop()
    }

    @Test("a cancelled timer does not fire and leaves the heap, wherever it is cancelled")
    func cancelsTimers() async throws {
        let loop = try EventLoop(name: "cancel")
        let fired = Counter()
        let timers = (0..<100).map { number in
            loop.schedule(after: .seconds(50 + number % 7)) { fired.add() }
        }
        for timer in timers.prefix(50) {
            timer.cancel()
            timer.cancel()
        }
        await loop.run { for timer in timers.suffix(50) { timer.cancel() } }
        #expect(await loop.run { loop.timers.earliest } == nil)
        // Due at once, but cancelled in the same turn.
        await loop.run { loop.schedule(after: .zero) { fired.add() }.cancel() }
        let later = Promise<Void>()
        loop.schedule(after: .milliseconds(1)) { later.fulfil(()) }
        await later.value
        #expect(fired.value == 0)
        await loop.stop()
    }

    @Test("a heap of timers gives them back sorted, whatever was removed")
    func sortsTimers() async throws {
        let loop = try EventLoop(name: "heap")
        var random = SystemRandomNumberGenerator()
        let seed = random.next()
        var generator = SeededRandom(seed: seed)
        for _ in 0..<200 {
            var heap = TimerHeap()
            let timers = (0..<100).map { _ in
                LoopTimer(loop: loop, deadline: Tick(nanoseconds: generator.next() % 50), work: {})
            }
            for timer in timers { heap.insert(timer) }
            let removed = Set((0..<40).map { _ in Int(generator.next() % 100) })
            for index in removed { heap.remove(timers[index]) }
            var expected = timers.indices.filter { !removed.contains($0) }.map { timers[$0].deadline }.sorted()
            while let timer = heap.popDue(at: .never) { #expect(timer.deadline == expected.removeFirst(), "\(seed)") }
            #expect(expected.isEmpty, "seed \(seed)")
        }
        await loop.stop()
    }
}
