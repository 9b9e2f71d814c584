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
    /// A file with the cluster's token for clients, mode 0600; nil where the cluster has none.
    public var tokenFile: String?
    public var limits = Limits()
    /// Requests of one session that may be open: a power of two.
    public var window = 16_384
    /// Sessions with each node: more of them spread callers of many threads over more locks.
    public var sessionsPerNode = 1
    /// Always look for work for a moment before the client's thread sleeps, not only while that pays: less latency for
    /// a core.
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
    private let map = ClusterMap()
    private let watch = Mutex(Watch())

    /// How this client follows the views of a cluster; at rest where members are fixed.
    private struct Watch {
        var isCluster = false
        var addresses: [NodeID: String] = [:]
        var isAsking = false
        var notBefore = Tick.zero
        var isClosed = false
    }

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
        let description = try await describe(inbox)
        let members = description.members
        if description.isCluster {
            watch.withLock { $0.isCluster = true }
            _ = map.learn(description)
        }
        ports.withLock { ports in for member in members { ports[member.node] = makePort(to: member.node) } }
        // From here on links keep the connections, which come back when they are lost; the first one does not.
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            loop.execute {
                peer.close(FlockError(.moved, "The client keeps its own connection now."))
                continuation.resume()
            }
        }
        if description.isCluster { watch.withLock { $0.addresses = Self.addresses(of: members) } }
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
        if description.isCluster { keepAsking() }
    }

    /// What a node knows; one that waits for its first view is asked again.
    private func describe(_ inbox: InboxActor) async throws -> ClusterDescription {
        let end = EventLoop.now + configuration.limits.connectTime
        while true {
            let description = try await inbox.describe()
            if !description.members.isEmpty { return description }
            guard EventLoop.now < end else {
                throw FlockError(.unavailable, "The node waits for the others of its cluster.", node: inbox.id.node)
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    // MARK: Views

    private static let askingInterval = Duration.seconds(1)
    private static let askingPause = Duration.milliseconds(10)

    private static func addresses(of members: [ClusterDescription.Member]) -> [NodeID: String] {
        Dictionary(members.map { ($0.node, "\($0.host):\($0.port)") }, uniquingKeysWith: { $1 })
    }

    /// Nodes that come are found although nothing fails.
    private func keepAsking() {
        _ = loop.schedule(after: Self.askingInterval) { [weak self] in
            guard let self, !watch.withLock({ $0.isClosed }) else { return }
            askForView()
            for inbox in inboxes.withLock({ $0 }) { inbox.core?.complete() }
            keepAsking()
        }
    }

    /// Asks some node for a newer view, one at a time.
    private func askForView() {
        let now = EventLoop.now
        let mayAsk = watch.withLock { watch in
            guard watch.isCluster, !watch.isAsking, !watch.isClosed, watch.notBefore <= now else { return false }
            watch.isAsking = true
            return true
        }
        guard mayAsk else { return }
        Task {
            if let description = await newestDescription() { follow(description) }
            watch.withLock { watch in
                watch.isAsking = false
                watch.notBefore = EventLoop.now + Self.askingPause
            }
        }
    }

    /// What two nodes know that were drawn; the first answer is enough, for one of them may be cut off.
    private func newestDescription() async -> ClusterDescription? {
        let open = system.peers.filter { $0.value.isOpen }.keys.shuffled()
        return await withTaskGroup(of: ClusterDescription?.self) { group in
            for node in open.prefix(2) { group.addTask { await self.description(by: node) } }
            defer { group.cancelAll() }
            for await case let description? in group { return description }
            return nil
        }
    }

    private func description(by node: NodeID) async -> ClusterDescription? {
        do {
            let inbox = try InboxActor.resolve(
                id: ActorAddress(named: InboxMethods.actorName, on: node), using: system)
            return try await FlockSystem.$deadline.withValue(.milliseconds(500)) { try await inbox.describe() }
        } catch {
            configuration.logger.debug("a node was asked in vain", metadata: ["error": "\(error)"])
            return nil
        }
    }

    /// Connections follow the members of a newer view.
    private func follow(_ description: ClusterDescription) {
        guard map.learn(description), !description.members.isEmpty else { return }
        let wanted = Self.addresses(of: description.members)
        let before = watch.withLock { watch in
            defer { watch.addresses = wanted }
            return watch.addresses
        }
        for (node, address) in before where wanted[node] != address {
            system.unlink(node)
            if wanted[node] == nil { ports.withLock { $0[node] = nil } }
        }
        for member in description.members where before[member.node] != wanted[member.node] {
            ports.withLock { ports in ports[member.node] = ports[member.node] ?? makePort(to: member.node) }
            system.link(to: member.node, host: member.host, port: member.port)
        }
        for inbox in inboxes.withLock({ $0 }) { inbox.core?.viewChanged() }
    }

    private func makePort(to node: NodeID) -> PeerPort {
        PeerPort(node: node, system: system, limits: configuration.limits) { [weak self] in self?.askForView() }
    }

    private func routes() -> SessionRoutes? {
        guard watch.withLock({ $0.isCluster }) else { return nil }
        return SessionRoutes(
            map: map, port: { [weak self] node in self?.ports.withLock { $0[node] } },
            connectTime: configuration.limits.connectTime,
            refresh: { [weak self] node in
                if let node { self?.system.hurry(to: node) }
                self?.askForView()
            })
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
        try await open(core)
        return inbox
    }

    /// The inbox of a pipeline of plain data, by its name. `Input` and `Output` are `String`, `Bytes`, `Row` or
    /// `Float`.
    ///
    /// - Parameter width: Floats of a row, where rows go in.
    /// - Throws: `FlockError`: `.notFound` if the nodes run none of that name, `.incompatibleNode` if it takes or
    /// returns something else, `.invalidInput` for other types.
    public func inbox<Input, Output>(
        named name: String, of input: Input.Type, width: Int? = nil, returning output: Output.Type
    ) async throws -> Inbox<Input, Output> {
        guard let form = PlainForm(of: input, width: width, returning: output) else {
            throw FlockError(.invalidInput, "\(input) to \(output) with a width of \(width ?? 0) is no plain form.")
        }
        let (inbox, core) = makeInbox(
            name, form.fingerprint(of: name), ItemCodec<Input>(rowWidth: width), ItemCodec<Output>())
        try await open(core)
        return inbox
    }

    private func open(_ core: InboxCore) async throws {
        try await core.open()
        inboxes.withLock { inboxes in
            inboxes.removeAll { $0.core == nil }
            inboxes.append(WeakInbox(core: core))
        }
    }

    /// The pipelines of the cluster's nodes that can be reached, by name.
    public func pipelines() async throws -> [PipelineInfo] {
        var all: [String: PipelineInfo] = [:]
        for (node, peer) in system.peers.sorted(by: { $0.key < $1.key }) where peer.isOpen {
            let address = ActorAddress(named: InboxMethods.actorName, on: node)
            for info in try await InboxActor.resolve(id: address, using: system).describe().pipelines {
                all[info.name] = all[info.name] ?? info
            }
        }
        return all.values.sorted { $0.name < $1.name }
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
        makeInbox(pipeline.name, pipeline.fingerprint, pipeline.inputCodec, pipeline.outputCodec, priority)
    }

    private func makeInbox<Input, Output>(
        _ name: String, _ fingerprint: UInt64, _ input: ItemCodec<Input>, _ output: ItemCodec<Output>,
        _ priority: RequestPriority = .normal
    ) -> (Inbox<Input, Output>, InboxCore) {
        let core = InboxCore(
            pipeline: name, fingerprint: fingerprint, layout: input.layout ?? .variable,
            window: configuration.window, priority: priority, ports: { [weak self] in self?.sessionPorts() ?? [] },
            routes: { [weak self] in self?.routes() })
        return (Inbox(core: core, input: input, output: output), core)
    }

    private func sessionPorts() -> [any SessionPort] {
        let ports = ports.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
        return ports.filter(\.isConnected).flatMap { Array(repeating: $0, count: configuration.sessionsPerNode) }
    }

    /// What each node that can be reached is doing. All are asked at once; who does not answer within `limit` is left
    /// out, for a host that is cut off says neither yes nor no.
    ///
    /// - Throws: `FlockError` if no node answers.
    public func status(within limit: Duration = .seconds(5)) async throws -> [NodeStatus] {
        try await withThrowingTaskGroup(of: Result<NodeStatus, FlockError>.self) { group in
            for (node, peer) in system.peers where peer.isOpen {
                let address = ActorAddress(named: InboxMethods.actorName, on: node)
                let inbox = try InboxActor.resolve(id: address, using: system)
                group.addTask {
                    do {
                        return .success(
                            try await FlockSystem.$deadline.withValue(limit) { try await inbox.status() })
                    } catch let error as FlockError { return .failure(error) }
                }
            }
            var all: [NodeStatus] = []
            var failure: FlockError?
            for try await answer in group {
                switch answer {
                case .success(let status): all.append(status)
                case .failure(let error): failure = error
                }
            }
            if let failure, all.isEmpty { throw failure }
            return all.sorted { $0.node < $1.node }
        }
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
        watch.withLock { $0.isClosed = true }
        await system.stop()
        await loop.stop()
    }
}
