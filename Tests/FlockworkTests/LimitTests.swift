// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Metrics
import MetricsTestKit
import Testing

@testable import Flockwork

@Suite("Limits of inboxes and stages are counted when they are reached", .timeLimit(.minutes(1)))
struct LimitTests {
    private func limits(_ change: (inout Limits) -> Void) -> Limits {
        var limits = Limits()
        change(&limits)
        return limits
    }

    /// A node whose one instance holds a first item while others wait, and then lets all go.
    private func withHeld(
        _ limits: Limits, items: Int, check: (OpenNode) async throws -> Void
    ) async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await withOpenNode(pipeline, limits: limits) { node in
            defer { gate.open() }
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            _ = try await inbox.post([-1])
            await gate.arrived(1)
            let tickets = try await inbox.post(Array(0..<items))
            gate.open()
            var left = tickets.count + 1
            for await _ in inbox.outbox() {
                left -= 1
                if left == 0 { break }
            }
            try await check(node)
            await client.close()
        }
    }

    @Test("batches that leave something behind for their items or bytes")
    func batches() async throws {
        try await withHeld(limits { $0.batchItems = 4 }, items: 20) { node in
            #expect(node.limitsReached.count(of: .batchItems) >= 4)
            #expect(node.limitsReached.count(of: .batchBytes) == 0)
        }
        try await withHeld(limits { $0.batchBytes = 10 }, items: 20) { node in
            #expect(node.limitsReached.count(of: .batchBytes) > 0)
            #expect(node.limitsReached.count(of: .batchItems) == 0)
        }
        try await withHeld(Limits(), items: 20) { node in
            #expect(node.limitsReached.count(of: .batchBytes) + node.limitsReached.count(of: .batchItems) == 0)
        }
    }

    @Test("credits of items or of bytes")
    func credits() async throws {
        try await withHeld(limits { $0.creditBytes = 16 }, items: 20) { node in
            #expect(node.limitsReached.count(of: .creditBytes) > 0)
            #expect(node.limitsReached.count(of: .creditItems) == 0)
        }
        try await withHeld(limits { $0.creditItems = 4 }, items: 20) { node in
            #expect(node.limitsReached.count(of: .creditItems) > 0)
            #expect(node.limitsReached.count(of: .creditBytes) == 0)
        }
    }

    @Test("a search for bad items that ends before it found them")
    func bisection() async throws {
        let pipeline = Pipeline("bad", of: Int.self).stage(instances: .perNode(1), Superstitious.init)
        try await withOpenNode(pipeline, limits: limits { $0.bisectionCalls = 2 }) { node in
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            var left = try await inbox.post(Array(0..<16)).count
            var failures: [FlockError] = []
            for await (_, outcome) in inbox.outbox() {
                if case .failure(let error) = outcome { failures.append(error) }
                left -= 1
                if left == 0 { break }
            }
            #expect(failures.count == 8 && failures.allSatisfy { $0.limit == .bisectionCalls })
            #expect(node.limitsReached.count(of: .bisectionCalls) > 0)
            await client.close()
        }
    }

    @Test("a submit of too many runs ends its connection")
    func runs() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        let metrics = TestMetrics()
        try await withMetricsFactory(metrics) {
            try await withOpenNode(pipeline, limits: limits { $0.runsPerFrame = 4 }) { node in
                let client = try await RawClient.connect(port: node.port)
                let key = try await client.open(pipeline).key
                let items = try ItemCodec<Int>().encode(Batch([1]))
                let run = SubmittedRun(first: 0, items: items, deadline: nil, trace: nil, notify: true)
                await client.submit(SubmitMessage(key: key, lowestOpen: 0, runs: Array(repeating: run, count: 5)))
                try await eventually { await !client.isAlive() }
                #expect(node.limitsReached.count(of: .runsPerFrame) == 1)
                await client.stop()
            }
        }
        let count = metrics.counterTotal(
            label: "flockwork_limit_reached_total", dimensions: [("node", "open"), ("limit", "runsPerFrame")])
        #expect(count == 1)
    }

    @Test("a drain that does not end in its time")
    func drain() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        let node = try await OpenNode.start(pipeline, limits: limits { $0.drainTime = .milliseconds(20) })
        let client = try await node.client()
        _ = try await client.inbox(of: pipeline).post([1])
        await gate.arrived(1)
        async let stopped: Void = node.stop()
        try await eventually { node.limitsReached.count(of: .drainTime) == 1 }
        gate.open()
        await stopped
        await client.close()
    }
}
