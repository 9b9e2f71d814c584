// Flockwork · Apache-2.0 · see LICENSE

// Accepts connections and hands them on when they proved who they are. Strangers are cheap to turn away: over a cap
// they get one refusal frame and no state.

internal import CLibuv
public import FlockWire
internal import Glibc
public import Logging

/// A listening socket.
// Unchecked: of the loop's thread only, but for `port` and `close`.
public final class Listener: LoopResident, @unchecked Sendable {
    /// The port bound, also if 0 was asked for; 0 for a socket in the file system.
    public let port: Int
    /// Where it listens, for people.
    private let place: String
    private let localSocket: LocalSocket?
    private let loop: EventLoop
    private let identity: Identity
    private let limits: Limits
    private let log: Logger
    private let onConnection: @Sendable (Connection) -> Void
    /// A `uv_tcp_t` or a `uv_pipe_t`.
    private var handle: UnsafeMutablePointer<uv_stream_t>?
    /// With a number that grows from one to the next.
    private var halfOpen: [ObjectIdentifier: (number: UInt64, stream: FrameStream)] = [:]
    private var nextNumber: UInt64 = 0
    private var connections = 0
    private var gate = LogGate()
    private var closeWaiters: [CheckedContinuation<Void, Never>] = []

    /// Listens on `host:port`; port 0 takes any free one. `onConnection` is called on the loop and should set the
    /// connection's handlers.
    /// - Throws: `unauthenticated` for an address that others can reach without a token (unless `insecure`), `system`
    ///   naming `host:port` when the port is in use, `unavailable` when the host has no address.
    public static func bind(
        host: String, port: Int, on loop: EventLoop, identity: Identity, limits: Limits, insecure: Bool = false,
        log: Logger, onConnection: @escaping @Sendable (Connection) -> Void
    ) async throws -> Listener {
        try await withCheckedThrowingContinuation { continuation in
            loop.execute {
                guard !loop.isStopping else {
                    let text = "listening on \(host):\(port): event loop \(loop.name) was stopped"
                    return continuation.resume(throwing: FlockError(.shuttingDown, text))
                }
                AddressLookup.start(host, port: port, on: loop) { result in
                    continuation.resume(
                        with: Result {
                            let addresses = try result.get()
                            guard addresses.allSatisfy(\.isLoopback) || identity.token != nil || insecure else {
                                throw openAddressError(host: host, port: port)
                            }
                            // A name may stand for an IPv4 and an IPv6 address: the first is what most peers try.
                            let address = addresses.first(where: \.isIPv4) ?? addresses[0]
                            return try Listener(
                                at: address, named: "\(host):\(port)", on: loop, identity: identity, limits: limits,
                                log: log, onConnection: onConnection)
                        })
                }
            }
        }
    }

    private static func openAddressError(host: String, port: Int) -> FlockError {
        FlockError(
            .unauthenticated,
            "\(host):\(port) can be reached from other machines, so a token is needed: give a token file with mode "
                + "0600, or listen on 127.0.0.1, or say insecure if anybody may use this node")
    }

    /// Listens on a socket in the file system that only this process's user may connect to. A socket that a process
    /// left behind there is replaced; it goes when the listener is closed.
    /// - Throws: `system` naming the path: another process listens there, or something else is, or it cannot be made.
    public static func bind(
        path: String, on loop: EventLoop, identity: Identity, limits: Limits, log: Logger,
        onConnection: @escaping @Sendable (Connection) -> Void
    ) async throws -> Listener {
        try await withCheckedThrowingContinuation { continuation in
            loop.execute {
                continuation.resume(
                    with: Result {
                        try Listener(
                            at: LocalSocket(listeningAt: path), on: loop, identity: identity, limits: limits, log: log,
                            onConnection: onConnection)
                    })
            }
        }
    }

    private convenience init(
        at address: SocketAddress, named place: String, on loop: EventLoop, identity: Identity, limits: Limits,
        log: Logger, onConnection: @escaping @Sendable (Connection) -> Void
    ) throws(FlockError) {
        let handle = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
        uv_tcp_init(loop.handles.loop, handle)
        let code = address.withAddress { uv_tcp_bind(handle, $0, 0) }
        try self.init(
            uvStream(handle), code, nil, named: place, on: loop, identity: identity, limits: limits, log: log,
            port: { SocketAddress.own(of: handle).port }, onConnection: onConnection)
    }

    private convenience init(
        at socket: LocalSocket, on loop: EventLoop, identity: Identity, limits: Limits, log: Logger,
        onConnection: @escaping @Sendable (Connection) -> Void
    ) throws(FlockError) {
        let handle = UnsafeMutablePointer<uv_pipe_t>.allocate(capacity: 1)
        uv_pipe_init(loop.handles.loop, handle, 0)
        let code = uv_pipe_open(handle, socket.descriptor)
        if code != 0 { socket.close() }
        try self.init(
            uvStream(handle), code, socket, named: socket.path, on: loop, identity: identity, limits: limits, log: log,
            port: { 0 }, onConnection: onConnection)
    }

    /// Takes over a bound handle, which is closed if it cannot be listened on. `code`: how binding went.
    private init(
        _ handle: UnsafeMutablePointer<uv_stream_t>, _ code: Int32, _ localSocket: LocalSocket?, named place: String,
        on loop: EventLoop, identity: Identity, limits: Limits, log: Logger, port: () -> Int,
        onConnection: @escaping @Sendable (Connection) -> Void
    ) throws(FlockError) {
        self.loop = loop
        self.identity = identity
        self.limits = limits
        self.log = log
        self.place = place
        self.localSocket = localSocket
        self.onConnection = onConnection
        var code = code
        if code == 0, !loop.isStopping {
            code = uv_listen(handle, 511) { stream, status in
                Unmanaged<Listener>.fromOpaque(stream!.pointee.data).takeUnretainedValue().accept(status)
            }
        }
        guard code == 0, !loop.isStopping else {
            uv_close(uvHandle(handle)) { handle in UnsafeMutableRawPointer(handle!).deallocate() }
            localSocket?.unlink()
            guard loop.isStopping else {
                throw FlockError(.system, "cannot listen on \(place): \(uvText(code))")
            }
            throw FlockError(.shuttingDown, "listening on \(place): event loop \(loop.name) was stopped")
        }
        self.port = port()
        self.handle = handle
        handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
        loop.residents[ObjectIdentifier(self)] = self
    }

    /// Stops listening and gives up handshakes under way; connections live on. Returns when the port is free.
    public func close() async {
        await withCheckedContinuation { continuation in
            loop.execute { [self] in
                closeWaiters.append(continuation)
                if handle == nil { resumeWaiters() } else { closeHandle() }
            }
        }
    }

    func loopStops() { closeHandle() }

    private func closeHandle() {
        guard let handle, uv_is_closing(uvHandle(handle)) == 0 else { return }
        for (_, stream) in Array(halfOpen.values) {
            stream.close(FlockError(.shuttingDown, "node \(identity.node) stops listening"))
        }
        localSocket?.unlink()
        // A child that is being made has the socket until it runs its program: closing alone would leave it listening.
        if let descriptor { shutdown(descriptor, Int32(SHUT_RDWR)) }
        uv_close(uvHandle(handle)) { handle in
            let listener = Unmanaged<Listener>.fromOpaque(handle!.pointee.data).takeRetainedValue()
            UnsafeMutableRawPointer(handle!).deallocate()
            listener.handle = nil
            listener.loop.residents[ObjectIdentifier(listener)] = nil
            listener.resumeWaiters()
        }
    }

    /// The socket.
    var descriptor: Int32? {
        guard let handle else { return nil }
        var descriptor: uv_os_fd_t = -1
        return uv_fileno(uvHandle(handle), &descriptor) == 0 ? descriptor : nil
    }

    private func resumeWaiters() {
        for waiter in closeWaiters { waiter.resume() }
        closeWaiters = []
    }

    // MARK: Accepting

    private func accept(_ status: Int32) {
        guard status == 0, let handle else {
            note("a connection could not be accepted", uvError(status, "accepting"), from: nil)
            return
        }
        let accepted = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
        uv_tcp_init(loop.handles.loop, accepted)
        let code = uv_accept(handle, uvStream(accepted))
        if code != 0 || connections >= limits.connections {
            turnAway(accepted, isConnected: code == 0)
            return
        }
        if halfOpen.count >= limits.halfOpenConnections { giveUpOldest() }
        let address = localSocket?.path ?? SocketAddress.peer(of: accepted).text
        let stream = FrameStream(loop: loop, limits: limits, handle: accepted)
        let id = ObjectIdentifier(stream)
        connections += 1
        halfOpen[id] = (nextNumber, stream)
        nextNumber += 1
        stream.afterClose = { [self] in
            connections -= 1
            halfOpen[id] = nil
        }
        Handshake(on: stream, side: .listener, identity: identity, address: address) { [self] result in
            halfOpen[id] = nil
            switch result {
            case .success(let connection): onConnection(connection)
            case .failure(let error): note("a connection was refused", error, from: address)
            }
        }
    }

    /// Too many handshakes: the one that has taken longest ends. An honest peer needs a few milliseconds, so that a
    /// flood of connections that never speak does not keep it out.
    private func giveUpOldest() {
        guard let (id, oldest) = halfOpen.min(by: { $0.value.number < $1.value.number }) else { return }
        loop.limitsReached.reached(.halfOpenConnections)
        let error = FlockError(
            .overloaded, "node \(identity.node) has \(halfOpen.count) handshakes, and this was the oldest",
            retryAfter: limits.reconnectMinimum, limit: .halfOpenConnections)
        halfOpen[id] = nil
        _ = oldest.stream.send(.refusal, flags: 0, payload: .empty) { $0.write(Refusal.encoded(error, limits: limits)) }
        oldest.stream.close(error)
    }

    /// Over the cap: one refusal, then the end.
    private func turnAway(_ handle: UnsafeMutablePointer<uv_tcp_t>, isConnected: Bool) {
        let limit: Limit? = isConnected ? .connections : nil
        loop.limitsReached.reached(limit)
        let error = FlockError(
            .overloaded, "node \(identity.node) has \(connections) connections and \(halfOpen.count) handshakes",
            retryAfter: limits.reconnectMaximum, limit: limit)
        if isConnected {
            let frame = Self.frame(.refusal, Refusal.encoded(error, limits: limits))
            frame.withUnsafeBytes { bytes in
                let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress!)
                var buffer = uv_buf_t(base: base.assumingMemoryBound(to: CChar.self), len: bytes.count)
                // What does not fit is lost: the peer sees the end of the connection.
                _ = uv_try_write(uvStream(handle), &buffer, 1)
            }
        }
        uv_close(uvHandle(handle)) { handle in
            UnsafeMutableRawPointer(handle!).assumingMemoryBound(to: uv_tcp_t.self).deallocate()
        }
        note("a connection was turned away", error, from: nil)
    }

    private static func frame(_ type: FrameType, _ body: Bytes) -> Bytes {
        let header = FrameHeader(type: type, length: body.count)
        var writer = ByteWriter(capacity: header.frameSize)
        writer.reserve(FrameHeader.size) { target in
            header.write(to: target)
            return FrameHeader.size
        }
        writer.write(body)
        writer.align(to: 8)
        return writer.finish()
    }

    private func note(_ message: Logger.Message, _ error: FlockError, from address: String?) {
        guard let suppressed = gate.pass(at: EventLoop.now) else { return }
        var metadata: Logger.Metadata = ["error": "\(error)", "at": "\(place)"]
        if let address { metadata["peer"] = "\(address)" }
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        log.notice(message, metadata: metadata)
    }
}

/// Lets ten log lines a second through: strangers can cause more.
struct LogGate {
    private var windowStart = Tick.zero
    private var passed = 0
    private var suppressed = 0

    /// How many lines were suppressed before this one; nil if this one is, too.
    mutating func pass(at now: Tick) -> Int? {
        if now - windowStart >= .seconds(1) {
            windowStart = now
            passed = 0
        }
        guard passed < 10 else {
            suppressed += 1
            return nil
        }
        passed += 1
        defer { suppressed = 0 }
        return suppressed
    }
}
