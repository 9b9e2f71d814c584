// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockTransport
internal import FlockWire
internal import Synchronization

/// The hot methods of `InboxActor`, resolved once.
enum InboxMethods {
    static let fetch = DirectMethod(InboxActor.self, "fetch")
    static let submit = DirectMethod(InboxActor.self, "submit")
    static let cancel = DirectMethod(InboxActor.self, "cancel")
    static let actorName = "inbox"
    /// A stream of outcomes has no deadline: it lasts as long as its connection.
    static let streamTime = Duration.seconds(1 << 31)
}

/// Reaches the inbox of a node over its connection.
final class PeerPort: SessionPort {
    let node: NodeID
    let loop: EventLoop
    let limits: Limits
    private let system: FlockSystem
    private let address: ActorAddress
    private let waiting = Mutex<[@Sendable () -> Void]>([])
    private let watch: LoopConfined<PeerWatch>
    private let onSilence: @Sendable () -> Void

    /// `onSilence` is called now and then while the node is connected, is awaited, and says nothing at all.
    init(
        node: NodeID, system: FlockSystem, limits: Limits, onSilence: @escaping @Sendable () -> Void = {}
    ) {
        self.onSilence = onSilence
        watch = LoopConfined(PeerWatch(), on: system.loop)
        self.node = node
        self.system = system
        self.limits = limits
        loop = system.loop
        address = ActorAddress(named: InboxMethods.actorName, on: node)
    }

    private var peer: Peer? {
        guard let peer = system.peers[node], peer.isOpen else { return nil }
        return peer
    }

    var isConnected: Bool { peer != nil }

    func open(_ request: OpenRequest) async throws -> SessionToken {
        try await InboxActor.resolve(id: address, using: system).open(request)
    }

    func close(_ token: SessionToken) async throws {
        try await InboxActor.resolve(id: address, using: system).close(token)
    }

    func attach(
        _ token: SessionToken, onPart: @escaping @Sendable (StreamPart) -> Void,
        onEnd: @escaping @Sendable (FlockError) -> Void
    ) -> @Sendable () -> Void {
        guard let peer else {
            onEnd(FlockError(.unavailable, "The node \(node) is not connected."))
            return {}
        }
        let limits = limits
        let call = peer.call(
            InboxMethods.fetch, on: address, deadline: InboxMethods.streamTime, build: { token.key.write(to: &$0) },
            onReply: { reply in
                switch reply {
                case .part(let bytes):
                    var reader = ByteReader(bytes)
                    do {
                        onPart(try StreamPart(from: &reader, limits: limits))
                    } catch {
                        peer.close(FlockError(.protocolViolation, "A part of an outcome stream: \(error)"))
                    }
                case .done: onEnd(FlockError(.unavailable, "The node \(self.node) ended the stream of outcomes."))
                case .failed(let error): onEnd(error)
                }
            })
        return { peer.cancel(call) }
    }

    func submit(_ message: SubmitMessage) {
        peer?.send(InboxMethods.submit, on: address) { message.write(to: &$0) }
    }

    func cancel(_ message: CancelMessage) {
        peer?.send(InboxMethods.cancel, on: address) { message.write(to: &$0) }
    }

    /// A host that is cut off leaves its connections open. So a node that is awaited and silent is asked for a sign of
    /// life, and if that does not come soon others are asked what they know.
    func lookAfter() {
        guard let peer else { return }
        switch watch.with({ $0.look(peer.receivedFrames, of: ObjectIdentifier(peer), now: EventLoop.now) }) {
        case .isThere: return
        case .ask: peer.ping()
        case .isSilent: onSilence()
        }
    }

    func onConnected(_ body: @escaping @Sendable () -> Void) {
        if isConnected { return loop.execute(body) }
        waiting.withLock { $0.append(body) }
    }

    /// The node is connected (again).
    func connected() {
        let bodies = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for body in bodies { body() }
    }
}

/// Whether anything comes from a peer. Sessions ask for it, each ten times a second while it waits; looked is once.
struct PeerWatch {
    enum Finding { case isThere, ask, isSilent }

    private static let interval = Duration.milliseconds(90)
    private var peer: ObjectIdentifier?
    private var frames: UInt64 = 0
    private var looked = Tick.zero
    private var isAsked = false

    mutating func look(_ received: UInt64, of peer: ObjectIdentifier, now: Tick) -> Finding {
        guard now - looked >= Self.interval else { return .isThere }
        looked = now
        guard self.peer == peer, frames == received else {
            (self.peer, frames, isAsked) = (peer, received, false)
            return .isThere
        }
        defer { isAsked = true }
        return isAsked ? .isSilent : .ask
    }
}
