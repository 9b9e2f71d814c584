// Flockwork · Apache-2.0 · see LICENSE

// What client and server calls have in common: messages out, one at a time and in order; messages in, one receive under
// way, so that the peer is held back by flow control when nobody reads; and an end that is told once.

internal import CGRPC
internal import DequeModule
internal import FlockWire

/// The state of a call; of its queue's thread.
// Unchecked: every method asserts that it runs on the queue's thread.
class GRPCCall: QueueResident, @unchecked Sendable {
    typealias Received = Result<Bytes?, FlockError>
    typealias Sent = Result<Void, FlockError>

    /// Whether somebody wants to know at once that an operation is done.
    enum Wait { case awaited, notAwaited }

    /// The completion of an operation, as a method of the call.
    private final class Slot: Operation {
        private unowned let call: GRPCCall
        private let body: (GRPCCall, Bool) -> Void
        override var isAwaited: Bool { wait == .awaited }
        private let wait: Wait

        init(_ call: GRPCCall, _ wait: Wait = .awaited, _ body: @escaping (GRPCCall, Bool) -> Void) {
            self.call = call
            self.wait = wait
            self.body = body
        }

        override func completed(_ isSuccess: Bool) {
            let call = call
            body(call, isSuccess)
            call.settled()
        }
    }

    let queue: CompletionQueue
    let call: OpaquePointer
    let slots: UnsafeMutablePointer<flock_grpc_slots>
    private var outbox: Deque<(message: Bytes, done: (Sent) -> Void)> = []
    private var isSending = false
    private var receiver: ((Received) -> Void)?
    private var isReceiving = false
    /// The receiver waits, and gRPC is not asked for a message before there is something to answer.
    private var isIdle = false
    /// Something was sent while there was no receiver: the next one has something to expect.
    private var hasSentUnheard = false
    private var isAtEnd = false
    /// How it ended; nil while it lasts.
    private(set) var ending: GRPCStatus?
    private var pending = 0
    private lazy var sendSlot = Slot(self) { $0.sent($1) }
    private lazy var receiveSlot = Slot(self) { $0.received($1) }

    /// Takes the call.
    init(_ call: OpaquePointer, on queue: CompletionQueue) {
        self.call = call
        self.queue = queue
        slots = flock_grpc_slots_make()
    }

    deinit {
        grpc_call_unref(call)
        flock_grpc_slots_free(slots)
    }

    /// Starts an operation whose end calls `body`; false if gRPC does not take it, since the call is over.
    @discardableResult
    func start(
        _ operation: (UnsafeMutableRawPointer) -> Bool, _ wait: Wait = .awaited,
        then body: @escaping (GRPCCall, Bool) -> Void = { _, _ in }
    ) -> Bool {
        start(Slot(self, wait, body), operation)
    }

    private func start(_ slot: Slot, _ operation: (UnsafeMutableRawPointer) -> Bool) -> Bool {
        assert(queue.isCurrent, "a call of completion queue \(queue.name) touched from another thread")
        guard !queue.isShutDown, queue.start(slot, operation) else { return false }
        // Slots do not hold the call: it stays a resident until its last operation has come back.
        pending += 1
        if pending == 1 { queue.enter(self) }
        return true
    }

    /// A completion was handled.
    private func settled() {
        pending -= 1
        if pending == 0 { queue.leave(self) }
    }

    // MARK: Out

    /// Sends after what was sent before; `done` when the transport has taken it.
    func send(_ message: Bytes, done: @escaping (Sent) -> Void) {
        if let ending { return done(.failure(Self.over(ending))) }
        outbox.append((message, done))
        sendNext()
        listen()
    }

    private func sendNext() {
        guard !isSending, let message = outbox.first?.message else { return }
        let isTaken = start(sendSlot) { tag in
            message.withUnsafeBytes { bytes in
                let owner = Unmanaged.passRetained(message.storage)
                return flock_grpc_start_send(
                    call, slots, bytes.baseAddress, bytes.count, owner.toOpaque(),
                    { Unmanaged<ByteStorage>.fromOpaque($0!).release() }, tag)
            }
        }
        if isTaken { isSending = true } else { failSends() }
    }

    private func sent(_ isSuccess: Bool) {
        flock_grpc_sent(slots)
        isSending = false
        guard isSuccess else { return failSends() }
        outbox.popFirst()?.done(.success(()))
        if outbox.isEmpty { drained() } else { sendNext() }
    }

    /// Nothing waits to be sent any more.
    func drained() {}

    var isDrained: Bool { outbox.isEmpty }

    private func failSends() {
        // Why is known with the status, which is on its way.
        guard let ending else { return }
        while let waiting = outbox.popFirst() { waiting.done(.failure(Self.over(ending))) }
    }

    // MARK: In

    /// The next message; nil after the last one of a call that ended well. One receive at a time. If none is
    /// `expected`, gRPC is asked for it only when something has been sent.
    func receive(expected: Bool = true, _ done: @escaping (Received) -> Void) {
        precondition(receiver == nil, "two receives of one call at a time")
        receiver = done
        isIdle = !expected && !isFinishing && !hasSentUnheard
        hasSentUnheard = false
        if !isIdle { startReceive() } else if isAtEnd || ending != nil { deliverEnd() }
    }

    /// Nothing more will be sent from here.
    var isFinishing: Bool { false }

    /// From here on a message may come.
    func listen() {
        if receiver == nil { hasSentUnheard = true }
        guard isIdle else { return }
        isIdle = false
        startReceive()
    }

    private func startReceive() {
        if isAtEnd || ending != nil { return deliverEnd() }
        guard !isReceiving else { return }
        isReceiving = start(receiveSlot) { flock_grpc_start_receive(call, slots, $0) }
        if !isReceiving {
            isAtEnd = true
            deliverEnd()
        }
    }

    /// Every message from here on; then `done`, with why there are no more. `take` says whether more are expected.
    ///
    /// For a peer that speaks when spoken to: to ask gRPC for a message tells the peer that there is room for it, in a
    /// frame of its own that wakes it for nothing.
    func receiveAll(
        expected: Bool = true, _ take: @escaping (Bytes) throws(FlockError) -> Bool,
        then done: @escaping (Sent) -> Void
    ) {
        receive(expected: expected) { [self] received in
            do throws(FlockError) {
                guard let message = try received.get() else { return done(.success(())) }
                receiveAll(expected: try take(message), take, then: done)
            } catch {
                cancel()
                done(.failure(error))
            }
        }
    }

    private func received(_ isSuccess: Bool) {
        isReceiving = false
        guard isSuccess, slots.pointee.received != nil else {
            isAtEnd = true
            return deliverEnd()
        }
        // An array that ends the message, as those of Python workers do, is aligned to its elements if the end is.
        let count = flock_grpc_received_bytes(slots)
        let shift = (16 - count % 16) % 16
        let storage = ByteStorage(capacity: shift + count)
        storage.withMutableBytes { bytes in
            flock_grpc_take_received(slots, bytes.baseAddress.map { $0 + shift })
        }
        receiver.take()?(.success(Bytes(storage: storage, start: shift, count: count)))
    }

    /// Answers the receive that waits, if what comes after the last message is known.
    func deliverEnd() {
        guard let result = resultAtEnd, let receiver = receiver.take() else { return }
        isIdle = false
        receiver(result)
    }

    /// What a receive gets after the last message; nil while it is not known.
    var resultAtEnd: Received? {
        ending.map { $0.isOK ? .success(nil) : .failure($0.error) }
    }

    // MARK: The end

    func end(_ status: GRPCStatus) {
        guard ending == nil else { return }
        ending = status
        failSends()
        if isAtEnd || !isReceiving { deliverEnd() }
        ended()
    }

    /// The call has ended, with `ending`.
    func ended() {}

    func cancel() { grpc_call_cancel(call, nil) }

    func queueStops() { cancel() }

    private static func over(_ status: GRPCStatus) -> FlockError {
        status.isOK ? FlockError(.unavailable, "the call has ended") : status.error
    }
}
