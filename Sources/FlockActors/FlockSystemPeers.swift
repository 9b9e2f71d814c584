// Flockwork · Apache-2.0 · see LICENSE

// Connections come and go here. A connection becomes a peer when both sides have told their methods; a system has one
// peer a node, the newest.

internal import FlockTransport
public import FlockWire
internal import Logging
internal import Synchronization

/// What a system's threads share.
struct SystemState {
    var isStopped = false
    /// Nodes by id.
    var nodes: [NodeID: Peer] = [:]
    /// The nodes' second connections, for control messages.
    var controls: [NodeID: Peer] = [:]
    /// Clients by object: several may use one id.
    var clients: [ObjectIdentifier: Peer] = [:]
    var listeners: [Listener] = []
    var links: [NodeID: [Link]] = [:]
    var handlers: [PeerHandlers] = []
}

struct PeerHandlers {
    let up: @Sendable (Peer) -> Void
    let down: @Sendable (Peer, FlockError) -> Void
}

extension FlockSystem {
    var isStopped: Bool { state.withLock { $0.isStopped } }

    /// The nodes that this process is connected to; for a client, also the nodes it called `connect` for.
    public var peers: [NodeID: Peer] { state.withLock { $0.nodes } }

    /// The second connections to nodes, for what must not wait behind bulk (`link`). They come and go unheard: what
    /// is to be done when a node is lost follows from `peers`.
    public var controlPeers: [NodeID: Peer] { state.withLock { $0.controls } }

    /// The clients that are connected to this process.
    public var clients: [Peer] { state.withLock { Array($0.clients.values) } }

    func peer(at node: NodeID) -> Peer? {
        state.withLock { state in
            state.nodes[node] ?? state.controls[node] ?? state.clients.values.first { $0.identity.node == node }
        }
    }

    /// Calls `up` and `down` on the loop for every peer, node or client, that comes and goes, also for those there are.
    public func onPeer(
        up: @escaping @Sendable (Peer) -> Void, down: @escaping @Sendable (Peer, FlockError) -> Void = { _, _ in }
    ) {
        loop.execute {
            let present = self.state.withLock { state in
                state.handlers.append(PeerHandlers(up: up, down: down))
                return Array(state.nodes.values) + Array(state.clients.values)
            }
            for peer in present { up(peer) }
        }
    }

    /// Accepts peers; returns the port (the one chosen by the system for port 0).
    /// - Throws: `unauthenticated` for a host other than loopback without a token (unless `insecure`); `system` when
    ///   the address cannot be used.
    public func listen(host: String, port: Int, insecure: Bool) async throws -> Int {
        try checkRunning()
        let listener = try await Listener.bind(
            host: host, port: port, on: loop, identity: identity, limits: limits, insecure: insecure, log: log,
            onConnection: { [weak self] connection in
                guard let self else { return connection.close(FlockError(.shuttingDown, "this node is gone")) }
                introduce(connection) { _ in }
            })
        try await keep(listener)
        return listener.port
    }

    /// Accepts peers at a socket in the file system, which only processes of this user can connect to.
    /// - Throws: `system` where the socket cannot be made, or another process listens there.
    public func listen(path: String) async throws {
        try checkRunning()
        let listener = try await Listener.bind(
            path: path, on: loop, identity: identity, limits: limits, log: log,
            onConnection: { [weak self] connection in
                guard let self else { return connection.close(FlockError(.shuttingDown, "this node is gone")) }
                introduce(connection) { _ in }
            })
        try await keep(listener)
    }

    private func keep(_ listener: Listener) async throws {
        let isStopped = state.withLock { state in
            if !state.isStopped { state.listeners.append(listener) }
            return state.isStopped
        }
        guard isStopped else { return }
        await listener.close()
        try checkRunning()
    }

    /// Connects to a node, once; for clients. When the peer is lost it is gone: connect again.
    public func connect(host: String, port: Int) async throws -> Peer {
        try checkRunning()
        let connection = try await Dialer.connect(
            host: host, port: port, on: loop, identity: identity, limits: limits, expecting: nil)
        return try await withCheckedThrowingContinuation { continuation in
            loop.execute { self.introduce(connection) { continuation.resume(with: $0) } }
        }
    }

    /// Connects to a node at its socket in the file system, once.
    public func connect(path: String) async throws -> Peer {
        try checkRunning()
        let connection = try await Dialer.connect(path: path, on: loop, identity: identity, limits: limits)
        return try await withCheckedThrowingContinuation { continuation in
            loop.execute { self.introduce(connection) { continuation.resume(with: $0) } }
        }
    }

    /// Keeps a connection to a member of the cluster; `withControl`, a second one for control messages. A client dials;
    /// of two nodes, the one with the lower id does.
    public func link(to other: NodeID, host: String, port: Int, withControl: Bool = false) {
        guard identity.role == .client || node < other else { return }
        let links = state.withLock { state -> [Link] in
            guard !state.isStopped, state.links[other] == nil else { return [] }
            let links = (withControl ? [identity.role, .control] : [identity.role]).map { role in
                var identity = identity
                identity.role = role
                return Link(
                    host: host, port: port, on: loop, identity: identity, limits: limits, expecting: other, log: log,
                    onUp: { [weak self] connection in self?.introduce(connection) { _ in } })
            }
            state.links[other] = links
            return links
        }
        for link in links { link.start() }
    }

    /// The links to that node, where they are down, are tried at once instead of after their pause.
    public func hurry(to other: NodeID) {
        for link in state.withLock({ $0.links[other] ?? [] }) { link.hurry() }
    }

    /// Ends what `link` began, and connections that it made. Nothing happens if there are none.
    public func unlink(_ other: NodeID) {
        let links = state.withLock { $0.links.removeValue(forKey: other) ?? [] }
        let reason = FlockError(
            .unavailable, "\(other) is none of the nodes any more that are linked to", node: other)
        for link in links { link.stop(reason) }
    }

    private func checkRunning() throws(FlockError) {
        if isStopped { throw FlockError(.shuttingDown, "the system of \(node) was stopped") }
    }

    // MARK: On the loop

    /// Exchanges methods and announcements over a new connection; `done` is called once.
    private func introduce(
        _ connection: Connection, done: @escaping @Sendable (Result<Peer, any Error>) -> Void
    ) {
        assert(loop.isCurrent, "a connection on another loop")
        let key = ObjectIdentifier(connection)
        newcomers[key] = connection
        let timer = loop.schedule(after: limits.handshakeTime) { [loop] in
            loop.limitsReached.reached(.handshakeTime)
            connection.close(FlockError(.protocolViolation, "the peer did not say which methods it has"))
        }
        connection.onClose = { reason in
            timer.cancel()
            self.newcomers[key] = nil
            done(.failure(reason))
        }
        if isStopped { return connection.close(FlockError(.shuttingDown, "the system of \(node) was stopped")) }
        let sent = sendMethods(over: connection)
        connection.onFrame = { frame in
            do {
                guard frame.type == .methods else { throw WireError.malformed("\(frame.type) before methods") }
                let methods = try MethodsFrame(from: frame.body, limits: self.limits)
                timer.cancel()
                self.newcomers[key] = nil
                let peer = Peer(connection: connection, system: self, methods: methods, sentClientMethods: sent)
                done(self.register(peer))
            } catch {
                self.loop.limitsReached.reached(by: error)
                connection.close(FlockError(.protocolViolation, "\(connection.peer.node) sent no methods: \(error)"))
            }
        }
    }

    /// Nodes hear of all methods, clients of those of exported actors. Returns how many of the latter were sent.
    private func sendMethods(over connection: Connection) -> Int {
        let names = registry.names
        let clientMethods = registry.clientMethods(after: 0)
        let numbers = connection.peer.role != .client ? Array(0..<UInt32(names.all.count)) : clientMethods
        // A table over the peer's limits would end the connection; without a name a method cannot be called from there.
        let sendable = numbers.filter { names[$0].identifier.utf8.count <= limits.methodNameBytes }
        if sendable.count < numbers.count || sendable.count > limits.methods {
            loop.limitsReached.reached(sendable.count > limits.methods ? .methods : .methodNameBytes)
            log.warning(
                "not all distributed methods can be called by peers",
                metadata: ["methods": "\(numbers.count)", "limit": "\(limits.methods)"])
        }
        let frame = MethodsFrame(
            methods: sendable.prefix(limits.methods).map { ($0, names[$0].identifier) }, announcement: announcement)
        if !connection.send(.methods, { frame.write(to: &$0) }), connection.isOpen {
            connection.close(
                FlockError(.tooLarge, "an announcement of \(announcement.count) bytes and the methods fill a frame"))
        }
        return clientMethods.count
    }

    private func register(_ peer: Peer) -> Result<Peer, any Error> {
        peer.begin()
        if peer.identity.role != .client && peer.identity.node == node {
            let error = FlockError(.incompatibleNode, "two nodes have the id \(node)")
            peer.close(error)
            return .failure(error)
        }
        let (handlers, replaced) = state.withLock { state -> ([PeerHandlers], Peer?) in
            switch peer.identity.role {
            case .client:
                state.clients[ObjectIdentifier(peer)] = peer
                return (state.handlers, nil)
            case .control: return ([], state.controls.updateValue(peer, forKey: peer.identity.node))
            case .node: return (state.handlers, state.nodes.updateValue(peer, forKey: peer.identity.node))
            }
        }
        // The dialer noticed the end of the old connection before we did: down comes before up.
        replaced?.giveUp(FlockError(.unavailable, "replaced by a new connection"))
        peer.isUp = true
        for handler in handlers { handler.up(peer) }
        peer.sendNewClientMethods()
        return .success(peer)
    }

    func ended(_ peer: Peer, _ reason: FlockError) {
        guard peer.isUp else { return }
        let handlers = state.withLock { state -> [PeerHandlers] in
            state.clients[ObjectIdentifier(peer)] = nil
            if state.nodes[peer.identity.node] === peer { state.nodes[peer.identity.node] = nil }
            if state.controls[peer.identity.node] === peer { state.controls[peer.identity.node] = nil }
            return peer.identity.role == .control ? [] : state.handlers
        }
        for handler in handlers { handler.down(peer, reason) }
    }

    // MARK: Stop

    /// Ends everything: waiting calls fail with `shuttingDown`, running ones are cancelled, named actors are let go.
    ///
    /// The loop goes on; it is its maker's. May be called twice.
    public func stop() async {
        let (listeners, links) = state.withLock { state -> ([Listener], [Link]) in
            state.isStopped = true
            defer {
                state.listeners = []
                state.links = [:]
            }
            return (state.listeners, state.links.values.flatMap { $0 })
        }
        for link in links { link.stop() }
        for listener in listeners { await listener.close() }
        await withCheckedContinuation { continuation in
            loop.execute {
                self.endPeers()
                continuation.resume()
            }
        }
        registry.releaseAll()
    }

    private func endPeers() {
        let reason = FlockError(.shuttingDown, "the system of \(node) was stopped")
        for connection in newcomers.values { connection.close(reason) }
        let all = state.withLock { Array($0.nodes.values) + Array($0.controls.values) + Array($0.clients.values) }
        for peer in all {
            peer.connection.send(.goodbye) { _ in }
            peer.giveUp(reason)
        }
        state.withLock { $0.handlers = [] }
    }
}
