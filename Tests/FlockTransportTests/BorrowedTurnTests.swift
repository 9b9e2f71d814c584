// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

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

@Suite("Borrowed turns of a loop", .timeLimit(.minutes(1)))
struct BorrowedTurnTests {
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
