// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Testing

@testable import Flockwork

@Suite("A connection that is cut", .timeLimit(.minutes(1)))
struct ReconnectTests {
    @Test("several times during a stream of posts costs no outcome and doubles none")
    func posts() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await withOpenNode(pipeline) { node in
            let client = try await node.client(window: 1024)
            let inbox = try await client.inbox(of: pipeline)
            let count = 20_000
            let poster = Task { () -> [Ticket] in
                var tickets: [Ticket] = []
                for start in stride(from: 0, to: count, by: 200) {
                    tickets += try await inbox.post(Array(start..<start + 200))
                }
                return tickets
            }
            var seen: [Ticket: Outcome<Int>] = [:]
            var cuts = 0
            for await (ticket, outcome) in inbox.outbox() {
                #expect(seen.updateValue(outcome, forKey: ticket) == nil, "\(ticket) twice")
                if seen.count % 2500 == 1200 { cuts += await node.cutClients() }
                if seen.count == count { break }
            }
            let tickets = try await poster.value
            #expect(cuts >= 3, "the test has to cut something")
            #expect(Set(tickets).count == count)
            for (item, ticket) in tickets.enumerated() where seen[ticket] != .value(item + 1) {
                Issue.record("item \(item): \(String(describing: seen[ticket]))")
            }
            // Everything was accepted once, whatever was sent twice.
            #expect(try await node.status().accepted == UInt64(count))
            await client.close()
        }
    }

    @Test("while asks are under way answers each of them once")
    func asks() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await withOpenNode(pipeline) { node in
            defer { gate.open() }
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            let asks = (0..<200).map { item in Task { try await inbox.ask(item) } }
            await gate.arrived(1)
            try await node.wait { $0.openRequests == 200 }
            #expect(await node.cutClients() == 1)
            gate.open()
            for (item, ask) in asks.enumerated() { #expect(try await ask.value == item) }
            #expect(try await node.status().accepted == 200)
            await client.close()
        }
    }

    @Test("keeps nothing at the node that the client had taken")
    func taken() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await withOpenNode(pipeline) { node in
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            let tickets = try await inbox.post(Array(0..<100))
            var outbox = inbox.outbox().makeAsyncIterator()
            for _ in tickets { _ = await outbox.next() }
            // The iteration has to move past the last one: that is what taking means.
            _ = try await inbox.post([1])
            _ = await outbox.next()
            #expect(await node.cutClients() == 1)
            #expect(try await inbox.ask(5) == 6)
            // One item is left: the last one of the iteration.
            try await node.wait { $0.openRequests == 0 && $0.openBytes <= 64 }
            await client.close()
        }
    }
}

@Suite("Outcomes that nobody takes", .timeLimit(.minutes(1)))
struct TimeToLiveTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)

    private func submit(_ count: Int, to client: RawClient, _ key: SessionKey) async throws {
        let items = try ItemCodec<Int>().encode(Batch(Array(0..<count)))
        let run = SubmittedRun(first: 0, items: items, deadline: nil, trace: nil, notify: false)
        await client.submit(SubmitMessage(key: key, lowestOpen: 0, runs: [run]))
    }

    @Test("expire, give their bytes back, and say so to whom asks later")
    func expire() async throws {
        var limits = Limits()
        limits.outcomeTimeToLive = .milliseconds(30)
        try await withOpenNode(pipeline, limits: limits) { node in
            let client = try await RawClient.connect(port: node.port)
            let key = try await client.open(pipeline).key
            try await submit(100, to: client, key)
            await client.isAlive()
            #expect(try await node.status().accepted == 100)
            try await node.wait { $0.openBytes == 0 && $0.openRequests == 0 }
            #expect(node.limitsReached.count(of: .outcomeTimeToLive) > 0)
            let stream = await client.fetch(key)
            try await stream.wait { $0.items == 100 }
            for run in stream.outcomes {
                guard case .failed(let error) = run.outcome else {
                    Issue.record("\(run)")
                    continue
                }
                #expect(error.code == .expired)
            }
            await client.stop()
        }
    }

    @Test("are kept when their time is long, and their session with them, and neither when it is short")
    func idleSession() async throws {
        var limits = Limits()
        // Long enough for a submit to arrive on a busy machine before its session counts as idle.
        limits.sessionIdleTime = .seconds(2)
        for (timeToLive, isKept) in [(Duration.seconds(600), true), (.milliseconds(20), false)] {
            limits.outcomeTimeToLive = timeToLive
            try await withOpenNode(pipeline, limits: limits) { node in
                let client = try await RawClient.connect(port: node.port)
                // A session that holds outcomes, and one that holds nothing.
                let key = try await client.open(pipeline).key
                try await submit(10, to: client, key)
                _ = try await client.open(pipeline)
                try await node.wait { $0.sessions == (isKept ? 1 : 0) }
                #expect(node.limitsReached.count(of: .sessionIdleTime) > 0)
                let stream = await client.fetch(key)
                try await stream.wait { $0.items == 10 || !$0.ends.all.isEmpty }
                #expect(stream.ends.all.map(\.code) == (isKept ? [] : [.notFound]))
                await client.stop()
            }
        }
    }
}
