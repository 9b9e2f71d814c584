// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("Posts and their outbox", .timeLimit(.minutes(1)), .logsOnFailure)
struct OutboxTests {
    @Test("every posted row has exactly one outcome, in place")
    func rows() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        try await testCluster(pipeline, options: .init(window: 1024)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let count = 20_000
            let reader = Task { () -> [Ticket: Float] in
                var seen: [Ticket: Float] = [:]
                for await batch in inbox.outbox().batches {
                    let values = try #require(try batch.values())
                    for (index, value) in values.items.enumerated() {
                        #expect(seen.updateValue(value, forKey: batch.ticket(index)) == nil)
                    }
                    if seen.count == count { break }
                }
                return seen
            }
            var expected: [Ticket: Float] = [:]
            for start in stride(from: 0, to: count, by: 500) {
                let rows = Rows((start * 4..<(start + 500) * 4).map { Float($0 / 4) }, width: 4)
                for (index, ticket) in try await inbox.post(rows).enumerated() {
                    expected[ticket] = Float(2 * (start + index))
                }
            }
            #expect(try await reader.value == expected)
            try await flock.wait { $0.openRequests == 0 }
        }
    }

    @Test("filtered items have an outcome of their own between values")
    func filtered() async throws {
        let pipeline = Pipeline("even", of: Int.self).filter { $0 % 2 == 0 }
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let tickets = try await inbox.post(Array(0..<100))
            var left = Dictionary(uniqueKeysWithValues: zip(tickets, 0..<100))
            for await (ticket, outcome) in inbox.outbox() {
                let item = try #require(left[ticket], "answered twice")
                left[ticket] = nil
                #expect(outcome == (item % 2 == 0 ? .value(item) : .filtered))
                if left.isEmpty { break }
            }
        }
    }

    @Test("a ticket that is cancelled in the queue ends with cancelled")
    func cancel() async throws {
        let gate = Gate()
        let pipeline = Pipeline("gated", of: Int.self).stage(batch: .upTo(1), instances: .perNode(1)) {
            Gated(gate, actorSystem: $0)
        }
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let tickets = try await inbox.post([1, 2, 3])
            await gate.arrived(1)
            try await inbox.cancel(tickets[1])
            var outcomes: [Ticket: Outcome<Int>] = [:]
            for await (ticket, outcome) in inbox.outbox() {
                outcomes[ticket] = outcome
                if outcomes.count == 1 { gate.open() }
                if outcomes.count == 3 { break }
            }
            #expect(outcomes[tickets[0]] == .value(1))
            #expect(outcomes[tickets[1]] == .failure(FlockError(.cancelled, "")))
            #expect(outcomes[tickets[2]] == .value(3))
        }
    }

    @Test("a caller that restarts resumes its outbox with the session's token")
    func resume() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline) { flock in
            let first = try await flock.connect()
            let inbox = try await first.inbox(of: pipeline)
            let tickets = try await inbox.post([1, 2, 3])
            let tokens = inbox.tokens
            await first.close()

            var outcomes: [Ticket: Outcome<Int>] = [:]
            for await (ticket, outcome) in try await flock.client.outbox(of: pipeline, resuming: tokens) {
                outcomes[ticket] = outcome
                if outcomes.count == 3 { break }
            }
            #expect(tickets.map { outcomes[$0] } == [.value(2), .value(3), .value(4)])
        }
    }

    @Test("a refusal for load comes before acceptance, and the session goes on")
    func overload() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        var limits = Limits()
        limits.openBytes = 40_000
        limits.reservedResultBytes = 256
        try await testCluster(pipeline, options: .init(limits: limits)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let accepted = try await inbox.post(Array(0..<100))
            let error = await #expect(throws: FlockError.self) { try await inbox.post(Array(0..<100)) }
            #expect(error?.code == .overloaded)
            #expect((error?.retryAfter ?? .zero) > .zero)
            gate.open()
            var left = Set(accepted)
            for await (ticket, _) in inbox.outbox() {
                left.remove(ticket)
                if left.isEmpty { break }
            }
            #expect(try await inbox.ask(7) == 7)
        }
    }

    @Test("an unknown pipeline, and another version of one, are refused with what the node runs")
    func unknownPipeline() async throws {
        try await testCluster(Pipeline("one", of: Int.self).stage(AddOne.init)) { flock in
            let unknown = await #expect(throws: FlockError.self) {
                _ = try await flock.client.inbox(of: Pipeline("two", of: Int.self))
            }
            #expect(unknown?.code == .notFound)
            #expect(unknown?.message.contains("it runs one") == true)
            let other = await #expect(throws: FlockError.self) {
                _ = try await flock.client.inbox(of: Pipeline("one", of: Int.self))
            }
            #expect(other?.code == .incompatibleNode)
        }
    }
}
