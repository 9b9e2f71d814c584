// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockTransport
internal import FlockWire
internal import Glibc
internal import Logging
internal import Synchronization

// One conversation with one partition. Callers append to `pending` under a lock that nobody holds for long; the loop
// takes it once a turn, sends it, and resumes callers as outcomes come. Slots are written under the lock before the
// loop can know their sequence, and read by the loop after the outcome: they need no lock of their own.

final class Session: Sendable {
    let token: SessionToken
    let port: any SessionPort
    let outbox: OutboxQueue
    let onEnd: @Sendable () -> Void
    let pending: AdaptiveMutex<PendingRequests>
    let loopState: LoopConfined<LoopState>
    // See the comment above for why this needs no lock.
    nonisolated(unsafe) let slots: UnsafeMutablePointer<UnsafeContinuation<Answer, Never>?>
    let mask: UInt64
    let resumed = Atomic<Bool>(false)
    private let waiters = Atomic<UInt64>(0)
    /// Parts of answers so far; when the last request was handed to another process, 0 once that has answered; and how
    /// long that takes.
    private let answers = Atomic<UInt64>(0)
    private let handedOver = Atomic<UInt64>(0)
    private let patience = Mutex(LoopPatience(longest: LoopPatience.longestBatch))
    /// The stream of outcomes is attached, and the session has not ended.
    let usable = Atomic<Bool>(true)

    /// What only the loop touches.
    struct LoopState {
        var sent = SentRequests()
        /// Sequences that the user has, and of these what the inbox was told.
        var taken = SequenceSet()
        var untold: [SequenceRun] = []
        var untoldItems = 0
        /// Every refused sequence below was given up and cancelled.
        var givenUp: UInt64 = 0
        /// The newest of them: another node may not have heard of it.
        var givenUpRun: SequenceRun?
        /// When its requests were last sent to a node that took the session.
        var attachedAt = Tick.zero
        var isAttached = false
        /// Something was refused for the moment: what follows it waits until it is sent again.
        var isHeldBack = false
        /// The first of it.
        var heldBackFrom = UInt64.max
        /// Ends the stream of outcomes.
        var detach: (@Sendable () -> Void)?
        var expiryTimer: LoopTimer?
        var tellTimer: LoopTimer?
        var lookTimer: LoopTimer?
        var lostSince: Tick?
        var ended = false
        var roundTrip = RoundTrip()
    }

    /// `onEnd` is called once, on the loop, when the session takes no more requests and gives no more outcomes.
    init(
        token: SessionToken, layout: ItemBuffer.Layout, port: any SessionPort, outbox: OutboxQueue,
        onEnd: @escaping @Sendable () -> Void
    ) {
        precondition(token.window > 0 && token.window & (token.window - 1) == 0, "a window of \(token.window)")
        self.token = token
        self.port = port
        self.outbox = outbox
        self.onEnd = onEnd
        // In a cluster room is made when the other copies know what was taken: half of the window is for that.
        let window = port.isRouted ? max(1, token.window / 2) : token.window
        pending = AdaptiveMutex(PendingRequests(window: window, layout: layout))
        loopState = LoopConfined(LoopState(), on: port.loop)
        mask = UInt64(token.window - 1)
        slots = .allocate(capacity: token.window)
        slots.initialize(repeating: nil, count: token.window)
    }

    /// A session that an earlier process opened: its outcomes go to the outbox, and it takes no new requests.
    convenience init(
        resuming token: SessionToken, layout: ItemBuffer.Layout, port: any SessionPort, outbox: OutboxQueue,
        onEnd: @escaping @Sendable () -> Void
    ) {
        self.init(token: token, layout: layout, port: port, outbox: outbox, onEnd: onEnd)
        pending.withLock { $0.ended = FlockError(.shuttingDown, "The session only gives back earlier outcomes.") }
        resumed.store(true, ordering: .relaxed)
        usable.store(false, ordering: .relaxed)
    }

    deinit { slots.deallocate() }

    // MARK: Callers' side, on any thread

    /// The session can take requests now.
    var isUsable: Bool { usable.load(ordering: .relaxed) }

    /// The session takes no more requests.
    var hasEnded: Bool { pending.withLock { $0.ended != nil } && !resumed.load(ordering: .relaxed) }

    /// What became of the attempt to send an ask.
    enum Attempt {
        /// The continuation is resumed with the answer.
        case sent(UInt64)
        /// The caller resumes the continuation itself. For `noRoom`: await `room()` and try again.
        case notSent(Answer)
    }

    /// Appends one ask.
    func ask(
        _ item: EncodedItem, deadline: Duration?, trace: TraceContext?, continuation: UnsafeContinuation<Answer, Never>
    ) -> Attempt {
        var wakes = false
        var isAlone = false
        let attempt = pending.withLock { pending -> Attempt in
            if let ended = pending.ended { return .notSent(.failed(ended)) }
            guard pending.room > 0 else { return .notSent(.noRoom) }
            do {
                let sequence = try pending.ask(item, deadline: deadline, trace: trace)
                slots[Int(sequence & mask)] = continuation
                wakes = pending.arm()
                isAlone = pending.open <= Self.fewRequests
                return .sent(sequence)
            } catch {
                return .notSent(.failed(FlockError.decoding(error)))
            }
        }
        if wakes { arm(isAlone: isAlone) }
        return attempt
    }

    /// Appends as many of the items as the window has room for; returns their sequences (possibly none).
    func post(
        _ items: ItemBuffer, deadline: Duration?, trace: TraceContext?,
        accepted: UnsafeContinuation<FlockError?, Never>? = nil
    ) throws -> SequenceRun? {
        let (run, wake) = try pending.withLock { pending -> (SequenceRun?, Bool) in
            if let ended = pending.ended { throw ended }
            guard pending.room >= items.count else { return (nil, false) }
            let run = pending.post(items, deadline: deadline, trace: trace, accepted: accepted)
            defer { pending.isArmed = true }
            return (run, !pending.isArmed)
        }
        if wake { arm(isAlone: false) }
        return run
    }

    /// Suspends until a good part of the window is free, or the task is cancelled.
    func room(for items: Int) async throws {
        let number = waiters.add(1, ordering: .relaxed).oldValue
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                let goOn = pending.withLock { pending in
                    if pending.ended != nil || pending.room >= items || Task.isCancelled { return true }
                    pending.waiting.append(.init(number: number, caller: continuation))
                    return false
                }
                if goOn { continuation.resume() }
            }
        } onCancel: {
            pending.withLock { $0.stopWaiting(number) }?.resume()
        }
        try Task.checkCancellation()
        if let ended = pending.withLock({ $0.ended }) { throw ended }
    }

    /// With so few open requests this thread sends them itself, if the loop sleeps. With more of them it wakes the
    /// loop, and what comes until that is awake shares a frame.
    private static let fewRequests: UInt64 = 4

    private func arm(isAlone: Bool) {
        guard isAlone else { return port.loop.execute { self.flush() } }
        let before = answers.load(ordering: .relaxed)
        // What this sets going in the node (this process's own, if it has one) runs here as well, if it is short.
        let looks = patience.withLock { $0.looks(at: EventLoop.now.nanoseconds) }
        let outcome = Errands.run(looks: looks) { port.loop.perform { self.flush() } }
        if case .nothing = outcome { return }
        let start = EventLoop.now.nanoseconds
        if answers.load(ordering: .relaxed) == before { handedOver.store(start, ordering: .relaxed) }
        guard case .kept(let lookout) = outcome else { return }
        look(with: lookout, from: start, since: before)
        lookout.end()
    }

    /// Another process computes. Before this thread is given up it takes the answer itself if that comes in a moment,
    /// so that no thread need be woken for it: see `LoopPatience`.
    private func look(with lookout: any Lookout, from start: UInt64, since before: UInt64) {
        var look = Look(from: start, longest: LoopPatience.longestBatch)
        while lookout.look(), answers.load(ordering: .relaxed) == before {
            // To whoever else wants this core.
            sched_yield()
            guard look.goesOn(at: EventLoop.now.nanoseconds) else { return patience.withLock { $0.ended(look) } }
        }
    }

    /// Something was answered.
    func noteAnswer() {
        answers.add(1, ordering: .relaxed)
        let sent = handedOver.exchange(0, ordering: .relaxed)
        if sent > 0 { patience.withLock { $0.waited(EventLoop.now.nanoseconds - sent) } }
    }

    /// The user has these outcomes: they need not be kept any longer.
    func take(_ sequences: SequenceRun) {
        port.loop.execute { self.tell([sequences]) }
    }

    /// The caller of an ask gave up, or a ticket was cancelled.
    func cancel(_ sequence: UInt64) {
        port.loop.execute {
            self.flush()
            let run = SequenceRun(first: sequence, count: 1)
            // The answer may have been faster, and the slot be another request's by now.
            guard self.loopState.with({ !$0.sent.delivered.missing(in: run).isEmpty }) else { return }
            self.port.cancel(CancelMessage(key: self.token.key, sequences: run))
            if let caller = self.takeSlot(sequence) {
                caller.resume(returning: .failed(FlockError(.cancelled, "The caller cancelled the request.")))
            }
        }
    }

    /// The caller of a post does not wait for its acceptance any longer. What was accepted before is his.
    func abandon(_ post: SequenceRun) {
        port.loop.execute {
            self.flush()
            guard let caller = self.loopState.with({ $0.sent.abandon(post) }) else { return }
            self.port.cancel(CancelMessage(key: self.token.key, sequences: post))
            caller.resume(returning: FlockError(.cancelled, "The caller cancelled the post."))
        }
    }

    /// Asks the inbox to cancel a post; its outcome comes in the outbox.
    func cancelPost(_ sequence: UInt64) {
        port.loop.execute {
            self.flush()
            self.port.cancel(
                CancelMessage(key: self.token.key, sequences: SequenceRun(first: sequence, count: 1)))
        }
    }

    /// Tells the inbox what was taken, gives the session back, and fails what is still open.
    func close() async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            port.loop.execute {
                self.tellNow()
                self.end(FlockError(.shuttingDown, "The inbox was closed before there was an outcome."))
                continuation.resume()
            }
        }
        // A node that cannot be told, or cannot agree with others on it, keeps the session until it has been idle for
        // `Limits.sessionIdleTime`.
        try? await FlockSystem.$deadline.withValue(port.limits.acknowledgeTime) { try await port.close(token) }
    }

    /// Nobody holds the inbox any more.
    func abandon() {
        port.loop.execute { self.end(FlockError(.shuttingDown, "The inbox was let go.")) }
    }
}
