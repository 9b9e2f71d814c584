// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Event loop", .timeLimit(.minutes(1)))
struct EventLoopTests {
    @Test("work from other threads runs on the loop, each once and in order", arguments: [false, true])
    func executes(busyPoll: Bool) async throws {
        let loop = try EventLoop(name: "work", busyPoll: busyPoll)
        let seen = Mutex<[Int]>([])
        let done = Counter(goal: 10_000)
        for number in 0..<10_000 {
            loop.execute {
                #expect(loop.isCurrent)
                seen.withLock { $0.append(number) }
                done.add()
            }
        }
        await done.reachGoal()
        #expect(seen.withLock { $0 } == Array(0..<10_000))
        #expect(!loop.isCurrent)
        await loop.stop()
    }

    @Test("an actor pinned to the loop runs on its thread")
    func pinsActors() async throws {
        let loop = try EventLoop(name: "pinned")
        let actor = Pinned(loop)
        for _ in 0..<1000 { #expect(await actor.add()) }
        #expect(await actor.count == 1000)
        await loop.stop()
    }

    @Test("a task that prefers the loop runs on its thread")
    func runsTasks() async throws {
        let loop = try EventLoop(name: "tasks")
        let onLoop = await Task(executorPreference: loop.taskExecutor) {
            await Task.yield()
            return loop.isCurrent
        }.value
        #expect(onLoop)
        await loop.stop()
    }

    @Test("a hook runs once a turn, after work, and again in the same turn when armed by its effects")
    func runsHooks() async throws {
        let loop = try EventLoop(name: "hooks")
        let events = Mutex<[String]>([])
        let done = Promise<Void>()
        let second = TurnHook(on: loop) {
            events.withLock { $0.append("second") }
            done.fulfil(())
        }
        let first = TurnHook(on: loop) {
            events.withLock { $0.append("first") }
            second.arm()
        }
        loop.execute {
            first.arm()
            first.arm()
            loop.execute { events.withLock { $0.append("work") } }
        }
        await done.value
        await loop.stop()
        #expect(events.withLock { $0 } == ["first", "work", "second"])
    }

    @Test("a hook that arms itself for ever does not keep I/O and work out")
    func boundsRounds() async throws {
        let loop = try EventLoop(name: "rounds")
        let stopped = Atomic(false)
        let rounds = Counter(goal: 1000)
        let hook = Mutex<TurnHook?>(nil)
        let made = TurnHook(on: loop) {
            rounds.add()
            if !stopped.load(ordering: .relaxed) { hook.withLock { $0 }?.arm() }
        }
        hook.withLock { $0 = made }
        loop.execute { made.arm() }
        await rounds.reachGoal()
        let fired = Promise<Void>()
        loop.schedule(after: .milliseconds(1)) { fired.fulfil(()) }
        await fired.value
        stopped.store(true, ordering: .relaxed)
        await loop.stop()
        hook.withLock { $0 = nil }
    }

    @Test("stop may be called by many, twice, and by a task of the loop itself")
    func stops() async throws {
        let loop = try EventLoop(name: "stop")
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<10 { group.addTask { await loop.stop() } }
        }
        await loop.stop()
        let own = try EventLoop(name: "own")
        await Task(executorPreference: own.taskExecutor) { await own.stop() }.value
        let actor = Pinned(own)
        #expect(await actor.add(), "work after the end is run by who brings it")
        let ran = Promise<Void>()
        own.execute { own.execute { ran.fulfil(()) } }
        await ran.value
    }

    @Test("a stopped loop refuses to connect and to listen, and drops timers")
    func refusesAfterStop() async throws {
        let loop = try EventLoop(name: "late")
        await loop.stop()
        await #expect(throws: FlockError(.shuttingDown, "")) {
            _ = try await Dialer.connect(
                host: "127.0.0.1", port: 1, on: loop, identity: .client(), limits: Limits())
        }
        await #expect(throws: FlockError(.shuttingDown, "")) {
            _ = try await loop.listening { _ in }
        }
        loop.schedule(after: .zero) { Issue.record("a timer of a stopped loop fired") }
        #expect(await loop.run { loop.timers.earliest } == nil)
    }

    @Test("work of the loop's own and of other threads runs in the order in which it came")
    func keepsOrder() async throws {
        let loop = try EventLoop(name: "order")
        let other = try EventLoop(name: "other")
        for _ in 0..<200 {
            let order = Mutex<[Int]>([])
            let done = Promise<Void>()
            // The loop itself, then another thread, then the loop again, each told by the one before.
            loop.execute {
                loop.execute { order.withLock { $0.append(1) } }
                let second = Atomic(false)
                other.execute {
                    loop.execute { order.withLock { $0.append(2) } }
                    second.store(true, ordering: .releasing)
                }
                while !second.load(ordering: .acquiring) {}
                loop.execute { order.withLock { $0.append(3) } }
                loop.execute { done.fulfil(()) }
            }
            await done.value
            #expect(order.withLock { $0 } == [1, 2, 3])
        }
        await loop.stop()
        await other.stop()
    }
}
