// Flockwork · Apache-2.0 · see LICENSE

// Outgoing connections: look up, connect, handshake, each under its time limit, with one outcome.

internal import CLibuv
public import FlockWire
internal import Glibc
internal import Synchronization

/// Makes outgoing connections.
public enum Dialer {
    /// Connects and authenticates; one attempt, no retry.
    ///
    /// Frames wait until the connection's `onFrame` is set (on its loop).
    /// - Parameter expecting: The node that must answer; nil for any.
    /// - Throws: `unavailable` when nothing answers, `incompatibleNode`, `unauthenticated`, `overloaded` as the peer
    ///   refuses, `deadlineExceeded`, `cancelled` when the task is, `shuttingDown` when the loop is.
    public static func connect(
        host: String, port: Int, on loop: EventLoop, identity: Identity, limits: Limits, expecting: NodeID? = nil
    ) async throws -> Connection {
        let attempt = Mutex<DialAttempt?>(nil)
        let isCancelled = Atomic(false)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                loop.execute {
                    let target = DialTarget(
                        host: host, port: port, identity: identity, limits: limits, expecting: expecting)
                    let made = DialAttempt(target, on: loop) { continuation.resume(with: $0) }
                    attempt.withLock { $0 = made }
                    if isCancelled.load(ordering: .acquiring) { made.cancel() }
                }
            }
        } onCancel: {
            isCancelled.store(true, ordering: .releasing)
            if let made = attempt.withLock({ $0 }) { loop.execute { made.cancel() } }
        }
    }
}

extension Dialer {
    /// Connects to a socket in the file system; one attempt.
    ///
    /// - Throws: `unavailable` where nobody listens, `unauthenticated` where this user may not connect, else as above.
    public static func connect(
        path: String, on loop: EventLoop, identity: Identity, limits: Limits
    ) async throws -> Connection {
        try await withCheckedThrowingContinuation { continuation in
            loop.execute {
                let target = DialTarget(host: path, port: 0, identity: identity, limits: limits, isLocal: true)
                _ = DialAttempt(target, on: loop) { continuation.resume(with: $0) }
            }
        }
    }
}

/// Whom to call, and as whom.
struct DialTarget: Sendable {
    /// A path where `isLocal`.
    var host: String
    var port: Int
    var identity: Identity
    var limits: Limits
    var expecting: NodeID?
    /// A socket in the file system.
    var isLocal = false
}

/// One attempt to connect.
// Unchecked: of the loop's thread only, but `cancel` is sent there from others.
final class DialAttempt: LoopResident, @unchecked Sendable {
    private let loop: EventLoop
    private let target: DialTarget
    private var completion: ((Result<Connection, FlockError>) -> Void)?
    private var timer: LoopTimer?
    private var handle: UnsafeMutablePointer<uv_tcp_t>?
    private var stream: FrameStream?
    private var addresses: [SocketAddress] = []

    /// Starts, on the loop; `completion` is called there, once, never from inside this call.
    init(_ target: DialTarget, on loop: EventLoop, completion: @escaping (Result<Connection, FlockError>) -> Void) {
        assert(loop.isCurrent, "dialling outside of event loop \(loop.name)")
        self.loop = loop
        self.target = target
        self.completion = completion
        loop.residents[ObjectIdentifier(self)] = self
        loop.ownWork.append(.call { [self] in start() })
    }

    func cancel() { end(.failure(FlockError(.cancelled, "connecting to \(place) was cancelled"))) }

    func loopStops() {
        end(.failure(FlockError(.shuttingDown, "connecting to \(place): event loop \(loop.name) was stopped")))
    }

    private var place: String { target.isLocal ? target.host : "\(target.host):\(target.port)" }

    private func start() {
        guard completion != nil else { return }
        guard !loop.isStopping else { return loopStops() }
        if target.isLocal { return connectLocally() }
        timer = loop.schedule(after: target.limits.connectTime) { [weak self] in self?.timedOut() }
        AddressLookup.start(target.host, port: target.port, on: loop) { [self] result in
            guard completion != nil else { return }
            switch result {
            case .failure(let error): end(.failure(error))
            case .success(let found):
                addresses = found.reversed()
                connectNext(after: nil)
            }
        }
    }

    private func timedOut() {
        loop.limitsReached.reached(.connectTime)
        let text = "\(place) did not answer within \(target.limits.connectTime)"
        end(.failure(FlockError(.unavailable, text, limit: .connectTime)))
    }

    /// Tries the next of the host's addresses.
    private func connectNext(after error: FlockError?) {
        guard let address = addresses.popLast() else {
            end(.failure(error ?? FlockError(.unavailable, "\(place) has no address")))
            return
        }
        let handle = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
        let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
        uv_tcp_init(loop.handles.loop, handle)
        self.handle = handle
        request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let code = address.withAddress { address in
            uv_tcp_connect(request, handle, address) { request, status in
                let attempt = Unmanaged<DialAttempt>.fromOpaque(request!.pointee.data).takeRetainedValue()
                request!.deallocate()
                attempt.connected(status)
            }
        }
        if code != 0 {
            Unmanaged.passUnretained(self).release()
            request.deallocate()
            connected(code)
        }
    }

    /// Connecting to a process of this machine takes no time that would be worth waiting for elsewhere.
    private func connectLocally() {
        do {
            let descriptor = try LocalSocket.connect(to: target.host)
            let handle = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
            uv_tcp_init(loop.handles.loop, handle)
            // To libuv a stream socket is one like another, once it is open.
            let code = uv_tcp_open(handle, descriptor)
            if code != 0 { close(descriptor) }
            self.handle = handle
            connected(code)
        } catch {
            end(.failure(error))
        }
    }

    private func connected(_ status: Int32) {
        guard completion != nil, let handle else { return }
        self.handle = nil
        guard status == 0 else {
            Self.discard(handle)
            connectNext(after: FlockError(.unavailable, "\(place) cannot be reached: \(uvText(status))"))
            return
        }
        timer?.cancel()
        let address = target.isLocal ? place : SocketAddress.peer(of: handle).text
        let stream = FrameStream(loop: loop, limits: target.limits, handle: handle)
        self.stream = stream
        Handshake(
            on: stream, side: .dialer(expecting: target.expecting), identity: target.identity, address: address
        ) { [self] result in end(result) }
    }

    private func end(_ result: Result<Connection, FlockError>) {
        guard let completion = completion.take() else { return }
        loop.residents[ObjectIdentifier(self)] = nil
        timer?.cancel()
        timer = nil
        // An open handle whose connect request is pending: its callback comes with UV_ECANCELED.
        if let handle { Self.discard(handle) }
        handle = nil
        if case .failure(let error) = result { stream?.close(error) }
        stream = nil
        completion(result)
    }

    private static func discard(_ handle: UnsafeMutablePointer<uv_tcp_t>) {
        uv_close(uvHandle(handle)) { handle in
            UnsafeMutableRawPointer(handle!).assumingMemoryBound(to: uv_tcp_t.self).deallocate()
        }
    }
}
