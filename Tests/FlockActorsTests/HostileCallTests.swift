// Flockwork · Apache-2.0 · see LICENSE

// What security.md §1 found to crash or confuse the runtime, and what else a hostile peer may send.

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Synchronization
import Testing

@Suite("hostile calls")
struct HostileCallTests {
    static let echo = ActorAddress.key(named: "echo")
    static let vault = ActorAddress.key(named: "vault")
    static let inner = ActorAddress.key(named: "inner")
    static let inside = ActorAddress.key(named: "inside")

    func withVault(
        _ role: PeerRole, _ body: (TestNode, RawPeer) async throws -> Void
    ) async throws {
        let node = try await TestNode.start("node-1") { system in
            _ = await system.named("echo", exportedTo: .clients) { Echo(actorSystem: system) }
            _ = await system.named("vault", exportedTo: .nodes) { Vault(actorSystem: system) }
            _ = await system.named("inner", exportedTo: .nodes) { Vault.Inner(actorSystem: system) }
            _ = await system.named("inside", exportedTo: .nobody) { Vault(actorSystem: system) }
        }
        let raw = try await RawPeer(to: node, as: role)
        await raw.wait { $0.methodFrames > 0 || $0.closed != nil }
        do { try await body(node, raw) } catch {
            await raw.stop()
            await node.stop()
            throw error
        }
        await raw.stop()
        await node.stop()
    }

    @Test("the table names exactly what a role may call")
    func tables() async throws {
        try await withVault(.client) { _, raw in
            raw.seen.withLock { seen in
                #expect(seen.methods.keys.contains { $0.contains("4EchoC") })
                #expect(!seen.methods.keys.contains { $0.contains("5VaultC") })
                #expect(!seen.methods.keys.contains { $0.hasSuffix("lFTE") })
            }
        }
        try await withVault(.node) { _, raw in
            #expect(raw.seen.withLock { $0.methods.keys.contains { $0.contains("5VaultC6reveal") } })
            #expect(raw.seen.withLock { !$0.methods.keys.contains { $0.hasSuffix("lFTE") } })
        }
    }

    @Test("a good hand-made call is answered, so the refusals below are not accidents")
    func control() async throws {
        try await withVault(.node) { _, raw in
            let method = try #require(raw.number(of: "4EchoC4echo"))
            raw.send(.call, try callBody(number: 7, actor: Self.echo, method: method, arguments: [5 as UInt64]))
            guard case .success(let payload)? = await raw.answer(to: 7) else {
                Issue.record("no answer")
                return
            }
            var reader = ByteReader(payload)
            #expect(try WireCoder.decode(UInt64.self, from: &reader, limits: Limits()) == 5)
        }
    }

    @Test("unknown numbers, wrong receivers and unexported actors are all the same notFound")
    func notFound() async throws {
        try await withVault(.node) { _, raw in
            let reveal = try #require(raw.number(of: "5VaultC6reveal"))
            let innerReveal = try #require(raw.number(of: "5InnerC6reveal"))
            let echo = try #require(raw.number(of: "4EchoC4echo"))
            let cases: [(String, UInt64, UInt32)] = [
                ("unknown number", Self.echo, 4000), ("largest number", Self.echo, .max),
                ("method of another type", Self.echo, reveal), ("the other way round", Self.vault, echo),
                ("method of a nested type", Self.vault, innerReveal), ("method of the outer type", Self.inner, reveal),
                ("not exported", Self.inside, reveal), ("no such actor", 12345, reveal),
            ]
            for (index, (what, actor, method)) in cases.enumerated() {
                let number = UInt64(index + 1)
                raw.send(.call, try callBody(number: number, actor: actor, method: method, arguments: []))
                let answer = await raw.answer(to: number)
                guard case .failure(let error)? = answer else {
                    Issue.record("\(what): \(String(describing: answer))")
                    continue
                }
                #expect(error.code == .notFound, "\(what)")
                #expect(error.message == "no such actor or method for this caller", "\(what)")
            }
        }
    }

    @Test("a client cannot call what is exported to nodes, whatever number it guesses")
    func clientRole() async throws {
        try await withVault(.client) { _, raw in
            for method in 0..<200 as Range<UInt32> {
                let number = UInt64(method) + 1
                raw.send(.call, try callBody(number: number, actor: Self.vault, method: method, arguments: []))
                guard case .failure(let error)? = await raw.answer(to: number) else {
                    Issue.record("method \(method) of the vault was called")
                    return
                }
                #expect(error.code == .notFound)
            }
        }
    }

    @Test("too few, too many and left-over arguments are refused before the method runs")
    func argumentCounts() async throws {
        try await withVault(.node) { node, raw in
            let none = try #require(raw.number(of: "4EchoC4none"))
            let greet = try #require(raw.number(of: "4EchoC5greet"))
            let bodies = [
                try callBody(number: 1, actor: Self.echo, method: none, arguments: [1]),
                try callBody(number: 2, actor: Self.echo, method: none, arguments: [], count: 0) + [0],
                try callBody(number: 3, actor: Self.echo, method: greet, arguments: [Person(name: "A", age: 1)]),
                try callBody(
                    number: 4, actor: Self.echo, method: greet, arguments: [Person(name: "A", age: 1), "x", "y"]),
                try callBody(
                    number: 5, actor: Self.echo, method: greet, arguments: [Person(name: "A", age: 1), "x"]) + [1, 2],
                try callBody(number: 6, actor: Self.echo, method: greet, arguments: [], count: 2),
                try callBody(number: 7, actor: Self.echo, method: greet, arguments: ["x", Person(name: "A", age: 1)]),
            ]
            for (index, body) in bodies.enumerated() {
                raw.send(.call, body)
                guard case .failure(let error)? = await raw.answer(to: UInt64(index + 1)) else {
                    Issue.record("call \(index + 1) was accepted")
                    continue
                }
                #expect(error.code == .invalidInput, "call \(index + 1): \(error)")
            }
            raw.send(.call, try callBody(number: 9, actor: Self.echo, method: none, arguments: []))
            guard case .success(let payload)? = await raw.answer(to: 9) else {
                Issue.record("no answer")
                return
            }
            var reader = ByteReader(payload)
            #expect(try WireCoder.decode(Int.self, from: &reader, limits: Limits()) == 1, "none() had run before")
        }
    }

    @Test("frames that make no sense close the connection and nothing else")
    func nonsense() async throws {
        let frames: [(String, FrameType, [UInt8])] = [
            ("short call", .call, [1, 2, 3]), ("short reply", .reply, [1]), ("short cancel", .cancel, [1]),
            ("long cancel", .cancel, [UInt8](repeating: 1, count: 9)),
            ("unknown reply kind", .reply, [UInt8](repeating: 9, count: 16)),
            ("bad call flags", .call, [UInt8](repeating: 0xFF, count: 32)),
            ("call without a number that wants a reply", .call, [UInt8](repeating: 0, count: 32)),
            ("methods cut off", .methods, [200, 1, 0]), ("handshake again", .hello, [0]),
        ]
        for (what, type, body) in frames {
            try await withVault(.node) { _, raw in
                raw.send(type, body)
                await raw.wait { $0.closed != nil }
                #expect(raw.seen.withLock { $0.closed != nil }, "\(what)")
            }
        }
    }

    @Test("a call before the methods, and a number used twice, close the connection")
    func order() async throws {
        let node = try await TestNode.start("node-1")
        let raw = try await RawPeer(to: node, as: .node, introduce: false)
        raw.send(.call, try callBody(number: 1, actor: Self.echo, method: 0, arguments: []))
        await raw.wait { $0.closed != nil }
        await raw.stop()
        await node.stop()
        try await withVault(.node) { _, raw in
            let waits = try #require(raw.number(of: "4EchoC5waits"))
            for _ in 0..<2 {
                raw.send(.call, try callBody(number: 5, actor: Self.echo, method: waits, arguments: ["twice"]))
            }
            await raw.wait { $0.closed != nil }
            await Probes.cancelled("twice").wait()
        }
    }

    @Test("thousands of mutated call frames never crash a node", arguments: [1, 2, 3] as [UInt64])
    func mutations(seed: UInt64) async throws {
        var mutator = CallMutator(seed: seed)
        let node = try await TestNode.start("node-1") { system in
            _ = await system.named("echo", exportedTo: .clients) { Echo(actorSystem: system) }
            _ = await system.named("vault", exportedTo: .nodes) { Vault(actorSystem: system) }
            system.direct(Echo.self, "direct") { _, call in call.finish(payload: call.arguments) }
        }
        var (answers, results) = (0, 0)
        while mutator.made < 6000 {
            let raw = try await RawPeer(to: node, as: mutator.made % 2 == 0 ? .node : .client)
            await raw.wait { $0.methodFrames > 0 || $0.closed != nil }
            let methods = raw.seen.withLock { $0.methods.filter { !$0.key.contains("waits") }.map(\.value).sorted() }
            var answerable: Set<UInt64> = []
            for _ in 0..<100 {
                let frame = try mutator.next(methods: methods)
                if frame.isAnswered { answerable.insert(frame.number) }
                raw.send(frame.type, frame.body)
            }
            let expected = answerable
            await raw.wait { $0.closed != nil || expected.isSubset(of: $0.replies.map(\.number)) }
            answers += raw.seen.withLock { $0.replies.count }
            results += raw.seen.withLock { $0.replies.count { $0.kind != 3 } }
            await raw.stop()
        }
        print("mutated frames, seed \(seed): \(mutator.made) sent, \(answers) answered, \(results) with a result")
        #expect(answers > 1000 && results > 20, "seed \(seed): the mutations hardly got past the head")
        let client = try await TestClient.connect(to: node)
        let echo: Echo = try client.named("echo")
        #expect(try await echo.echo(seed) == seed, "seed \(seed)")
        await client.stop()
        await node.stop()
    }
}

/// Makes call frames that are almost right.
struct CallMutator {
    private var random: SeededRandom
    private(set) var made = 0
    private let shapes: [[any Encodable & Sendable]] = [
        [], [5 as UInt64], ["text"], [[1, 2, 3] as [UInt8]], [Person(name: "Ada", age: 36), "Hello"],
        [[[1.5, 2.5], [3.5]] as [[Float]]],
    ]

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }

    /// `isAnswered`: its head is whole, so the node answers or closes the connection.
    mutating func next(
        methods: [UInt32]
    ) throws -> (type: FrameType, number: UInt64, body: [UInt8], isAnswered: Bool) {
        made += 1
        let number = UInt64(1000 + made)
        var body = try callBody(
            number: number, actor: below(4) == 0 ? HostileCallTests.vault : HostileCallTests.echo,
            method: methods[below(methods.count)], arguments: shapes[below(shapes.count)],
            count: below(8) == 0 ? UInt16(below(4)) : nil)
        // The head is mostly kept: what is wrong there ends the connection, and hides what lies behind.
        let keepsHead = below(64) > 0
        for _ in 0..<below(4) where body.count > CallFrame.headBytes || !keepsHead {
            let first = keepsHead ? CallFrame.headBytes : 0
            body[first + below(body.count - first)] = UInt8(below(256))
        }
        if below(10) == 0 { body.removeLast(below(body.count - (keepsHead ? CallFrame.headBytes : 0) + 1)) }
        let others: [FrameType] = [.reply, .cancel, .methods]
        let type = below(256) == 0 ? others[below(3)] : .call
        return (type, number, body, keepsHead && type == .call)
    }
}
