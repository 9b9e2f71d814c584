// Flockwork · Apache-2.0 · see LICENSE

// Systems that talk over real loopback sockets, and the actors that the tests call.

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Logging
import Testing

/// A node's system with its own loop, listening on a free port.
struct TestNode {
    let system: FlockSystem
    let loop: EventLoop
    let port: Int

    static func start(
        _ name: String, limits: Limits = Limits(), announcement: Bytes = .empty,
        prepare: (FlockSystem) async throws -> Void = { _ in }
    ) async throws -> TestNode {
        let loop = try EventLoop(name: name)
        let system = testSystem(name, .node, loop, limits: limits, announcement: announcement)
        try await prepare(system)
        return TestNode(
            system: system, loop: loop, port: try await system.listen(host: "127.0.0.1", port: 0, insecure: false))
    }

    func stop() async {
        await system.stop()
        await loop.stop()
    }
}

/// A client's system with its own loop.
struct TestClient {
    let system: FlockSystem
    let loop: EventLoop
    let peer: Peer

    static func connect(
        to node: TestNode, as role: PeerRole = .client, name: String = "client", limits: Limits = Limits()
    ) async throws -> TestClient {
        let loop = try EventLoop(name: name)
        let system = testSystem(name, role, loop, limits: limits)
        return TestClient(
            system: system, loop: loop, peer: try await system.connect(host: "127.0.0.1", port: node.port))
    }

    /// A proxy of a named actor of the node.
    func named<A: DistributedActor>(_ name: String, as type: A.Type = A.self) throws -> A
    where A.ActorSystem == FlockSystem {
        try A.resolve(id: ActorAddress(named: name, on: peer.identity.node), using: system)
    }

    /// Runs on the loop and waits for it.
    @discardableResult
    func onLoop<Result: Sendable>(_ work: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            loop.execute { continuation.resume(returning: work()) }
        }
    }

    func stop() async {
        await system.stop()
        await loop.stop()
    }
}

func testSystem(
    _ name: String, _ role: PeerRole, _ loop: EventLoop, limits: Limits = Limits(), announcement: Bytes = .empty
) -> FlockSystem {
    FlockSystem(
        identity: Identity(clusterID: "test", node: NodeID(name), role: role), loop: loop, limits: limits,
        log: Logger(label: name) { _ in SwiftLogNoOpLogHandler() }, announcement: announcement)
}

/// Runs `body` with a node that has an `Echo` named "echo" for everybody, and a connected client.
func withPair(
    role: PeerRole = .client, nodeLimits: Limits = Limits(), clientLimits: Limits = Limits(),
    prepare: (FlockSystem) async throws -> Void = { _ in },
    _ body: (TestNode, TestClient) async throws -> Void
) async throws {
    let node = try await TestNode.start("node-1", limits: nodeLimits) { system in
        _ = await system.named("echo", exportedTo: .clients) { Echo(actorSystem: system) }
        try await prepare(system)
    }
    let client = try await TestClient.connect(to: node, as: role, limits: clientLimits)
    do {
        try await body(node, client)
    } catch {
        await client.stop()
        await node.stop()
        throw error
    }
    await client.stop()
    await node.stop()
}

/// The error that `body` throws, which must be a `FlockError`.
func flockError(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async -> FlockError? {
    do {
        try await body()
        Issue.record("nothing was thrown", sourceLocation: sourceLocation)
        return nil
    } catch let error as FlockError {
        return error
    } catch {
        Issue.record("\(error) is no FlockError", sourceLocation: sourceLocation)
        return nil
    }
}

/// Something that happens once, for tests to wait for.
final class Signal: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    func fire() { continuation.yield() }
    func wait() async { for await _ in stream { return } }
}
