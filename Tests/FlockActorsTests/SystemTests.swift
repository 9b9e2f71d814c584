// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Logging
import Synchronization
import Testing

/// Names of peers that came and went, in order.
final class PeerLog: Sendable {
    private let events = Mutex<[String]>([])
    private let changed = Signal()

    init(of system: FlockSystem) {
        system.onPeer(
            up: { [self] in add("up \($0.identity.node) \($0.announcement.text)") },
            down: { [self] peer, _ in add("down \(peer.identity.node)") })
    }

    private func add(_ event: String) {
        events.withLock { $0.append(event) }
        changed.fire()
    }

    func wait(for expected: [String]) async {
        while events.withLock({ $0.count < expected.count }) { await changed.wait() }
        #expect(events.withLock { $0 } == expected)
    }
}

@Suite("systems and peers", .timeLimit(.minutes(1)))
struct SystemTests {
    @Test("two nodes link over one connection, tell each other what they announced, and call both ways")
    func links() async throws {
        let first = try await TestNode.start("node-1", announcement: Bytes("one")) { system in
            _ = await system.named("vault", exportedTo: .nodes) { Vault(actorSystem: system) }
        }
        let second = try await TestNode.start("node-2", announcement: Bytes("two")) { system in
            _ = await system.named("vault", exportedTo: .nodes) { Vault(actorSystem: system) }
        }
        let (firstLog, secondLog) = (PeerLog(of: first.system), PeerLog(of: second.system))
        second.system.link(to: NodeID("node-1"), host: "127.0.0.1", port: first.port)
        first.system.link(to: NodeID("node-2"), host: "127.0.0.1", port: second.port)
        await firstLog.wait(for: ["up node-2 two"])
        await secondLog.wait(for: ["up node-1 one"])
        #expect(Array(first.system.peers.keys) == [NodeID("node-2")])
        for (system, other) in [(first.system, "node-2"), (second.system, "node-1")] {
            let vault = try Vault.resolve(id: ActorAddress(named: "vault", on: NodeID(other)), using: system)
            #expect(try await vault.reveal().count == 64)
        }
        await second.stop()
        await firstLog.wait(for: ["up node-2 two", "down node-2"])
        #expect(first.system.peers.isEmpty)
        await first.stop()
    }

    @Test("a peer that goes says goodbye, and one that is lost does not")
    func ends() async throws {
        let node = try await TestNode.start("node-1")
        let ends = Mutex<[Peer.End?]>([])
        let changed = Signal()
        node.system.onPeer(
            up: { _ in changed.fire() },
            down: { peer, _ in
                ends.withLock { $0.append(peer.end) }
                changed.fire()
            })
        func wait(for expected: [Peer.End?]) async {
            while ends.withLock({ $0.count < expected.count }) { await changed.wait() }
            #expect(ends.withLock { $0 } == expected)
        }
        let lost = try await RawPeer(to: node, as: .node)
        await lost.wait { $0.methodFrames > 0 }
        while node.system.peers.isEmpty { await changed.wait() }
        await lost.stop()
        await wait(for: [.lost])
        let polite = try await TestClient.connect(to: node, as: .node, name: "node-2")
        await polite.stop()
        await wait(for: [.lost, .goodbye])
        let other = try await TestClient.connect(to: node, as: .node, name: "node-3")
        while node.system.peers.isEmpty { await changed.wait() }
        await node.system.stop()
        await wait(for: [.lost, .goodbye, .closedHere])
        await other.stop()
        await node.stop()
    }

    @Test("a new connection of a node replaces its old one: down comes before up")
    func replaced() async throws {
        let node = try await TestNode.start("node-1")
        let log = PeerLog(of: node.system)
        let old = try await TestClient.connect(to: node, as: .node, name: "node-2")
        // The node may hear of it last of all, and the one that it hears of later is the new one.
        await log.wait(for: ["up node-2 "])
        let new = try await TestClient.connect(to: node, as: .node, name: "node-2")
        await log.wait(for: ["up node-2 ", "down node-2", "up node-2 "])
        #expect(node.system.peers.count == 1)
        await new.stop()
        await log.wait(for: ["up node-2 ", "down node-2", "up node-2 ", "down node-2"])
        await old.stop()
        await node.stop()
    }

    @Test("calls to a node that is linked to no more fail as those to a lost one do: another may answer them")
    func unlinked() async throws {
        let first = try await TestNode.start("node-1")
        let second = try await TestNode.start("node-2") { system in
            _ = await system.named("echo", exportedTo: .nodes) { Echo(actorSystem: system) }
        }
        let log = PeerLog(of: first.system)
        first.system.link(to: NodeID("node-2"), host: "127.0.0.1", port: second.port)
        await log.wait(for: ["up node-2 "])
        let echo = try Echo.resolve(
            id: ActorAddress(named: "echo", on: NodeID("node-2")), using: first.system)
        async let error = flockError { _ = try await echo.waits("unlinked") }
        await Probes.started("unlinked").wait()
        first.system.unlink(NodeID("node-2"))
        #expect(await error?.code == .unavailable)
        await first.stop()
        await second.stop()
    }

    @Test("clients of one name are peers of their own, and no nodes")
    func clients() async throws {
        let node = try await TestNode.start("node-1")
        let log = PeerLog(of: node.system)
        let first = try await TestClient.connect(to: node)
        let second = try await TestClient.connect(to: node)
        await log.wait(for: ["up client ", "up client "])
        #expect(node.system.clients.count == 2)
        #expect(node.system.peers.isEmpty)
        await first.stop()
        await log.wait(for: ["up client ", "up client ", "down client"])
        await second.stop()
        await node.stop()
    }

    @Test("a node calls an actor that a client exported to it")
    func callBack() async throws {
        let node = try await TestNode.start("node-1")
        let log = PeerLog(of: node.system)
        let client = try await TestClient.connect(to: node)
        await log.wait(for: ["up client "])
        let echo = await client.system.named("mine", exportedTo: .nodes) { Echo(actorSystem: client.system) }
        let proxy = try Echo.resolve(id: echo.id, using: node.system)
        #expect(try await proxy.echo(3) == 3)
        await client.stop()
        await node.stop()
    }

    @Test("an actor exported after the client connected can be called")
    func lateExport() async throws {
        let node = try await TestNode.start("node-1")
        let raw = try await RawPeer(to: node, as: .client)
        await raw.wait { $0.methodFrames == 1 }
        #expect(raw.seen.withLock { $0.methods.isEmpty })
        let late = await node.system.named("late", exportedTo: .nobody) { Echo(actorSystem: node.system) }
        node.system.export(late, to: .clients)
        await raw.wait { $0.methodFrames == 2 }
        let method = try #require(raw.number(of: "4EchoC4none"))
        raw.send(
            .call, try callBody(number: 1, actor: ActorAddress.key(named: "late"), method: method, arguments: []))
        guard case .success? = await raw.answer(to: 1) else {
            Issue.record("the late actor was not called")
            return
        }
        await raw.stop()
        await node.stop()
    }

    @Test("a client that cannot know a method fails without sending")
    func unknownMethod() async throws {
        try await withPair { node, client in
            _ = await node.system.named("vault", exportedTo: .nodes) { Vault(actorSystem: node.system) }
            let vault: Vault = try client.named("vault")
            let error = await flockError { _ = try await vault.reveal() }
            #expect(error?.code == .notFound)
        }
    }

    @Test("two nodes of one id refuse each other")
    func sameNode() async throws {
        let node = try await TestNode.start("node-1")
        let loop = try EventLoop(name: "twin")
        let twin = testSystem("node-1", .node, loop)
        let error = await flockError { _ = try await twin.connect(host: "127.0.0.1", port: node.port) }
        #expect(error != nil)
        #expect(node.system.peers.isEmpty)
        await twin.stop()
        await loop.stop()
        await node.stop()
    }

    @Test("the registry holds unnamed actors weakly and named ones until their release")
    func registry() async throws {
        let loop = try EventLoop(name: "registry")
        let system = testSystem("node-1", .node, loop)
        var echo: Echo? = Echo(actorSystem: system)
        weak let weakEcho = echo
        let id = try #require(echo?.id)
        #expect(try Echo.resolve(id: id, using: system) === echo)
        echo = nil
        #expect(weakEcho == nil)
        #expect(throws: FlockError.self) { try Echo.resolve(id: id, using: system) }

        weak let named = await system.named("echo", exportedTo: .nobody) { Echo(actorSystem: system) }
        #expect(named != nil)
        #expect(throws: FlockError.self) {
            try Vault.resolve(id: ActorAddress(named: "echo", on: NodeID("node-1")), using: system)
        }
        system.release("echo")
        #expect(named == nil)

        // The deinit of a released actor does not take its successor with it.
        let first = await system.named("again", exportedTo: .nobody) { Echo(actorSystem: system) }
        system.release("again")
        let second = await system.named("again", exportedTo: .nobody) { Echo(actorSystem: system) }
        withExtendedLifetime(first) {}
        #expect(try Echo.resolve(id: second.id, using: system) === second)
        await system.stop()
        await loop.stop()
    }

    @Test("a named maker that throws leaves nothing behind")
    func failingMaker() async throws {
        struct Failure: Error {}
        let loop = try EventLoop(name: "maker")
        let system = testSystem("node-1", .node, loop)
        await #expect(throws: Failure.self) {
            _ = try await system.named("echo", exportedTo: .nodes) { () -> Echo in throw Failure() }
        }
        let echo = await system.named("echo", exportedTo: .nodes) { Echo(actorSystem: system) }
        #expect(echo.id == ActorAddress(named: "echo", on: NodeID("node-1")))
        await system.stop()
        await loop.stop()
    }

    @Test("a hundred nodes and clients start, call and stop, and nothing of them is left")
    func noGrowth() async throws {
        final class Watched {
            weak var object: AnyObject?
            init(_ object: AnyObject) { self.object = object }
        }
        var watched: [Watched] = []
        for round in 0..<100 {
            let node = try await TestNode.start("node-1") { system in
                _ = await system.named("echo", exportedTo: .clients) { Echo(actorSystem: system) }
                // What users register mostly holds the system.
                system.direct(Echo.self, "direct") { _, call in call.fail(FlockError(.moved, "\(system.node)")) }
                system.onPeer(up: { [system] _ in _ = system.clients }, down: { [system] _, _ in _ = system.peers })
            }
            let client = try await TestClient.connect(to: node)
            let echo: Echo = try client.named("echo")
            #expect(try await echo.echo(UInt64(round)) == UInt64(round))
            let parts: [AnyObject] = [
                client.system, client.loop, client.peer, client.peer.loop, node.system, node.loop,
            ]
            watched += parts.map(Watched.init)
            await client.stop()
            await node.stop()
        }
        let left = watched.compactMap(\.object)
        #expect(left.isEmpty, "\(left.count) of \(watched.count) objects are left")
    }
}
