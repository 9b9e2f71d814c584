// Flockwork · Apache-2.0 · see LICENSE

// A call on the receiver's side: what its answers are written through. Exactly one of `finish` and `fail` ends it; what
// comes after the end, or after the peer was lost, goes nowhere.

internal import FlockTransport
public import FlockWire

/// A call that a peer made. Everything is used on the loop.
public final class DirectCall: Sendable {
    public let peer: Peer
    /// What the caller wrote: its built part, then its payload. The first byte's address is divisible by 8.
    ///
    /// A slice of the connection's read buffer while the body runs: take `Bytes.unpinned()` of what is kept for long.
    public var arguments: Bytes { storedArguments }
    /// The time that the caller still gave when it sent the call, if it set a deadline.
    public let deadline: Duration?
    let number: UInt64
    // Of the loop, all that follow.
    nonisolated(unsafe) private var storedArguments: Bytes
    nonisolated(unsafe) private(set) var isEnded = false
    /// The caller cancelled, passed its deadline, or was lost.
    nonisolated(unsafe) public private(set) var isCancelled = false
    nonisolated(unsafe) private var cancelHandlers: [@Sendable () -> Void] = []
    /// It is in the peer's table of running calls.
    nonisolated(unsafe) private(set) var isListed = false

    init(peer: Peer, number: UInt64, arguments: Bytes, deadline: Duration?) {
        self.peer = peer
        self.number = number
        storedArguments = arguments
        self.deadline = deadline
    }

    /// False for a one-way call: answers go nowhere.
    public var wantsReply: Bool { number != 0 }

    /// The call goes on after its frame's callback: many of them must not keep as many read buffers.
    func list() {
        isListed = true
        storedArguments = storedArguments.unpinned()
    }

    /// Hands the arguments to a task, which alone keeps them.
    func takeArguments() -> Bytes {
        defer { storedArguments = .empty }
        return storedArguments.unpinned()
    }

    /// Sends one part of the answer; more follows. `payload` begins at a multiple of 8 behind what `build` wrote.
    ///
    /// A long answer asks `peer.isWritable` between its parts: a peer that does not read is closed at
    /// `Limits.writeMaximumBytes`.
    public func part(payload: Bytes? = nil, _ build: (inout ByteWriter) -> Void = { _ in }) {
        assert(peer.loop.isCurrent, "an answer off the loop")
        guard !isEnded, !isCancelled else { return }
        send(.part, payload: payload, build)
    }

    /// Ends the call with its last or only payload.
    public func finish(payload: Bytes? = nil, _ build: (inout ByteWriter) -> Void = { _ in }) {
        guard end() else { return }
        send(.done, payload: payload, build)
    }

    /// Ends the call with an error.
    public func fail(_ error: FlockError) {
        guard end() else { return }
        sendFailure(error)
    }

    /// Runs when the caller cancels, passes its deadline or is lost before the end; at once if it did already.
    public func onCancel(_ handler: @escaping @Sendable () -> Void) {
        assert(peer.loop.isCurrent, "a cancel handler off the loop")
        if isCancelled { return handler() }
        if !isEnded { cancelHandlers.append(handler) }
    }

    func cancel() {
        guard !isEnded, !isCancelled else { return }
        isCancelled = true
        let handlers = cancelHandlers
        cancelHandlers = []
        for handler in handlers { handler() }
    }

    /// False when there is nothing to send: it ended before, or nobody waits any more.
    private func end() -> Bool {
        assert(peer.loop.isCurrent, "an answer off the loop")
        guard !isEnded else { return false }
        isEnded = true
        cancelHandlers = []
        if isListed {
            isListed = false
            peer.finished(self)
        }
        return wantsReply && !isCancelled
    }

    private func send(_ kind: ReplyHeader.Kind, payload: Bytes?, _ build: (inout ByteWriter) -> Void) {
        guard wantsReply else { return }
        let isSent: Bool
        if let payload {
            isSent = peer.connection.send(
                .reply,
                { writer in
                    ReplyHeader(number: number, kind: kind).write(to: &writer)
                    build(&writer)
                    writer.align(to: 8)
                }, payload: payload)
        } else {
            isSent = peer.connection.send(.reply) { writer in
                ReplyHeader(number: number, kind: kind).write(to: &writer)
                build(&writer)
            }
        }
        // A frame over the limit is not sent; the caller must hear of it.
        guard !isSent, peer.isOpen else { return }
        if kind == .part { fail(Self.tooLarge) } else { sendFailure(Self.tooLarge) }
    }

    private func sendFailure(_ error: FlockError) {
        peer.connection.send(.reply) { writer in
            replace(from: writer.count, in: &writer, with: error)
        }
    }

    private static let tooLarge = FlockError(
        .tooLarge, "the result does not fit a frame. Ask for less a call.", limit: .frameBytes)

    private func replace(from start: Int, in writer: inout ByteWriter, with error: FlockError) {
        writer.truncate(to: start)
        ReplyHeader(number: number, kind: .failed).write(to: &writer)
        var error = error
        error.node = error.node ?? peer.localNode
        error.write(to: &writer, limits: peer.limits)
    }
}

extension DirectCall {
    /// Ends an ordinary call with an encoded value: straight into the connection's buffer if this is its loop.
    func reply<Success: Encodable>(with value: Success) {
        guard peer.loop.isCurrent else {
            var writer = ByteWriter()
            do {
                try WireCoder.encode(value, into: &writer, limits: peer.limits)
                replyFromAnywhere(.success(writer.finish()))
            } catch {
                replyFromAnywhere(.failure(FlockError(reportedFor: error)))
            }
            return
        }
        guard end() else { return }
        let isSent = peer.connection.send(.reply) { writer in
            let start = writer.count
            ReplyHeader(number: number, kind: .done).write(to: &writer)
            do {
                try WireCoder.encode(value, into: &writer, limits: peer.limits)
            } catch {
                replace(from: start, in: &writer, with: FlockError(reportedFor: error))
            }
        }
        if !isSent, peer.isOpen { sendFailure(Self.tooLarge) }
    }

    /// Ends an ordinary call, from any thread.
    func replyFromAnywhere(_ result: Result<Bytes, FlockError>) {
        let body: @Sendable () -> Void = {
            switch result {
            case .success(let payload): self.finish(payload: payload)
            case .failure(let error): self.fail(error)
            }
        }
        if peer.loop.isCurrent { body() } else { peer.loop.execute(body) }
    }
}
