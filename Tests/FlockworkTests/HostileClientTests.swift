// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Testing

@testable import FlockActors
@testable import Flockwork

// Clients that know the protocol and the token, and mean ill. Whatever they send, the node lives and other sessions
// keep what is theirs.
@Suite("A hostile client", .timeLimit(.minutes(2)))
struct HostileClientTests {
    /// A session of somebody else, with requests that are held at a gate.
    private struct Victim {
        let client: Client
        let inbox: Inbox<Int, Int>
        let tickets: Tickets
        var token: SessionToken { inbox.tokens[0] }

        /// All its requests have their own values, once.
        func isUnharmed() async throws {
            var seen: [Ticket: Outcome<Int>] = [:]
            for await (ticket, outcome) in inbox.outbox() {
                #expect(seen.updateValue(outcome, forKey: ticket) == nil, "\(ticket) twice")
                if seen.count == tickets.count { break }
            }
            #expect(tickets.map { seen[$0] } == (0..<tickets.count).map { .value($0) })
            #expect(try await inbox.ask(4711) == 4711)
            await client.close()
        }
    }

    private func withVictim(
        limits: Limits = Limits(), attack: (OpenNode, Victim, Pipeline<Int, Int>) async throws -> Void
    ) async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await withOpenNode(pipeline, limits: limits) { node in
            defer { gate.open() }
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            let victim = Victim(client: client, inbox: inbox, tickets: try await inbox.post(Array(0..<50)))
            await gate.arrived(1)
            try await attack(node, victim, pipeline)
            gate.open()
            try await victim.isUnharmed()
        }
    }

    private static func run(_ first: UInt64, _ items: ItemBuffer, notify: Bool = true) -> SubmittedRun {
        SubmittedRun(first: first, items: items, deadline: nil, trace: nil, notify: notify)
    }

    private static func items(_ count: Int) throws -> ItemBuffer {
        try ItemCodec<Int>().encode(Batch(Array(0..<count)))
    }

    @Test("with the place of another session but not its secret can read, cancel, acknowledge and close nothing of it")
    func wrongSecret() async throws {
        try await withVictim { node, victim, _ in
            let attacker = try await RawClient.connect(port: node.port)
            let right = victim.token
            for flip in [(UInt64(1), UInt64(0)), (0, 1), (.max, .max)] {
                var token = right
                token.secretHigh ^= flip.0
                token.secretLow ^= flip.1
                let stream = await attacker.fetch(token.key)
                try await stream.wait { !$0.ends.all.isEmpty }
                #expect(stream.ends.all.map(\.code) == [.notFound] && stream.parts.all.isEmpty)
                await attacker.cancel(CancelMessage(key: token.key, sequences: SequenceRun(first: 0, count: 50)))
                await attacker.submit(
                    SubmitMessage(
                        key: token.key, taken: [SequenceRun(first: 0, count: 50)], lowestOpen: 50,
                        runs: [Self.run(50, try Self.items(3))]))
                let error = await #expect(throws: FlockError.self) { try await attacker.inbox().close(token) }
                #expect(error?.code == .notFound)
            }
            #expect(await attacker.isAlive())
            let status = try await node.status()
            #expect(status.openRequests == 50 && status.accepted == 50 && status.sessions == 1)
            await attacker.stop()
        }
    }

    @Test("gets an answer to every wrong run, and its connection stays usable")
    func wrongRuns() async throws {
        try await withVictim { node, victim, pipeline in
            let attacker = try await RawClient.connect(port: node.port)
            let token = try await attacker.open(pipeline, window: 64)
            let stream = await attacker.fetch(token.key)
            let floats = ItemBuffer(Rows<Float>([1, 2], width: 1))
            let one = try Self.items(1)
            let cases: [(String, SubmittedRun, FlockError.Code)] = [
                ("a gap", Self.run(10, try Self.items(1)), .overloaded),
                ("the last sequences", Self.run(.max - 3, try Self.items(2)), .overloaded),
                ("another layout", Self.run(0, floats), .invalidInput),
                ("more than its window", Self.run(0, try Self.items(65)), .tooLarge),
            ]
            for (name, run, code) in cases {
                let before = stream.parts.all.count
                await attacker.submit(SubmitMessage(key: token.key, lowestOpen: 0, runs: [run]))
                try await stream.wait { $0.parts.all.count > before || !$0.ends.all.isEmpty }
                let refusal = stream.parts.all.last?.refused
                #expect(refusal?.error.code == code && refusal?.from == run.first, "\(name)")
            }
            // Acknowledging and cancelling what never was is harmless.
            await attacker.submit(
                SubmitMessage(
                    key: token.key, taken: [SequenceRun(first: .max - 1, count: 1), SequenceRun(first: 5, count: 0)],
                    lowestOpen: .max))
            await attacker.cancel(CancelMessage(key: token.key, sequences: SequenceRun(first: .max - 9, count: 9)))
            await attacker.cancel(CancelMessage(key: token.key, sequences: SequenceRun(first: 0, count: 0)))
            #expect(await attacker.isAlive())
            await attacker.submit(
                SubmitMessage(key: token.key, lowestOpen: 0, runs: (0..<8).map { Self.run($0, one) }))
            try await stream.wait { $0.parts.all.contains { $0.accepted == 8 } }
            #expect(try await node.status().accepted == 58)
            await attacker.stop()
        }
    }

    @Test("that cuts its runs in odd ways gets each sequence's first payload, once")
    func splitRuns() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await withOpenNode(pipeline) { node in
            let client = try await RawClient.connect(port: node.port)
            let token = try await client.open(pipeline)
            let stream = await client.fetch(token.key)
            var random = SeededRandom(seed: 7)
            var next: UInt64 = 0
            while next < 500 {
                // Overlaps what was accepted before; what overlaps carries other values, which must not count.
                let first = next - min(next, UInt64.random(in: 0...20, using: &random))
                let count = Int(next - first) + Int.random(in: 0...9, using: &random)
                guard count > 0 else { continue }
                let values = (0..<count).map { first + UInt64($0) < next ? -1 : Int(first) + $0 }
                let items = try ItemCodec<Int>().encode(Batch(values))
                await client.submit(SubmitMessage(key: token.key, lowestOpen: 0, runs: [Self.run(first, items)]))
                next = max(next, first + UInt64(count))
            }
            let expected = Int(next)
            try await stream.wait { $0.items >= expected }
            var seen: [UInt64: Int] = [:]
            for run in stream.outcomes {
                guard case .values(let items, nil) = run.outcome else {
                    Issue.record("\(run)")
                    continue
                }
                for (index, value) in try ItemCodec<Int>().decode(items).items.enumerated() {
                    let sequence = run.sequences.first + UInt64(index)
                    #expect(seen.updateValue(value, forKey: sequence) == nil)
                }
            }
            #expect(seen.count == expected && seen.allSatisfy { $0.value == Int($0.key) + 1 })
            await client.stop()
        }
    }

    @Test("that sends mutated frames harms nobody else", arguments: [21, 22, 23] as [UInt64])
    func mutations(seed: UInt64) async throws {
        try await withVictim { node, victim, pipeline in
            var random = SeededRandom(seed: seed)
            var attacker = try await RawClient.connect(port: node.port)
            var token = try await attacker.open(pipeline, window: 256)
            var stolen = victim.token
            stolen.secretLow ^= 1
            var closed = 0
            for round in 0..<250 {
                let key = round % 4 == 0 ? stolen.key : token.key
                let submit = SubmitMessage(
                    key: key, taken: [SequenceRun(first: 0, count: 2)], lowestOpen: 1,
                    runs: [Self.run(0, try Self.items(4)), Self.run(4, ItemBuffer(Rows<Float>([1, 2], width: 2)))])
                let cancel = CancelMessage(key: key, sequences: SequenceRun(first: 1, count: 3))
                let messages = [
                    (InboxMethods.submit, encoded { submit.write(to: &$0) }),
                    (InboxMethods.cancel, encoded { cancel.write(to: &$0) }),
                    (InboxMethods.fetch, encoded { key.write(to: &$0) }),
                ]
                let (method, bytes) = messages[Int.random(in: 0..<3, using: &random)]
                var mutated = Mutation.mutated(bytes, &random)
                // The right secret, made by chance out of the wrong one, would be no attack.
                if round % 4 == 0, mutated.count >= 32 { mutated.replaceSubrange(16..<32, with: bytes[16..<32]) }
                await attacker.send(method, mutated)
                if round % 10 == 9, await !attacker.isAlive() {
                    closed += 1
                    await attacker.stop()
                    attacker = try await RawClient.connect(port: node.port)
                    token = try await attacker.open(pipeline, window: 256)
                }
            }
            #expect(closed > 0, "seed \(seed): no frame was found out")
            await attacker.stop()
        }
    }

    @Test("that sends a run to a lane, as a node, with nonsense in it, is answered with an error")
    func hostileNode() async throws {
        try await withVictim { node, _, pipeline in
            let attacker = try await RawClient.connect(port: node.port, role: .node)
            var random = SeededRandom(seed: 99)
            let address = ActorAddress(
                named: StageHost.name(pipeline: pipeline.definition, lane: 0), on: attacker.peer.identity.node)
            let ends = Counter()
            for _ in 0..<200 {
                let bytes = (0..<Int.random(in: 0...80, using: &random)).map { _ in
                    UInt8.random(in: 0...3, using: &random)
                }
                await attacker.loop.run {
                    _ = attacker.peer.call(
                        StageHost.runMethod, on: address, deadline: nil, build: { $0.write(Bytes(bytes)) },
                        onReply: { reply in if case .failed = reply { ends.add() } })
                }
            }
            try await eventually { ends.value >= 200 }
            await attacker.stop()
        }
    }

    @Test("that never reads its outcomes is cut off, and others are served meanwhile")
    func neverReads() async throws {
        var limits = Limits()
        limits.writeMaximumBytes = 1 << 20
        let pipeline = Pipeline("long", of: Int.self).map { "\($0)" + String(repeating: "x", count: 240) }
        try await withOpenNode(pipeline, limits: limits) { node in
            let client = try await node.client()
            let inbox = try await client.inbox(of: pipeline)
            let attacker = try await RawClient.connect(port: node.port)
            // More than the kernel keeps on both sides.
            var keys: [SessionKey] = []
            for _ in 0..<4 { keys.append(try await attacker.open(pipeline, window: 65_536).key) }
            for key in keys { _ = await attacker.fetch(key) }
            await attacker.isAlive()
            await attacker.loop.run { attacker.peer.connection.pauseReading() }
            let items = try Self.items(8192)
            for key in keys {
                for first in stride(from: UInt64(0), to: 65_536, by: 8192) {
                    await attacker.submit(SubmitMessage(key: key, lowestOpen: 0, runs: [Self.run(first, items)]))
                }
            }
            var asked = 0
            while node.node.system.clients.contains(where: { $0.identity.node == "raw" }) {
                #expect(try await inbox.ask(asked).hasPrefix("\(asked)x"))
                asked += 1
            }
            #expect(try await inbox.ask(-1).hasPrefix("-1x"))
            await attacker.stop()
            await client.close()
        }
    }
}
