// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import Glibc
import Synchronization
import Testing

@Suite("A thread of one's own", .timeLimit(.minutes(1)))
struct OwnThreadTests {
    @Test("runs a task and what it awaits, goes on after waits, and is left when the task ends")
    func task() async throws {
        let thread = try OwnThread(name: "a-name-of-more-than-15-bytes")
        #expect(thread.name == "a-name-of-more-")
        actor Other {
            func isOn(_ thread: OwnThread) -> Bool { thread.isCurrent }
        }
        let task = Task(executorPreference: thread) {
            var seen = [thread.isCurrent]
            await Task.yield()
            seen.append(thread.isCurrent)
            seen.append(await Other().isOn(thread))
            seen.append(thread.isCurrent)
            return seen
        }
        #expect(await task.value == [true, true, true, true])
        #expect(!thread.isCurrent)
        thread.end()
        thread.join()
    }

    @Test("may end itself, be ended twice and be joined twice")
    func ending() async throws {
        let thread = try OwnThread(name: "ending")
        await Task(executorPreference: thread) { thread.end() }.value
        thread.end()
        thread.join()
        thread.join()
    }

    @Test("runs what it was given before its end; what comes later is run by the pool")
    func late() async throws {
        let thread = try OwnThread(name: "late")
        let done = Done()
        let tasks = (0..<100).map { _ in Task(executorPreference: thread) { done.add() } }
        thread.end()
        thread.join()
        for task in tasks { _ = await task.value }
        #expect(done.count == 100)
        let isOwn = await Task(executorPreference: thread) { thread.isCurrent }.value
        #expect(!isOwn)
    }

    @Test("is woken by many threads without missing a job, and lives no longer than it must")
    func stress() async throws {
        weak var released: OwnThread?
        do {
            let thread = try OwnThread(name: "stress")
            released = thread
            let sum = await withTaskGroup(of: Int.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        var sum = 0
                        for number in 0..<2000 {
                            // The thread falls asleep between them, or not.
                            sum += await Task(executorPreference: thread) { number }.value
                        }
                        return sum
                    }
                }
                return await group.reduce(0, +)
            }
            #expect(sum == 8 * 1999 * 1000)
            thread.end()
        }
        try await eventually { released == nil }
    }
}

private final class Done: Sendable {
    private let done = Atomic<Int>(0)
    var count: Int { done.load(ordering: .relaxed) }
    func add() { done.add(1, ordering: .relaxed) }
}
