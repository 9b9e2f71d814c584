// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockTransport
public import FlockWire
public import Logging
internal import Synchronization

/// What a client needs beside an address.
public struct ClientConfiguration: Sendable {
    /// The cluster that the client means to reach; another one refuses it.
    public var clusterID = "flockwork"
    /// A file with the cluster's token, mode 0600; nil where the cluster has none.
    public var tokenFile: String?
    public var limits = Limits()
    /// Requests of one session that may be open: a power of two.
    public var window = 16_384
    /// Sessions with each node: more of them spread callers of many threads over more locks.
    public var sessionsPerNode = 1
    /// Spin for a moment before the client's thread sleeps: less latency for a core.
    public var busyPoll = false
    public var logger = Logger(label: "flockwork.client")
    public init() {}
}

/// An inbox that wants to hear of nodes that come back.
private struct WeakInbox: Sendable {
    weak let core: InboxCore?
}

/// A connection to a cluster. Finds the other nodes by itself, and reconnects to those that come back.
public final class Client: Sendable {
    private let system: FlockSystem
    private let loop: EventLoop
    private let configuration: ClientConfiguration
    private let ports = Mutex<[NodeID: PeerPort]>([:])
    private let inboxes = Mutex<[WeakInbox]>([])
    private let arrival = Mutex<UnsafeContinuation<Void, Never>?>(nil)

    private init(system: FlockSystem, loop: EventLoop, configuration: ClientConfiguration) {
        self.system = system
        self.loop = loop
        self.configuration = configuration
    }

    /// Connects to the first of `seeds` ("host:port") that answers, and through it to the whole cluster.
    ///
    /// - Throws: `FlockError`: `.unavailable` if none answers, `.unauthenticated` or `.incompatibleNode` if it refuses.
    public static func connect(
        to seeds: String..., configuration: ClientConfiguration = ClientConfiguration()
    ) async throws -> Client {
        try await connect(to: seeds, configuration: configuration)
    }

    /// Connects to the first of `seeds` ("host:port") that answers, and through it to the whole cluster.
    public static func connect(
        to seeds: [String], configuration: ClientConfiguration = ClientConfiguration()
    ) async throws -> Client {
        precondition(
            configuration.window > 0 && configuration.window & (configuration.window - 1) == 0,
            "a client's window is a power of two, not \(configuration.window)")
        let loop = try EventLoop(name: "flock-client", busyPoll: configuration.busyPoll)
        do {
            let identity = Identity(
                clusterID: configuration.clusterID, node: NodeID("client-\(UInt64.random(in: .min ... .max))"),
                role: .client, membersHash: 0, token: try configuration.tokenFile.map { try Token(file: $0) })
            let system = FlockSystem(
                identity: identity, loop: loop, limits: configuration.limits, log: configuration.logger)
            let client = Client(system: system, loop: loop, configuration: configuration)
            try await client.start(seeds)
            return client
        } catch {
            await loop.stop()
            throw error
        }
    }

    private func start(_ seeds: [String]) async throws {
        system.onPeer(
            up: { [weak self] peer in self?.connected(peer.identity.node) }, down: { _, _ in })
        var failure = FlockError(.invalidInput, "No address to connect to.")
        for seed in seeds {
            do {
                let (host, port) = try HostPort.parse(seed)
                let peer = try await system.connect(host: host, port: port)
                try await meet(peer, host: host, port: port)
                return
            } catch let error as FlockError {
                failure = error
            }
        }
        await system.stop()
        throw failure
    }

    /// Learns the cluster from its first node, and keeps connections to all of its nodes.
    private func meet(_ peer: Peer, host: String, port: Int) async throws {
        let node = peer.identity.node
        let inbox = try InboxActor.resolve(
            id: ActorAddress(named: InboxMethods.actorName, on: node), using: system)
        let members = try await inbox.describe().members
        ports.withLock { ports in
            for member in members {
                ports[member.node] = PeerPort(node: member.node, system: system, limits: configuration.limits)
            }
        }
        // From here on links keep the connections, which come back when they are lost; the first one does not.
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            loop.execute {
                peer.close(FlockError(.moved, "The client keeps its own connection now."))
                continuation.resume()
            }
        }
        for member in members {
            // The address that worked is better than what the node believes of itself.
            let isSeed = member.node == node
            system.link(
                to: member.node, host: isSeed ? host : member.host, port: isSeed ? port : member.port)
        }
        await allConnected()
        guard ports.withLock({ $0.values.contains { $0.isConnected } }) else {
            throw FlockError(.unavailable, "No node of the cluster can be reached.")
        }
    }

    /// Waits until every member is connected, but not long for one that is down.
    private func allConnected() async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            arrival.withLock { $0 = continuation }
            _ = loop.schedule(after: configuration.limits.connectTime / 10) { [weak self] in self?.arrived() }
            loop.execute { [weak self] in self?.checkArrival() }
        }
    }

    private func checkArrival() {
        if ports.withLock({ $0.values.allSatisfy { $0.isConnected } }) { arrived() }
    }

    private func arrived() {
        arrival.withLock { $0.take() }?.resume()
    }

    private func connected(_ node: NodeID) {
        ports.withLock { $0[node] }?.connected()
        checkArrival()
        for inbox in inboxes.withLock({ $0 }) { inbox.core?.refresh() }
    }

    /// The inbox of a pipeline that the cluster's nodes run.
    ///
    /// `priority` is that of all its requests, where they wait for a stage with those of other inboxes.
    /// - Throws: `FlockError`: `.notFound` if they run none of that name, `.incompatibleNode` if they run another one.
    public func inbox<Input, Output>(
        of pipeline: Pipeline<Input, Output>, priority: RequestPriority = .normal
    ) async throws -> Inbox<Input, Output> where Input: Codable, Output: Codable {
        let (inbox, core) = makeInbox(of: pipeline, priority)
        try await core.open()
        inboxes.withLock { inboxes in
            inboxes.removeAll { $0.core == nil }
            inboxes.append(WeakInbox(core: core))
        }
        return inbox
    }

    /// What an earlier process posted and has not taken yet.
    public func outbox<Input, Output>(
        of pipeline: Pipeline<Input, Output>, resuming tokens: [SessionToken]
    ) async throws -> Outbox<Output> where Input: Codable, Output: Codable {
        let (inbox, core) = makeInbox(of: pipeline)
        try core.resume(tokens)
        return inbox.outbox()
    }

    private func makeInbox<Input, Output>(
        of pipeline: Pipeline<Input, Output>, _ priority: RequestPriority = .normal
    ) -> (Inbox<Input, Output>, InboxCore) where Input: Codable, Output: Codable {
        let core = InboxCore(
            pipeline: pipeline.name, fingerprint: pipeline.fingerprint, layout: pipeline.inputCodec.layout ?? .variable,
            window: configuration.window, priority: priority, ports: { [weak self] in self?.sessionPorts() ?? [] })
        return (Inbox(core: core, input: pipeline.inputCodec, output: pipeline.outputCodec), core)
    }

    private func sessionPorts() -> [any SessionPort] {
        let ports = ports.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
        return ports.filter(\.isConnected).flatMap { Array(repeating: $0, count: configuration.sessionsPerNode) }
    }

    /// What each node that can be reached is doing.
    public func status() async throws -> [NodeStatus] {
        var all: [NodeStatus] = []
        for (node, peer) in system.peers.sorted(by: { $0.key < $1.key }) where peer.isOpen {
            let address = ActorAddress(named: InboxMethods.actorName, on: node)
            all.append(try await InboxActor.resolve(id: address, using: system).status())
        }
        return all
    }

    /// The client's own thread, as an executor preference for tasks that ask.
    ///
    ///     await withTaskExecutorPreference(client.executor) { try await inbox.ask(row) }
    ///
    /// A task that runs there needs no change of thread to ask and to be answered. It must not block or compute for
    /// long: every connection of the client waits for it.
    public var executor: any TaskExecutor { loop.taskExecutor }

    /// Ends all connections. Requests without an outcome fail with `shuttingDown` or `unavailable`.
    public func close() async {
        await system.stop()
        await loop.stop()
    }
}
