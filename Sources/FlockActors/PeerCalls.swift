// Flockwork · Apache-2.0 · see LICENSE

// Calls to a peer. Each has a slot in the table until its answer, its deadline, its cancellation or the loss of the
// peer takes it out: whoever takes it out resumes the caller, hence exactly once.

internal import FlockTransport
public import FlockWire

/// Who waits for an answer.
enum CallWaiter {
    case direct(@Sendable (DirectReply) -> Void, hasOwnDeadline: Bool)
    case ordinary(OutgoingCall)

    /// The caller set it, and not `Limits.callTime`.
    var hasOwnDeadline: Bool {
        switch self {
        case .direct(_, let hasOwnDeadline): hasOwnDeadline
        case .ordinary(let call): call.deadline != nil
        }
    }

    func fail(_ error: FlockError) {
        switch self {
        case .direct(let onReply, _): onReply(.failed(error))
        case .ordinary(let call): call.resume(throwing: error)
        }
    }
}

extension Peer {
    /// On the loop: calls `method` of the actor at `address`, which must be at this peer.
    ///
    /// `build` writes the arguments straight into the connection's buffer; `payload` follows it, at a multiple of 8.
    /// `onReply` runs on the loop, never before this returns: any number of `part`, then exactly once `done` or
    /// `failed` (the receiver's error; `unavailable`, `deadlineExceeded`, `cancelled`, `notFound`, `overloaded` or
    /// `tooLarge` of this end). `deadline`: nil for `Limits.callTime`, which the receiver does not hear of.
    @discardableResult
    public func call(
        _ method: DirectMethod, on address: ActorAddress, deadline: Duration?, payload: Bytes? = nil,
        build: (inout ByteWriter) -> Void = { _ in }, onReply: @escaping @Sendable (DirectReply) -> Void
    ) -> CallNumber {
        assert(loop.isCurrent, "a direct call off the loop")
        let due = EventLoop.now + (deadline ?? limits.callTime)
        guard let number = calls.insert(.direct(onReply, hasOwnDeadline: deadline != nil), deadline: due) else {
            loop.limitsReached.reached(.pendingCalls)
            loop.execute { onReply(.failed(self.tooManyCalls)) }
            return CallNumber(rawValue: .max)
        }
        let header = header(method.number, number, address, CallHeader.raw, deadline)
        if let error = send(header, payload: payload, build) {
            _ = calls.remove(number)
            loop.execute { onReply(.failed(error)) }
        } else {
            watch(due)
        }
        return number
    }

    /// On the loop: calls without an answer; nobody hears when it fails.
    public func send(
        _ method: DirectMethod, on address: ActorAddress, payload: Bytes? = nil,
        build: (inout ByteWriter) -> Void = { _ in }
    ) {
        assert(loop.isCurrent, "a one-way call off the loop")
        _ = send(header(method.number, nil, address, CallHeader.raw, nil), payload: payload, build)
    }

    /// On the loop: gives a call up. Its receiver is told, its `onReply` gets `failed(cancelled)` unless it ended.
    public func cancel(_ number: CallNumber) {
        assert(loop.isCurrent, "a cancel off the loop")
        guard let waiter = calls.remove(number) else { return }
        sendCancel(number)
        loop.execute { waiter.fail(FlockError(.cancelled, "the call was cancelled")) }
    }

    // MARK: Ordinary calls

    /// Sends an ordinary call, or holds it until the connection takes more.
    func start(_ call: OutgoingCall) {
        guard isOpen else { return call.resume(throwing: lostError()) }
        let due = EventLoop.now + (call.deadline ?? limits.callTime)
        guard let number = calls.insert(.ordinary(call), deadline: due) else {
            loop.limitsReached.reached(.pendingCalls)
            return call.resume(throwing: tooManyCalls)
        }
        call.number = number
        watch(due)
        if isWritable && held.isEmpty { send(call, number) } else { held.append(number) }
    }

    func sendHeld() {
        guard !held.isEmpty else { return }
        var sent = 0
        while sent < held.count, isWritable {
            // It may have been cancelled or have expired meanwhile.
            if case .ordinary(let call)? = calls[held[sent]] { send(call, held[sent]) }
            sent += 1
        }
        held.removeFirst(sent)
    }

    private func send(_ call: OutgoingCall, _ number: CallNumber) {
        let header = header(call.method, number, call.address, call.argumentCount, call.deadline)
        guard let error = send(header, payload: call.arguments, { _ in }) else { return }
        calls.remove(number)?.fail(error)
    }

    // MARK: Frames

    private func header(
        _ method: UInt32, _ number: CallNumber?, _ address: ActorAddress, _ argumentCount: UInt16,
        _ deadline: Duration?
    ) -> CallHeader {
        CallHeader(
            number: number?.rawValue ?? 0, actor: address.key, method: remoteNumbers[Int(method)],
            argumentCount: argumentCount, flags: number == nil ? CallHeader.oneWay : 0,
            deadline: deadline.map { max($0.clampedNanoseconds, 1) } ?? 0)
    }

    /// Returns why nothing was sent.
    private func send(
        _ header: CallHeader, payload: Bytes?, _ build: (inout ByteWriter) -> Void
    ) -> FlockError? {
        guard isOpen else { return lostError() }
        guard header.method != Self.noNumber else {
            return FlockError(.notFound, "\(identity.node) has no such method for this caller", node: identity.node)
        }
        let isSent: Bool
        if let payload {
            isSent = connection.send(
                .call,
                { writer in
                    header.write(to: &writer)
                    build(&writer)
                    writer.align(to: 8)
                }, payload: payload)
        } else {
            isSent = connection.send(.call) { writer in
                header.write(to: &writer)
                build(&writer)
            }
        }
        if isSent { return nil }
        return isOpen
            ? FlockError(
                .tooLarge, "the call does not fit a frame of \(limits.frameBytes) bytes. Send less a call.",
                limit: .frameBytes)
            : lostError()
    }

    private func sendCancel(_ number: CallNumber) {
        connection.send(.cancel) { $0.write(number.rawValue) }
    }

    func receiveReply(_ body: Bytes) throws(WireError) {
        let header = try ReplyHeader(from: body)
        let number = CallNumber(rawValue: header.number)
        let payload = ReplyHeader.payload(of: body)
        if header.kind == .part {
            switch calls[number] {
            case .direct(let onReply, _): onReply(.part(payload))
            case .ordinary: throw .malformed("a partial answer to an ordinary call")
            case nil: break
            }
            return
        }
        // Nobody waits any more: it was cancelled, or its deadline passed.
        guard calls[number] != nil else { return }
        if header.kind == .failed {
            var reader = ByteReader(payload)
            let error = try FlockError(from: &reader, limits: limits)
            calls.remove(number)?.fail(error)
            return
        }
        switch calls.remove(number) {
        case .direct(let onReply, _): onReply(.done(payload))
        case .ordinary(let call): call.resume(returning: payload)
        case nil: break
        }
    }

    private var tooManyCalls: FlockError {
        FlockError(
            .overloaded, "\(limits.pendingCalls) calls to \(identity.node) wait for an answer", node: identity.node,
            retryAfter: limits.retryAfter, limit: .pendingCalls)
    }

    // MARK: Deadlines

    // One timer for all calls, at the earliest deadline that was ever seen since it was set. Answered calls do not move
    // it: when it fires it looks the table through, which a default deadline of 30 s makes rare.

    private func watch(_ due: Tick) {
        guard due < timerDeadline else { return }
        deadlineTimer?.cancel()
        setTimer(due, after: due - EventLoop.now)
    }

    private func setTimer(_ due: Tick, after delay: Duration) {
        timerDeadline = due
        deadlineTimer = loop.schedule(after: delay) { [weak self] in self?.deadlinePassed() }
    }

    private func deadlinePassed() {
        deadlineTimer = nil
        timerDeadline = .never
        let now = EventLoop.now
        let (due, next) = calls.expired(at: now)
        if next != .never {
            // A large table is not looked through for each of many close deadlines.
            let pause = max(next - now, .microseconds(100 + calls.capacity))
            setTimer(next, after: pause)
        }
        for (number, waiter) in due {
            sendCancel(number)
            let limit = waiter.hasOwnDeadline ? nil : Limit.callTime
            loop.limitsReached.reached(limit)
            waiter.fail(
                FlockError(
                    .deadlineExceeded, "no answer from \(identity.node) in time", node: identity.node, limit: limit))
        }
    }
}
