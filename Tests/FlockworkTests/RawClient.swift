// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Logging

@testable import Flockwork

/// A node whose parts a test can reach.
struct OpenNode: Sendable {
    let node: RunningNode
    var port: Int { node.port }
    var limitsReached: LimitCounts { node.system.loop.limitsReached }

    static func start(_ pipelines: any ServablePipeline..., limits: Limits = Limits()) async throws -> OpenNode {
        let configuration = NodeConfiguration(id: "open", port: 0, limits: limits, logger: .quiet, cores: 2)
        return OpenNode(
            node: try await RunningNode.start(pipelines: pipelines.map(\.definition), configuration: configuration))
    }

    func status() async throws -> NodeStatus { try await node.inbox.status() }

    func wait(_ isThere: (NodeStatus) throws -> Bool) async throws {
        try await eventually { try isThere(try await status()) }
    }

    /// Closes the connections of all clients, as a network that fails does. Returns how many there were.
    func cutClients() async -> Int {
        await node.system.loop.run { [system = node.system] in
            let clients = system.clients
            for peer in clients { peer.close(FlockError(.unavailable, "cut by the test")) }
            return clients.count
        }
    }

    func client(window: Int = 16_384) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.window = window
        configuration.logger = .quiet
        return try await Client.connect(to: "127.0.0.1:\(port)", configuration: configuration)
    }

    func stop() async { await node.shutDown() }
}

/// Runs `body` with a node whose parts it can reach, and stops the node whatever happens.
func withOpenNode<Result>(
    _ pipelines: any ServablePipeline..., limits: Limits = Limits(), body: (OpenNode) async throws -> Result
) async throws -> Result {
    let configuration = NodeConfiguration(id: "open", port: 0, limits: limits, logger: .quiet, cores: 2)
    let node = OpenNode(
        node: try await RunningNode.start(pipelines: pipelines.map(\.definition), configuration: configuration))
    do {
        let result = try await body(node)
        await node.stop()
        return result
    } catch {
        await node.stop()
        throw error
    }
}

extension EventLoop {
    /// Runs `body` on the loop's thread.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in execute { continuation.resume(returning: body()) } }
    }
}

/// An authenticated client that says what it likes.
final class RawClient: Sendable {
    let system: FlockSystem
    let peer: Peer
    var loop: EventLoop { system.loop }

    private init(system: FlockSystem, peer: Peer) {
        self.system = system
        self.peer = peer
    }

    static func connect(port: Int, role: PeerRole = .client, limits: Limits = Limits()) async throws -> RawClient {
        let identity = Identity(clusterID: "flockwork", node: NodeID("raw"), role: role)
        let loop = try EventLoop(name: "raw")
        do {
            // A node says what it runs: nothing.
            let announcement = try role == .node ? Announcement(pipelines: []).encoded(limits: limits) : .empty
            let system = FlockSystem(
                identity: identity, loop: loop, limits: limits, log: .quiet, announcement: announcement)
            return RawClient(system: system, peer: try await system.connect(host: "127.0.0.1", port: port))
        } catch {
            await loop.stop()
            throw error
        }
    }

    var inboxAddress: ActorAddress { ActorAddress(named: InboxMethods.actorName, on: peer.identity.node) }

    func inbox() throws -> InboxActor { try InboxActor.resolve(id: inboxAddress, using: system) }

    func open<Input, Output>(_ pipeline: Pipeline<Input, Output>, window: Int = 1024) async throws -> SessionToken
    where Input: Codable, Output: Codable {
        try await inbox().open(
            OpenRequest(pipeline: pipeline.name, fingerprint: pipeline.fingerprint, window: window))
    }

    /// A one-way direct call with any bytes.
    func send(_ method: DirectMethod, _ bytes: [UInt8]) async {
        await loop.run { [self] in peer.send(method, on: inboxAddress) { $0.write(Bytes(bytes)) } }
    }

    func submit(_ message: SubmitMessage) async {
        await send(InboxMethods.submit, encoded { message.write(to: &$0) })
    }

    func cancel(_ message: CancelMessage) async {
        await send(InboxMethods.cancel, encoded { message.write(to: &$0) })
    }

    /// Attaches to a session; parts and the end are collected.
    func fetch(_ key: SessionKey) async -> Stream {
        let stream = Stream()
        await loop.run { [self] in
            _ = peer.call(
                InboxMethods.fetch, on: inboxAddress, deadline: InboxMethods.streamTime,
                build: { key.write(to: &$0) }, onReply: { stream.replied($0) })
        }
        return stream
    }

    /// A round trip: everything that was sent before was handled. False if the connection is lost.
    @discardableResult
    func isAlive() async -> Bool {
        do {
            _ = try await inbox().describe()
            return true
        } catch {
            return false
        }
    }

    func stop() async {
        await system.stop()
        await loop.stop()
    }

    /// What came over a stream of outcomes.
    final class Stream: Sendable {
        let parts = Collected<StreamPart>()
        let ends = Collected<FlockError>()

        func replied(_ reply: DirectReply) {
            switch reply {
            case .part(let bytes):
                var reader = ByteReader(bytes)
                do {
                    parts.append(try StreamPart(from: &reader, limits: Limits()))
                } catch {
                    ends.append(FlockError(.protocolViolation, "\(error)"))
                }
            case .done: ends.append(FlockError(.moved, "done"))
            case .failed(let error): ends.append(error)
            }
        }

        var outcomes: [OutcomeRun] { parts.all.flatMap(\.outcomes) }
        var items: Int { outcomes.reduce(0) { $0 + $1.sequences.count } }

        /// Waits for the stream to have what the test expects.
        func wait(_ isThere: (Stream) -> Bool) async throws { try await eventually { isThere(self) } }
    }
}

func encoded(_ write: (inout ByteWriter) -> Void) -> [UInt8] {
    var writer = ByteWriter()
    write(&writer)
    return writer.finish().array
}
