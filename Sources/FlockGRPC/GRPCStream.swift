// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// Messages to and from the other side of a call, in order. From any task; an actor on the call's queue does not hop.
public struct GRPCStream: Sendable {
    let call: GRPCCall

    /// Sends a message (not copied); returns when the transport has taken it, which is the back-pressure.
    /// - Throws: how the call ended, if it has.
    public func send(_ message: Bytes) async throws(FlockError) {
        let call = call
        let sent = await withCheckedContinuation { continuation in
            call.queue.execute { call.send(message) { continuation.resume(returning: $0) } }
        }
        try sent.get()
    }

    /// The next message, in storage of its own; nil when the other side is done and all is well. One at a time.
    /// - Throws: how the call ended, if it failed; `cancelled` when the task is.
    public func receive() async throws(FlockError) -> Bytes? {
        let call = call
        let received = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                call.queue.execute { call.receive { continuation.resume(returning: $0) } }
            }
        } onCancel: {
            cancel()
        }
        return try received.get()
    }

    /// Has `take` called with each message, in order, on the queue's thread and without a change of task; returns after
    /// the last one. `take` says whether more messages are expected before something is sent: those that come all the
    /// same are taken after that; so does `expected` of the first. What it throws ends the call.
    /// - Throws: that; how the call ended, if it failed; `cancelled` when the task is.
    package func receiveAll(
        expected: Bool = true, _ take: @escaping @Sendable (Bytes) throws(FlockError) -> Bool
    ) async throws(FlockError) {
        let call = call
        let ended = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                call.queue.execute {
                    call.receiveAll(expected: expected, take) { continuation.resume(returning: $0) }
                }
            }
        } onCancel: {
            cancel()
        }
        try ended.get()
    }

    /// Ends the call; both sides see it as cancelled. From any thread, any number of times.
    public func cancel() { call.cancel() }
}

extension GRPCStream {
    /// Sends after what was sent before, without waiting for the transport. For a caller with a window of its own, on
    /// the queue's thread; elsewhere the order of two calls is not certain.
    public func push(_ message: Bytes) {
        let call = call
        call.queue.execute { call.send(message) { _ in } }
    }
}
