// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockGRPC

@Suite("completion queues as executors", .timeLimit(.minutes(1)))
struct CompletionQueueTests {
    private final class Seen: Sendable {
        let threads = Mutex<[UInt]>([])
        func note() { threads.withLock { $0.append(UInt(pthread_self())) } }
    }

    private final class Counter: Sendable {
        let count = Atomic(0)
        func add() { count.add(1, ordering: .relaxed) }
        func subtract() { count.subtract(1, ordering: .relaxed) }
        var value: Int { count.load(ordering: .relaxed) }
    }

    @Test("a call for a queue that sleeps runs on the thread that brings it, and is on the queue")
    func borrowed() async throws {
        let queue = try CompletionQueue(name: "asleep")
        // The thread falls asleep some time after its start.
        try await eventually {
            let seen = Seen()
            queue.execute { if queue.isCurrent { seen.note() } }
            // What was borrowed has run by now.
            return seen.threads.withLock { $0 } == [UInt(pthread_self())]
        }
        #expect(!queue.isCurrent)
        await queue.stop()
    }

    @Test("calls of many threads run one at a time, each once, whoever runs them")
    func exclusive() async throws {
        let queue = try CompletionQueue(name: "shared")
        let inside = Counter()
        let overlaps = Counter()
        let done = Counter()
        await withTaskGroup { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<2000 {
                        queue.execute {
                            inside.add()
                            if inside.value != 1 { overlaps.add() }
                            inside.subtract()
                            done.add()
                        }
                    }
                }
            }
        }
        try await eventually { done.value == 16_000 }
        await queue.stop()
        #expect(overlaps.value == 0)
    }

    @Test("tasks that prefer a queue run on its thread, and come back to it")
    func tasks() async throws {
        let queue = try CompletionQueue(name: "tasks")
        let isThere = await Task(executorPreference: queue.taskExecutor) {
            guard queue.isCurrent else { return false }
            for _ in 0..<100 {
                await withCheckedContinuation { continuation in
                    Task.detached { continuation.resume() }
                }
                guard queue.isCurrent else { return false }
            }
            return true
        }.value
        #expect(isThere)
        await queue.stop()
    }

    private enum Told { @TaskLocal static var name = "nobody" }

    @Test("a task that a thread wakes while it takes errands runs on that thread, and both tasks are what they were")
    func errand() async throws {
        let queue = try CompletionQueue(name: "errands")
        let seen = Seen()
        let parked = Mutex<[CheckedContinuation<Void, Never>]>([])
        let isOver = Atomic(false)
        let task = Task(executorPreference: queue.taskExecutor) {
            await Told.$name.withValue("errand") {
                while !isOver.load(ordering: .relaxed) {
                    await withCheckedContinuation { continuation in parked.withLock { $0.append(continuation) } }
                    if Told.name == "errand", queue.isCurrent { seen.note() }
                }
            }
        }
        try await Told.$name.withValue("caller") {
            // Only a queue that sleeps is borrowed.
            try await eventually {
                guard let continuation = parked.withLock({ $0.popLast() }) else { return false }
                let outcome = Errands.run {
                    let before = seen.threads.withLock { $0.count }
                    continuation.resume()
                    // Not in the middle of what this thread is at.
                    if seen.threads.withLock({ $0.count }) > before {
                        #expect(seen.threads.withLock { $0.last } != UInt(pthread_self()))
                    }
                }
                #expect(Told.name == "caller" && !queue.isCurrent && !Errands.isOpen)
                guard case .done = outcome else { return false }
                return seen.threads.withLock { $0.last } == UInt(pthread_self())
            }
        }
        isOver.store(true, ordering: .relaxed)
        try await eventually { parked.withLock { $0.popLast() }.map { $0.resume() } != nil }
        await task.value
        await queue.stop()
    }

    @Test("a task that prefers a stopped queue is run all the same")
    func afterStop() async throws {
        let queue = try CompletionQueue(name: "gone")
        let executor = queue.taskExecutor
        await queue.stop()
        #expect(await Task(executorPreference: executor) { 7 }.value == 7)
    }

    @Test("queues that are used up to their end stop, with calls from everywhere in between")
    func stopUnderLoad() async throws {
        for _ in 0..<50 {
            let queue = try CompletionQueue(name: "short")
            let count = Counter()
            await withTaskGroup { group in
                for _ in 0..<4 {
                    group.addTask {
                        for _ in 0..<100 { queue.execute { count.add() } }
                    }
                }
                group.addTask { await queue.stop() }
            }
            await queue.stop()
            #expect(count.value == 400)
        }
    }
}
