// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Event loop", .timeLimit(.minutes(1)))
struct EventLoopTests {
    actor Pinned {
        private let loop: EventLoop
        nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
        var count = 0

        init(_ loop: EventLoop) { self.loop = loop }

        func add() -> Bool {
            count += 1
            return loop.isCurrent
        }
    }

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
        var generator = SplitMix(state: seed)
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
    }

    @Test("100 loops with listeners and connections leave no descriptor and no object behind")
    func leaksNothing() async throws {
        // In a process of its own, whose descriptors no other test opens.
        await #expect(processExitsWith: .success) {
            // What libraries open once is opened now.
            try await Self.useOnce()
            let before = Self.openDescriptors()
            let live = LiveObjects()
            for _ in 0..<100 { try await Self.useOnce(counting: live) }
            #expect(Self.openDescriptors() == before)
            #expect(live.alive == [])
        }
    }

    private static func useOnce(counting live: LiveObjects? = nil) async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let answered = Counter(goal: 2)
        let listener = try await server.listening { connection in
            live?.add(connection)
            live?.add(connection.stream)
            echo(connection)
        }
        for _ in 0..<2 {
            let connection = try await client.connected(to: listener)
            live?.add(connection)
            live?.add(connection.stream)
            await client.run {
                connection.onFrame = { _ in
                    _ = connection
                    answered.add()
                }
                connection.send(.call) { $0.write(1 as UInt64) }
            }
        }
        let dangling = try await client.connected(to: listener)
        live?.add(dangling.stream)
        // What fails leaves nothing behind either.
        await #expect(throws: FlockError(.unauthenticated, "")) {
            _ = try await client.connected(to: listener, as: .client(token: .other))
        }
        await #expect(throws: FlockError(.system, "")) {
            _ = try await Listener.bind(
                host: "127.0.0.1", port: listener.port, on: client, identity: .node(), limits: Limits(), log: .quiet
            ) { _ in }
        }
        let link = Link(
            host: "127.0.0.1", port: listener.port, on: client, identity: .node("node-2"), limits: Limits(),
            log: .quiet, onUp: { connection in live?.add(connection) })
        link.start()
        live?.add(link)
        live?.add(client.schedule(after: .seconds(100)) {})
        live?.add(listener)
        live?.add(server)
        live?.add(client)
        await answered.reachGoal()
        await client.stop()
        await server.stop()
    }

    static func openDescriptors() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return -1 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count
    }
}

/// Weak references to what should be gone.
final class LiveObjects: Sendable {
    private struct Entry { weak var object: (any AnyObject & Sendable)? }
    private let entries = Mutex<[Entry]>([])

    func add(_ object: any AnyObject & Sendable) { entries.withLock { $0.append(Entry(object: object)) } }

    var alive: [String] {
        entries.withLock { $0.compactMap { entry in entry.object.map { "\(type(of: $0))" } } }
    }
}

/// What a loop ran, for whom, and whether ever two at a time.
private final class SeenTurns: Sendable {
    private let isBusy = Atomic(false)
    private let overlapped = Atomic(false)
    private let seen = Mutex<[Int: [Int]]>([:])

    func saw(_ number: Int, of caller: Int) {
        if isBusy.exchange(true, ordering: .relaxed) { overlapped.store(true, ordering: .relaxed) }
        seen.withLock { $0[caller, default: []].append(number) }
        isBusy.store(false, ordering: .relaxed)
    }

    var isOverlapped: Bool { overlapped.load(ordering: .relaxed) }
    func numbers(of caller: Int) -> [Int] { seen.withLock { $0[caller] ?? [] } }
}

extension EventLoop {
    fileprivate var isAsleep: Bool { inbox.withLock { $0.isAsleep } }
}

extension EventLoopTests {
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

    @Test("a thread that brings work to a sleeping loop may borrow it, and only one thread runs it at a time")
    func isBorrowed() async throws {
        let loop = try EventLoop(name: "borrowed")
        let turns = SeenTurns()
        let done = Counter(goal: 40_000)
        await withTaskGroup(of: Void.self) { group in
            for caller in 0..<4 {
                group.addTask {
                    for number in 0..<10_000 {
                        let work: @Sendable () -> Void = {
                            #expect(loop.isCurrent)
                            turns.saw(number, of: caller)
                            done.add()
                        }
                        if number % 3 == 0 { loop.execute(work) } else { loop.perform(work) }
                    }
                }
            }
        }
        await done.reachGoal()
        #expect(turns.isOverlapped == false, "two threads ran the loop")
        for caller in 0..<4 { #expect(turns.numbers(of: caller) == Array(0..<10_000), "in its caller's order") }
        for _ in 0..<20 {
            try await eventually { loop.isAsleep }
            let own = pthread_self()
            let ran = Mutex<pthread_t?>(nil)
            loop.perform { ran.withLock { $0 = pthread_self() } }
            #expect(ran.withLock { $0 } == own, "a sleeping loop is borrowed")
            #expect(!loop.isCurrent)
        }
        await loop.stop()
    }

    @Test("a borrowed turn leaves actors and tasks to the loop's own thread, and timers that it sets fire")
    func leavesJobs() async throws {
        let loop = try EventLoop(name: "leaves")
        let actor = Pinned(loop)
        let turns = Counter(goal: 200)
        let fired = Counter(goal: 100)
        for _ in 0..<100 {
            try await eventually { loop.isAsleep }
            loop.perform {
                Task {
                    #expect(await actor.add())
                    turns.add()
                }
                Task(executorPreference: loop.taskExecutor) {
                    #expect(loop.isCurrent)
                    turns.add()
                }
                loop.schedule(after: .microseconds(100)) {
                    #expect(loop.isCurrent)
                    fired.add()
                }
            }
        }
        await turns.reachGoal()
        await fired.reachGoal()
        await loop.stop()
    }

    @Test("what a borrowed turn sends arrives, also when the socket takes only a part of it")
    func sendsBorrowed() async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let listener = try await server.listening { connection in echo(connection) }
        let connection = try await client.connected(to: listener)
        let answered = Counter(goal: 60)
        await client.run { connection.onFrame = { _ in answered.add() } }
        let large = Bytes([UInt8](repeating: 7, count: 1 << 20))
        for number in 0..<60 {
            client.perform {
                if number % 2 == 0 {
                    connection.send(.call) { $0.write(UInt64(number)) }
                } else {
                    connection.send(.call, { $0.write(UInt64(number)) }, payload: large)
                }
            }
            try await eventually { answered.value > number - 4 }
        }
        await answered.reachGoal()
        await client.stop()
        await server.stop()
    }
}
