// Flockwork · Apache-2.0 · see LICENSE

// Calls of others. Each runs its handler as a task; when that ends, so does the call, after what it sent is out.

internal import CGRPC
public import FlockWire

/// Answers calls, without transport security: over socketpairs, Unix sockets and loopback.
// Unchecked: of the queue's thread, but for the C core's own server.
public final class GRPCServer: QueueResident, @unchecked Sendable {
    /// Answers one call. What it throws becomes the call's status. When the caller goes, its task is cancelled; to
    /// `receive` that looks like the last message.
    public typealias Handler = @Sendable (GRPCStream) async throws -> Void

    /// The next call, on its way.
    private final class Arrival: Operation {
        let server: GRPCServer
        let arrival = flock_grpc_arrival_make()!

        init(_ server: GRPCServer) { self.server = server }

        deinit { flock_grpc_arrival_free(arrival) }

        override func completed(_ isSuccess: Bool) { server.arrived(isSuccess ? self : nil) }
    }

    private final class ShutDown: Operation {
        let server: GRPCServer

        init(_ server: GRPCServer) { self.server = server }

        override func completed(_ isSuccess: Bool) { server.shutDown() }
    }

    /// The TCP port, for an address that has one.
    public let port: Int
    private let server: OpaquePointer
    private let queue: CompletionQueue
    private let handlers: [String: Handler]
    /// Calls that may arrive before the queue's thread looks.
    private static let arrivals = 64
    private var waiting = 0
    private var isStopping = false
    private var isShutDown = false
    private var stopped: [CheckedContinuation<Void, Never>] = []

    /// A server for these methods (`/package.Service/Method`); others are answered with `unimplemented`.
    /// - Throws: `system` when the address cannot be bound.
    /// - Parameter address: As gRPC names it: `127.0.0.1:0`, `unix:/run/x.sock`; nil to serve adopted sockets only.
    public init(
        _ handlers: [String: Handler], at address: String? = nil, on queue: CompletionQueue, limits: Limits
    ) async throws(FlockError) {
        guard let made = flock_grpc_server_make(Int32(clamping: limits.frameBytes)) else {
            preconditionFailure("gRPC makes no server")
        }
        grpc_server_register_completion_queue(made, queue.queue, nil)
        let port = address.map { Int(flock_grpc_server_listen(made, $0)) } ?? 0
        if let address, port == 0 {
            grpc_server_destroy(made)
            throw FlockError(.system, "cannot listen on \(address): is the address in use?")
        }
        server = made
        self.port = port
        self.handlers = handlers
        self.queue = queue
        grpc_server_start(server)
        await withCheckedContinuation { continuation in
            queue.execute { [self] in
                queue.enter(self)
                for _ in 0..<Self.arrivals { request() }
                continuation.resume()
            }
        }
    }

    deinit { grpc_server_destroy(server) }

    /// Serves a connected, non-blocking socket, which it owns from here on.
    public func adopt(descriptor: Int32) { flock_grpc_server_adopt(server, descriptor) }

    /// Cancels what runs and returns when the last call has ended; may be called twice.
    public func stop() async {
        await withCheckedContinuation { continuation in
            queue.execute { [self] in
                if isShutDown { return continuation.resume() }
                stopped.append(continuation)
                queueStops()
            }
        }
    }

    func queueStops() {
        guard !isStopping else { return }
        isStopping = true
        queue.enter(self)
        _ = queue.start(ShutDown(self)) { tag in
            grpc_server_shutdown_and_notify(server, queue.queue, tag)
            return true
        }
        grpc_server_cancel_all_calls(server)
    }

    private func shutDown() {
        isShutDown = true
        for waiter in stopped { waiter.resume() }
        stopped = []
        leaveWhenDone()
    }

    private func leaveWhenDone() {
        if isShutDown && waiting == 0 { queue.leave(self) }
    }

    private func request() {
        let arrival = Arrival(self)
        let isTaken = queue.start(arrival) {
            flock_grpc_request_call(server, arrival.arrival, queue.queue, $0)
        }
        if isTaken { waiting += 1 }
    }

    private func arrived(_ arrival: Arrival?) {
        waiting -= 1
        guard let arrival, let raw = arrival.arrival.pointee.call else { return leaveWhenDone() }
        if !isStopping { request() }
        let slice = arrival.arrival.pointee.details.method
        let method = withUnsafePointer(to: slice) {
            String(
                decoding: UnsafeRawBufferPointer(start: flock_grpc_slice_start($0), count: flock_grpc_slice_count($0)),
                as: UTF8.self)
        }
        let call = ServerCall(raw, on: queue)
        call.open()
        guard let handler = handlers[method] else { return call.finish(.unimplemented) }
        call.task = Task {
            let status: GRPCStatus
            do {
                try await handler(GRPCStream(call: call))
                status = .ok
            } catch {
                status = GRPCStatus(error)
            }
            queue.execute { call.finish(status) }
        }
    }
}

/// A call that another process began.
// Unchecked: as its superclass.
final class ServerCall: GRPCCall, @unchecked Sendable {
    /// Runs the handler.
    var task: Task<Void, Never>?
    private var answer: GRPCStatus?
    private var isFinished = false

    func open() {
        start({ flock_grpc_start_close(call, slots, $0) }) { call, _ in
            let wasCancelled = call.slots.pointee.cancelled != 0
            call.end(wasCancelled ? GRPCStatus(code: 1, message: "the caller is gone") : .ok)
        }
        start { flock_grpc_start_answer(call, $0) }
    }

    func finish(_ status: GRPCStatus) {
        answer = status
        if isDrained { drained() }
    }

    override func drained() {
        guard let answer, !isFinished else { return }
        isFinished = true
        start {
            flock_grpc_start_finish(call, grpc_status_code(rawValue: Int32(clamping: answer.code)), answer.message, $0)
        }
    }

    override func ended() {
        task?.cancel()
        task = nil
    }

    /// A caller that sends no more may still want answers: the end of its messages is no end of the call.
    override var resultAtEnd: Received? { super.resultAtEnd ?? .success(nil) }
}
