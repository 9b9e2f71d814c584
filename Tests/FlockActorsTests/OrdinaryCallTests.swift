// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Testing

@Suite("ordinary distributed calls over loopback sockets")
struct OrdinaryCallTests {
    @Test("every supported shape of distributed method works on another node")
    func shapes() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            #expect(try await echo.echo(.max) == .max)
            #expect(try await echo.greet(Person(name: "Ada", age: 36)) == "Hello, Ada")
            #expect(try await echo.greet(Person(name: "Ada", age: 36), greeting: "Bye") == "Bye, Ada")
            #expect(try await echo.none() == 1)
            try await echo.nothing()
            #expect(try await echo.none() == 3)
            try await echo.note("one")
            try await echo.note("two")
            #expect(try await echo.noteCount == 2)
            #expect(try await echo.overloaded(1) == "Int 1")
            #expect(try await echo.overloaded("x") == "String x")
            #expect(try await echo.overloaded(other: 2) == "other 2")
            #expect(try await echo.optional(nil) == nil)
            #expect(try await echo.optional(4) == 5)
            #expect(try await echo.batch([[1, 2], [3, 4]]) == [3, 7])
            #expect(try await echo.blob([UInt8](repeating: 1, count: 3_000_000)) == 3_000_000)
            #expect(try await echo.big(3_000_000) == [UInt8](repeating: 7, count: 3_000_000))
        }
    }

    @Test("a method of a protocol reaches the concrete actor, also through any")
    func protocols() async throws {
        try await withPair(prepare: { system in
            _ = await system.named("doubler", exportedTo: .clients) { Doubler(actorSystem: system) }
        }) { _, client in
            let doubler: Doubler = try client.named("doubler")
            let scorer: any Scorer = doubler
            #expect(try await scorer.score(21) == 42)
        }
    }

    @Test("an error keeps its code, message and stage, and says which node")
    func flockErrors() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.fails(with: 5, message: "two results for one item") }
            #expect(error?.code == .badBatch)
            #expect(error?.message == "two results for one item")
            #expect(error?.stage == "echo")
            #expect(error?.node == NodeID("node-1"))
        }
    }

    @Test("an error of another type arrives as callFailed with its type and text")
    func otherErrors() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.failsTyped(3) }
            #expect(error?.code == .callFailed)
            #expect(error?.message == "EchoError: tooShort(3)")
            let long = await flockError { try await echo.failsLong() }
            #expect(long?.code == .stageFailed)
            #expect((long?.message.utf8.count ?? 0) <= 1024)
            #expect((long?.message.utf8.count ?? 0) > 1000)
        }
    }

    @Test("a generic method is refused before anything is sent")
    func generic() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.generic(3) }
            #expect(error?.code == .invalidInput)
        }
    }

    @Test("arguments and results over a frame are refused, and the connection lives")
    func tooLarge() async throws {
        var limits = Limits()
        limits.frameBytes = 1 << 20
        try await withPair(nodeLimits: limits, clientLimits: limits) { _, client in
            let echo: Echo = try client.named("echo")
            let arguments = await flockError { _ = try await echo.blob([UInt8](repeating: 1, count: 1 << 20)) }
            #expect(arguments?.code == .tooLarge)
            let result = await flockError { _ = try await echo.big(1 << 20) }
            #expect(result?.code == .tooLarge)
            #expect(try await echo.echo(1) == 1)
        }
    }

    @Test("a method whose type the frames cannot hold fails before anything is sent")
    func unencodable() async throws {
        var limits = Limits()
        limits.codingElements = 2
        try await withPair(clientLimits: limits) { _, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.batch([[1], [2], [3]]) }
            #expect(error != nil)
            #expect(try await echo.echo(1) == 1)
        }
    }

    @Test("a deadline fails the call, reaches the receiver's task, and nested calls see it")
    func deadline() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let seen = try await FlockSystem.$deadline.withValue(.seconds(20)) { try await echo.deadline() }
            #expect(seen == 20_000_000_000)
            #expect(try await echo.deadline() == 0)
            let cancelled = Probes.cancelled("deadline")
            let error = await flockError {
                _ = try await FlockSystem.$deadline.withValue(.milliseconds(20)) { try await echo.waits("deadline") }
            }
            #expect(error?.code == .deadlineExceeded)
            await cancelled.wait()
            #expect(try await echo.echo(1) == 1)
        }
    }

    @Test("a default deadline fails the call too")
    func defaultDeadline() async throws {
        var limits = Limits()
        limits.callTime = .milliseconds(20)
        try await withPair(clientLimits: limits) { _, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.waits("default deadline") }
            #expect(error?.code == .deadlineExceeded && error?.limit == .callTime)
            #expect(client.loop.limitsReached.count(of: .callTime) == 1)
        }
    }

    @Test("cancellation resumes the caller and reaches the receiver's task")
    func cancellation() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let cancelled = Probes.cancelled("cancel")
            let started = Probes.started("cancel")
            let task = Task { try await echo.waits("cancel") }
            await started.wait()
            task.cancel()
            let error = await flockError { _ = try await task.value }
            #expect(error?.code == .cancelled)
            await cancelled.wait()
        }
    }

    @Test("a call of a cancelled task is not sent")
    func cancelledBefore() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await echo.none()
            }
            let error = await flockError { _ = try await task.value }
            #expect(error?.code == .cancelled)
            #expect(try await echo.none() == 1)
        }
    }

    @Test("the loss of the peer fails waiting calls at once, and later ones too")
    func peerLoss() async throws {
        try await withPair { node, client in
            let echo: Echo = try client.named("echo")
            let started = Probes.started("loss")
            let cancelled = Probes.cancelled("loss")
            let task = Task { try await echo.waits("loss") }
            await started.wait()
            await node.system.stop()
            let error = await flockError { _ = try await task.value }
            #expect(error?.code == .unavailable)
            await cancelled.wait()
            let later = await flockError { _ = try await echo.none() }
            #expect(later?.code == .unavailable)
        }
    }

    @Test("stopping the caller's own system fails its waiting calls")
    func ownStop() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            let started = Probes.started("own stop")
            let task = Task { try await echo.waits("own stop") }
            await started.wait()
            await client.system.stop()
            let error = await flockError { _ = try await task.value }
            #expect(error?.code == .shuttingDown)
            let later = await flockError { _ = try await echo.none() }
            #expect(later?.code == .shuttingDown)
        }
    }

    @Test("thousands of calls at once, from many tasks, get each its own answer")
    func concurrency() async throws {
        try await withPair { _, client in
            let echo: Echo = try client.named("echo")
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for task in 0..<64 as Range<UInt64> {
                    group.addTask {
                        for call in 0..<50 as Range<UInt64> {
                            if try await echo.echo(task << 32 | call) != task << 32 | call { return false }
                        }
                        return true
                    }
                }
                for try await isRight in group { #expect(isRight) }
            }
        }
    }

    @Test("large calls at once wait for the connection instead of closing it")
    func backPressure() async throws {
        var limits = Limits()
        limits.writeHighWaterBytes = 1 << 20
        limits.writeLowWaterBytes = 256 << 10
        limits.writeMaximumBytes = 4 << 20
        try await withPair(clientLimits: limits) { _, client in
            let echo: Echo = try client.named("echo")
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<64 {
                    group.addTask { try await echo.blob([UInt8](repeating: 1, count: 500_000)) }
                }
                for try await count in group { #expect(count == 500_000) }
            }
        }
    }

    @Test("over the limit of running calls the caller hears overloaded")
    func runningCalls() async throws {
        var limits = Limits()
        limits.runningCalls = 2
        try await withPair(nodeLimits: limits) { node, client in
            let echo: Echo = try client.named("echo")
            let tasks = ["running 1", "running 2"].map { probe in Task { try await echo.waits(probe) } }
            await Probes.started("running 1").wait()
            await Probes.started("running 2").wait()
            let error = await flockError { _ = try await echo.none() }
            #expect(error?.code == .overloaded)
            #expect(error?.retryAfter != nil && error?.limit == .runningCalls)
            #expect(node.loop.limitsReached.count(of: .runningCalls) == 1)
            #expect(client.loop.limitsReached.count(of: .runningCalls) == 0, "the limit of the other end")
            for task in tasks { task.cancel() }
            for task in tasks { _ = await task.result }
        }
    }

    @Test("an actor on the loop is called on the loop, also through onLoop")
    func pinned() async throws {
        try await withPair(prepare: { system in
            system.onLoop(Pinned.self, "fast") { (_: isolated Pinned, value: UInt64) in
                if value == 13 { throw FlockError(.invalidInput, "thirteen") }
                return value + 1
            }
            system.onLoop(Pinned.self, "clamp") { (_: isolated Pinned, value: Int, low: Int, high: Int) in
                min(max(value, low), high) + 1000
            }
            system.onLoop(Pinned.self, "total") { (pinned: isolated Pinned) in try pinned.total() + 1000 }
            _ = await system.named("pinned", exportedTo: .clients) { Pinned(actorSystem: system) }
        }) { _, client in
            let pinned: Pinned = try client.named("pinned")
            #expect(try await pinned.isOnLoop())
            #expect(try await pinned.add(2) == 2)
            #expect(try await pinned.add(3) == 5)
            #expect(try await pinned.fast(1) == 2)
            #expect(try await pinned.clamp(9, low: 1, high: 5) == 1005)
            #expect(try await pinned.total() == 1005)
            let error = await flockError { _ = try await pinned.fast(13) }
            #expect(error?.code == .invalidInput)
            #expect(error?.message == "thirteen")
        }
    }
}
