// Flockwork · Apache-2.0 · see LICENSE

// One connection to another process, after both told each other their methods. This file has its life; calls out are
// in PeerCalls.swift, calls in are in PeerDispatch.swift.

public import FlockTransport
public import FlockWire

/// Another process: calls go out and come in over its connection.
public final class Peer: Sendable {
    public let identity: PeerIdentity
    /// What it announced about itself when it connected: the bytes given to its system's init.
    public let announcement: Bytes
    /// Its connection's loop: everything below that says "on the loop" means this one.
    public let loop: EventLoop

    let connection: Connection
    let system: FlockSystem
    let limits: Limits
    let localNode: NodeID

    // What follows is touched on the loop only.
    /// Waiting calls.
    nonisolated(unsafe) var calls: CallTable<CallWaiter>
    /// The peer's numbers by ours; `noNumber` where it has no such method.
    nonisolated(unsafe) var remoteNumbers: [UInt32]
    /// Calls of the peer that run, by its numbers.
    nonisolated(unsafe) var running: [UInt64: RunningCall] = [:]
    /// Ordinary calls that wait until the connection takes more.
    nonisolated(unsafe) var held: [CallNumber] = []
    nonisolated(unsafe) private var writableHandlers: [@Sendable () -> Void] = []
    nonisolated(unsafe) var deadlineTimer: LoopTimer?
    nonisolated(unsafe) var timerDeadline = Tick.never
    nonisolated(unsafe) private var sentClientMethods: Int
    /// The system's handlers heard of it.
    nonisolated(unsafe) var isUp = false
    nonisolated(unsafe) private(set) var closeReason: FlockError?
    nonisolated(unsafe) private var saidGoodbye = false

    static let noNumber = UInt32.max

    init(connection: Connection, system: FlockSystem, methods: MethodsFrame, sentClientMethods: Int) {
        self.sentClientMethods = sentClientMethods
        self.connection = connection
        self.system = system
        identity = connection.peer
        announcement = methods.announcement
        loop = connection.loop
        limits = system.limits
        localNode = system.node
        calls = CallTable(limit: system.limits.pendingCalls)
        remoteNumbers = Array(repeating: Self.noNumber, count: system.registry.names.all.count)
        learn(methods)
    }

    /// What actors must be exported to for this peer to call them.
    var requiredExport: Export { identity.role == .client ? .clients : .nodes }

    /// On the loop: calls can be made.
    public var isOpen: Bool { connection.isOpen }

    /// How a peer went.
    public enum End: Sendable {
        /// It said that it goes.
        case goodbye
        /// This process ended it, or has a newer connection.
        case closedHere
        /// Without a word, by an end or a reset of the connection: its process may be gone.
        case lost
    }

    /// On the loop: how it went; nil while it is here.
    public var end: End? {
        guard closeReason != nil else { return nil }
        if saidGoodbye { return .goodbye }
        return connection.end == .closedHere ? .closedHere : .lost
    }

    /// On the loop: the peer takes what is sent; false from `Limits.writeHighWaterBytes` of waiting bytes on.
    public var isWritable: Bool { connection.isWritable }

    /// On the loop: runs `handler` once, when the peer takes more (at the end of this turn if it does now).
    ///
    /// It never runs if the peer is lost before.
    public func onWritable(_ handler: @escaping @Sendable () -> Void) {
        assert(loop.isCurrent, "onWritable off the loop")
        guard isOpen else { return }
        writableHandlers.append(handler)
        if isWritable { loop.execute { self.becameWritable() } }
    }

    /// On the loop: frames that came from it so far.
    public var receivedFrames: UInt64 { connection.receivedFrames }

    /// On the loop: asks for a sign of life, a frame that its loop sends back.
    public func ping() { connection.send(.ping) { _ in } }

    /// On the loop: writes now what was sent, for what must be on its way before something else begins.
    public func flush() { connection.flush() }

    /// On the loop: ends the connection. Everything that waits for this peer fails with `unavailable`.
    public func close(_ reason: FlockError) { connection.close(reason) }

    // MARK: Life

    /// Takes the connection over.
    func begin() {
        connection.onFrame = { frame in self.receive(frame) }
        connection.onWritable = { self.becameWritable() }
        connection.onClose = { reason in self.ended(reason) }
    }

    /// A peer's table names its methods; ours are found among them as plain text, everything else is forgotten.
    private func learn(_ frame: MethodsFrame) {
        for (number, identifier) in frame.methods where number != Self.noNumber {
            if let own = system.registry.names.number(of: identifier) { remoteNumbers[Int(own)] = number }
        }
    }

    /// Tells a client about methods that were exported since the last time.
    func sendNewClientMethods() {
        guard identity.role == .client, isOpen else { return }
        let added = system.registry.clientMethods(after: sentClientMethods)
        guard !added.isEmpty else { return }
        sentClientMethods += added.count
        let names = system.registry.names
        let frame = MethodsFrame(methods: added.map { ($0, names[$0].identifier) }, announcement: .empty)
        connection.send(.methods) { frame.write(to: &$0) }
    }

    private func receive(_ frame: Frame) {
        do {
            switch frame.type {
            case .call: try receiveCall(frame.body)
            case .reply: try receiveReply(frame.body)
            case .cancel: try receiveCancel(frame.body)
            case .methods: learn(try MethodsFrame(from: frame.body, limits: limits))
            case .ping: connection.send(.pong) { $0.write(frame.body.prefix(64)) }
            case .pong: break
            case .goodbye:
                saidGoodbye = true
                connection.close(FlockError(.unavailable, "\(identity.node) is shutting down", node: identity.node))
            case .hello, .challenge, .proof, .welcome, .refusal:
                throw WireError.malformed("a handshake frame after the handshake")
            }
        } catch {
            loop.limitsReached.reached(by: error)
            connection.close(
                FlockError(
                    .protocolViolation, "\(identity.node) sent a frame that makes no sense: \(error)",
                    limit: Limit(of: error)))
        }
    }

    private func becameWritable() {
        sendHeld()
        guard isWritable else { return }
        let handlers = writableHandlers
        writableHandlers = []
        for handler in handlers { handler() }
    }

    /// Ends it now, without waiting for the connection's end.
    func giveUp(_ reason: FlockError) {
        connection.close(reason)
        ended(reason)
    }

    /// The connection is closed, or given up already.
    func ended(_ reason: FlockError) {
        guard closeReason == nil else { return }
        closeReason = reason
        deadlineTimer?.cancel()
        deadlineTimer = nil
        writableHandlers = []
        held = []
        let lost = lostError(reason)
        for waiter in calls.removeAll() { waiter.fail(lost) }
        let runningCalls = running
        running = [:]
        for call in runningCalls.values { call.cancel() }
        system.ended(self, reason)
    }

    /// What calls to a lost peer fail with.
    func lostError(_ reason: FlockError? = nil) -> FlockError {
        let reason = reason ?? closeReason
        return FlockError(
            // Our own system stops, or the peer is gone: only then may another node answer.
            reason?.code == .shuttingDown ? .shuttingDown : .unavailable,
            "the connection to \(identity.node) is lost\(reason.map { ": \($0.message)" } ?? "")",
            node: identity.node)
    }
}

extension Bytes {
    fileprivate func prefix(_ limit: Int) -> Bytes { slice(from: 0, count: min(count, limit)) }
}
