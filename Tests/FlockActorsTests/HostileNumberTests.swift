// Flockwork · Apache-2.0 · see LICENSE

// The attack of security.md §1, which kills systems that look a name of the wire up in the Swift runtime: here methods
// travel as numbers, and names are compared as text.

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Synchronization
import Testing

@Suite("Mutated method numbers and names", .timeLimit(.minutes(2)))
struct HostileNumberTests {
    private func node() async throws -> TestNode {
        try await TestNode.start("node-1") { system in
            _ = await system.named("echo", exportedTo: .clients) { Echo(actorSystem: system) }
            _ = await system.named("vault", exportedTo: .nodes) { Vault(actorSystem: system) }
        }
    }

    private func isAlive(_ node: TestNode) async throws {
        let client = try await TestClient.connect(to: node)
        let echo: Echo = try client.named("echo")
        #expect(try await echo.echo(4711) == 4711)
        await client.stop()
    }

    @Test("300,000 calls with mutated numbers each get an answer, and only the method's own one a result")
    func numbers() async throws {
        let seed: UInt64 = 300_000
        var random = SeededRandom(seed: seed)
        let node = try await node()
        let raw = try await RawPeer(to: node, as: .client)
        await raw.wait { $0.methodFrames > 0 || $0.closed != nil }
        let echo = try #require(raw.number(of: "4EchoC4echo"))
        let known = Set(raw.seen.withLock { $0.methods.values })
        let key = ActorAddress.key(named: "echo")
        var (answered, results, sent) = (0, 0, UInt64(0))
        for _ in 0..<300 {
            raw.seen.withLock { $0.replies = [] }
            var own: Set<UInt64> = []
            for _ in 0..<1000 {
                sent += 1
                var method = echo
                for _ in 0..<Int(random.next() % 3) { method ^= 1 << UInt32(random.next() % 32) }
                // Other methods of the table have other arguments: they may run only if those fit.
                if method == echo { own.insert(sent) } else if known.contains(method) { method = .max - method }
                raw.send(.call, try callBody(number: sent, actor: key, method: method, arguments: [sent]))
            }
            await raw.wait { $0.closed != nil || $0.replies.count >= 1000 }
            raw.seen.withLock { seen in
                answered += seen.replies.count
                let successes = Set(seen.replies.filter { $0.kind != 3 }.map(\.number))
                #expect(successes == own, "seed \(seed)")
                results += successes.count
            }
        }
        print("mutated numbers, seed \(seed): \(sent) sent, \(answered) answered, \(results) with a result")
        #expect(answered == 300_000 && results > 50_000, "seed \(seed)")
        await raw.stop()
        try await isAlive(node)
        await node.stop()
    }

    @Test("300,000 mutated names in tables of methods harm nobody")
    func names() async throws {
        let seed: UInt64 = 77
        var random = SeededRandom(seed: seed)
        let node = try await node()
        let raw = try await RawPeer(to: node, as: .node)
        await raw.wait { $0.methodFrames > 0 || $0.closed != nil }
        let names = raw.seen.withLock { $0.methods.keys.sorted() }
        let letters = Array("$sZSyFTEaCVOlmx0123456789_".utf8)
        var sent = 0
        while sent < 300_000 {
            var writer = ByteWriter()
            writer.writeVarint(4000)
            for number in 0..<4000 as Range<UInt32> {
                var name = Array(names[Int(random.next() % UInt64(names.count))].utf8)
                // One to three changes, as in the attack.
                for _ in 0...Int(random.next() % 3) {
                    let place = Int(random.next() % UInt64(name.count))
                    switch random.next() % 3 {
                    case 0: name[place] = letters[Int(random.next() % UInt64(letters.count))]
                    case 1: name.insert(letters[Int(random.next() % UInt64(letters.count))], at: place)
                    default: if name.count > 1 { name.remove(at: place) }
                    }
                }
                writer.write(number)
                writer.writeText(String(decoding: name, as: UTF8.self))
            }
            writer.writeVarint(0)
            raw.send(.methods, writer.finish().array)
            sent += 4000
        }
        // All were read: an answer comes after them.
        let echo = try #require(raw.number(of: "4EchoC4echo"))
        let key = ActorAddress.key(named: "echo")
        raw.send(.call, try callBody(number: 1, actor: key, method: echo, arguments: [5 as UInt64]))
        guard case .success? = await raw.answer(to: 1) else {
            Issue.record("no answer after \(sent) names, seed \(seed)")
            return
        }
        await raw.stop()
        try await isAlive(node)
        await node.stop()
    }

    @Test("every type of frame, cut at every length and with any byte changed, ends at most its own connection")
    func everyType() async throws {
        let node = try await node()
        var random = SeededRandom(seed: 5)
        let key = ActorAddress.key(named: "echo")
        let call = try callBody(number: 3, actor: key, method: 0, arguments: [Person(name: "Ada", age: 36), "Hi"])
        var methods = ByteWriter()
        methods.writeVarint(1)
        methods.write(UInt32(0))
        methods.writeText("name")
        methods.writeVarint(0)
        let table = methods.finish().array
        let types: [(FrameType, [UInt8])] = [
            (.hello, call), (.challenge, call), (.proof, call), (.welcome, call), (.refusal, call), (.methods, table),
            (.call, call), (.reply, Array(call.prefix(24))), (.cancel, Array(call.prefix(8))), (.ping, call),
            (.pong, call), (.goodbye, []),
        ]
        for (type, body) in types {
            for cut in 0...body.count {
                // Most end their connection: each has its own.
                let raw = try await RawPeer(to: node, as: cut % 2 == 0 ? .node : .client, introduce: cut % 5 > 0)
                var bytes = Array(body.prefix(cut))
                if cut % 3 == 1 { bytes[Int(random.next() % UInt64(cut))] ^= 1 << UInt8(random.next() % 8) }
                raw.send(type, flags: cut % 7 == 0 ? .max : 0, bytes)
                // Whatever became of it: it was read when the next frame is answered, or the connection is closed.
                raw.send(.call, try callBody(number: 9, actor: key, method: .max, arguments: []))
                await raw.wait { $0.closed != nil || $0.replies.contains { $0.number == 9 } }
                await raw.stop()
            }
        }
        try await isAlive(node)
        await node.stop()
    }
}
