// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("Batches follow the load", .timeLimit(.minutes(1)), .logsOnFailure)
struct BatchingFlowTests {
    private func gated(
        _ gate: Gate, _ batch: BatchPolicy = .drain, instances: Instances = .perNode(1)
    ) -> Pipeline<Int, Int> {
        Pipeline("gated", of: Int.self).stage(batch: batch, instances: instances) { Gated(gate, actorSystem: $0) }
    }

    /// Sizes of the batches when 300 items come while the only instance is busy with one.
    private func sizes(_ batch: BatchPolicy) async throws -> [Int] {
        let gate = Gate()
        let pipeline = gated(gate, batch)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            async let first = inbox.ask(-1)
            await gate.arrived(1)
            let tickets = try await inbox.post(Array(0..<300))
            try await flock.wait { $0.stages[0].waiting == 300 }
            gate.open()
            #expect(try await first == -1)
            var left = Set(tickets)
            for await (ticket, outcome) in inbox.outbox() {
                #expect(left.remove(ticket) != nil)
                #expect(throws: Never.self) { try outcome.get() }
                if left.isEmpty { break }
            }
        }
        return gate.sizes
    }

    @Test("what waited while an instance was busy is its next batch")
    func drain() async throws {
        #expect(try await sizes(.drain) == [1, 300])
    }

    @Test("a limit cuts what waited into batches of its size, none of them early")
    func upTo() async throws {
        #expect(try await sizes(.upTo(64)) == [1, 64, 64, 64, 64, 44])
    }

    @Test("a limit of bytes cuts too, and an item over it goes alone")
    func upToBytes() async throws {
        // An Int of two digits takes a byte or two: at least 100 items fit 200 bytes, and not all 300.
        let sizes = try await sizes(.upTo(300, bytes: 200))
        #expect(sizes.reduce(0, +) == 301 && sizes.count > 2, "\(sizes)")
        #expect(try await self.sizes(.upTo(300, bytes: 1)) == Array(repeating: 1, count: 301))
    }

    @Test("items that come one by one are gathered until their count is there, whatever the time")
    func lingerCount() async throws {
        let gate = Gate()
        gate.open()
        let pipeline = gated(gate, .lingering(.seconds(50), upTo: 8), instances: .perNode(2))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            for round in 0..<5 {
                // With the outcomes of the round before, nothing waits any more.
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for item in 0..<8 { group.addTask { try await inbox.ask(round * 8 + item) } }
                    for try await _ in group {}
                }
            }
        }
        #expect(gate.sizes == [8, 8, 8, 8, 8])
    }

    @Test("fewer items than the count are handled when their time has passed")
    func lingerTime() async throws {
        let gate = Gate()
        gate.open()
        let pipeline = gated(gate, .lingering(.milliseconds(20), upTo: 1000))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let clock = ContinuousClock()
            let start = clock.now
            #expect(try await inbox.ask(1) == 1)
            #expect(clock.now - start >= .milliseconds(20))
            let tickets = try await inbox.post(Array(0..<10))
            var left = Set(tickets)
            for await (ticket, _) in inbox.outbox() {
                left.remove(ticket)
                if left.isEmpty { break }
            }
        }
        #expect(gate.sizes == [1, 10])
    }

    @Test("items over a batch's limit go to the other instances, not behind the first")
    func idleInstances() async throws {
        let gate = Gate()
        let pipeline = gated(gate, .upTo(1), instances: .perNode(3))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            _ = try await inbox.post([1, 2, 3])
            // The gate is closed: only three instances at once can make three batches arrive.
            await gate.arrived(3)
            gate.open()
        }
        #expect(gate.sizes == [1, 1, 1])
    }

    @Test(
        "a full window holds posts back until outcomes are taken",
        arguments: [Inbox<Int, Int>.Post.accepted, .buffered])
    func window(until: Inbox<Int, Int>.Post) async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline, options: .init(window: 64)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            var tickets: [Ticket] = []
            for start in 0..<4 {
                tickets += try await inbox.post(Array(start * 16..<start * 16 + 16), until: until)
            }
            let returned = Counter()
            let fifth = Task {
                defer { returned.add() }
                return try await inbox.post(Array(64..<80), until: until)
            }
            // All 64 are done; nobody has taken them. Other callers are answered meanwhile.
            try await flock.wait { $0.completed == 64 }
            let other = try await flock.connect()
            let otherInbox = try await other.inbox(of: pipeline)
            for item in 0..<50 { #expect(try await otherInbox.ask(item) == item + 1) }
            #expect(returned.value == 0)
            #expect(try await flock.nodes[0].status().accepted == 64 + 50)
            var seen: [Ticket: Outcome<Int>] = [:]
            for await (ticket, outcome) in inbox.outbox() {
                #expect(seen.updateValue(outcome, forKey: ticket) == nil)
                if seen.count == 80 { break }
            }
            tickets += try await fifth.value
            #expect(tickets.map { seen[$0] } == (0..<80).map { .value($0 + 1) })
            await other.close()
        }
    }

    @Test("the smallest windows work too", arguments: [1, 2, 4])
    func smallestWindow(window: Int) async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline, options: .init(window: window)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let reader = Task { () -> [Ticket: Outcome<Int>] in
                var seen: [Ticket: Outcome<Int>] = [:]
                for await (ticket, outcome) in inbox.outbox() {
                    seen[ticket] = outcome
                    if seen.count == 10 { break }
                }
                return seen
            }
            let tickets = try await inbox.post(Array(0..<10))
            let seen = await reader.value
            #expect(tickets.map { seen[$0] } == (0..<10).map { .value($0 + 1) })
        }
    }
}
