// Flockwork · Apache-2.0 · see LICENSE

internal import CGRPC
public import FlockWire

/// A connection to a gRPC server, without transport security. gRPC connects, and connects again, by itself.
// Unchecked: the C core's channels may be used from any thread.
public final class GRPCChannel: @unchecked Sendable {
    private let channel: OpaquePointer
    private let queue: CompletionQueue

    /// A channel to an address as gRPC names it: `127.0.0.1:50051`, `unix:/run/x.sock`. Nothing is connected yet.
    public init(to target: String, on queue: CompletionQueue, limits: Limits) {
        self.queue = queue
        channel = flock_grpc_connect(target, Int32(clamping: limits.frameBytes))
    }

    /// A channel over a connected socket, which it owns from here on.
    /// - Parameter descriptor: Must be non-blocking: gRPC hangs on a blocking one.
    public init(overDescriptor descriptor: Int32, on queue: CompletionQueue, limits: Limits) {
        self.queue = queue
        channel = flock_grpc_connect_descriptor(descriptor, Int32(clamping: limits.frameBytes))
    }

    deinit { grpc_channel_destroy(channel) }

    /// Begins a call that streams both ways.
    /// - Parameters:
    ///   - method: `/package.Service/Method`.
    ///   - timeout: Time for the whole call; nil for none.
    /// - Throws: `shuttingDown` when the queue has stopped.
    public func stream(_ method: String, timeout: Duration? = nil) async throws(FlockError) -> GRPCClientStream {
        let opened: Result<GRPCClientStream, FlockError> = await withCheckedContinuation { continuation in
            queue.execute { [self] in
                guard !queue.isShutDown else {
                    let error = FlockError(.shuttingDown, "completion queue \(queue.name) has stopped")
                    return continuation.resume(returning: .failure(error))
                }
                let nanoseconds = timeout.map { Int64(clamping: $0.clampedNanoseconds) } ?? -1
                guard let raw = flock_grpc_call_make(channel, queue.queue, method, nanoseconds) else {
                    preconditionFailure("gRPC makes no call for \(method)")
                }
                let call = ClientCall(raw, on: queue)
                call.open()
                continuation.resume(returning: .success(GRPCClientStream(call: call)))
            }
        }
        return try opened.get()
    }

    /// One message there, one back.
    /// - Throws: `unavailable`, `deadlineExceeded`, `notFound` and others as the server's status says; `callFailed` for
    /// a   server that answers without a message.
    public func unary(_ method: String, _ request: Bytes, timeout: Duration? = nil) async throws(FlockError) -> Bytes {
        let stream = try await stream(method, timeout: timeout)
        try await stream.both.send(request)
        stream.finishSending()
        guard let answer = try await stream.both.receive() else {
            throw FlockError(.callFailed, "\(method) was answered without a message")
        }
        // The status comes after the message, and may still say that the call failed.
        guard try await stream.both.receive() == nil else {
            stream.both.cancel()
            throw FlockError(.callFailed, "\(method) was answered with several messages")
        }
        return answer
    }
}

/// A call from the side that began it.
public struct GRPCClientStream: Sendable {
    let call: ClientCall

    /// Messages both ways.
    public var both: GRPCStream { GRPCStream(call: call) }

    /// Says that no more messages come, after those that wait.
    public func finishSending() {
        let call = call
        call.queue.execute { call.finishSending() }
    }
}

/// A call that this process began.
// Unchecked: as its superclass.
final class ClientCall: GRPCCall, @unchecked Sendable {
    private var hasFinished = false
    private var isClosed = false

    override var isFinishing: Bool { hasFinished }

    func open() {
        let hasStatus = start({ flock_grpc_start_status(call, slots, $0) }, .notAwaited) { call, _ in
            let slots = call.slots
            let text = String(
                decoding: UnsafeRawBufferPointer(
                    start: flock_grpc_slice_start(&slots.pointee.details),
                    count: flock_grpc_slice_count(&slots.pointee.details)), as: UTF8.self)
            call.end(GRPCStatus(code: Int(slots.pointee.status.rawValue), message: text))
        }
        precondition(hasStatus, "gRPC takes no new call")
        start { flock_grpc_start_call(call, slots, $0) }
        if queue.isStopping { cancel() }
    }

    func finishSending() {
        hasFinished = true
        if isDrained { drained() }
        listen()
    }

    override func drained() {
        guard isFinishing, !isClosed else { return }
        isClosed = true
        start { flock_grpc_start_half_close(call, $0) }
    }
}
