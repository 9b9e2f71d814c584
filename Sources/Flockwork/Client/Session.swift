// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Logging
internal import Synchronization

// One conversation with one partition. Callers append to `pending` under a lock that nobody holds for long; the loop
// takes it once a turn, sends it, and resumes callers as outcomes come. Slots are written under the lock before the
// loop can know their sequence, and read by the loop after the outcome: they need no lock of their own.

final class Session: Sendable {
    let token: SessionToken
    private let port: any SessionPort
    private let outbox: OutboxQueue
    private let onEnd: @Sendable () -> Void
    private let pending: AdaptiveMutex<PendingRequests>
    private let loopState: LoopConfined<LoopState>
    // See the comment above for why this needs no lock.
    private nonisolated(unsafe) let slots: UnsafeMutablePointer<UnsafeContinuation<Answer, Never>?>
    private let mask: UInt64
    private let resumed = Atomic<Bool>(false)
    private let waiters = Atomic<UInt64>(0)
    /// The stream of outcomes is attached, and the session has not ended.
    private let usable = Atomic<Bool>(true)

    /// What only the loop touches.
    struct LoopState {
        var sent = SentRequests()
        /// Sequences that the user has, and of these what the inbox was told.
        var taken = SequenceSet()
        var untold: [SequenceRun] = []
        var untoldItems = 0
        /// Every refused sequence below was given up and cancelled.
        var givenUp: UInt64 = 0
        var isAttached = false
        /// Ends the stream of outcomes.
        var detach: (@Sendable () -> Void)?
        var expiryTimer: LoopTimer?
        var tellTimer: LoopTimer?
        var lostSince: Tick?
        var ended = false
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
        pending = AdaptiveMutex(PendingRequests(window: token.window, layout: layout))
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

    /// Appends one ask.
    ///
    /// Returns nil where the window is full: await `room()` and try again.
    func ask(
        _ item: EncodedItem, deadline: Duration?, trace: TraceContext?, continuation: UnsafeContinuation<Answer, Never>
    ) throws -> UInt64? {
        let (sequence, wake) = try pending.withLock { pending -> (UInt64?, Bool) in
            if let ended = pending.ended { throw ended }
            guard pending.room > 0 else { return (nil, false) }
            let sequence = try pending.ask(item, deadline: deadline, trace: trace)
            slots[Int(sequence & mask)] = continuation
            defer { pending.isArmed = true }
            return (sequence, !pending.isArmed)
        }
        if wake { arm() }
        return sequence
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
        if wake { arm() }
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

    private func arm() {
        port.loop.execute { self.flush() }
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
        // A node that cannot be told keeps the session until it has been idle for `Limits.sessionIdleTime`.
        try? await port.close(token)
    }

    /// Nobody holds the inbox any more.
    func abandon() {
        port.loop.execute { self.end(FlockError(.shuttingDown, "The inbox was let go.")) }
    }

    // MARK: Loop's side

    /// Begins to stream outcomes. Call once, on the loop.
    ///
    /// The stream holds the session until `end`: a weak reference would make every retain of it a slow one.
    func attach() {
        loopState.with { $0.isAttached = true }
        if !resumed.load(ordering: .relaxed) { usable.store(true, ordering: .relaxed) }
        let detach = port.attach(
            token, onPart: { part in self.received(part) }, onEnd: { error in self.detached(error) })
        loopState.with { $0.detach = detach }
    }

    /// Sends what callers have handed over.
    func flush() {
        let runs = pending.withLock { $0.take() }
        guard !runs.isEmpty else { return }
        let now = EventLoop.now
        let isAttached = loopState.with { state in
            for run in runs {
                state.sent.append(run, expires: run.deadline.map { now + $0 + Self.grace } ?? .never)
            }
            return state.isAttached
        }
        if isAttached { send(runs) }
        if runs.contains(where: { $0.deadline != nil }) { scheduleExpiry() }
    }

    /// An answer that was sent in time may arrive a little later than the deadline.
    private static let grace = Duration.milliseconds(50)
    /// Item bytes of a submit frame, about.
    private static let frameBytes = 1 << 20

    private func send(_ runs: [OutgoingRun]) {
        var message = nextMessage()
        var bytes = 0
        for run in runs {
            var rest = run.items
            var first = run.first
            repeat {
                if bytes >= Self.frameBytes || message.runs.count >= port.limits.runsPerFrame / 2 {
                    port.submit(message)
                    message = nextMessage()
                    bytes = 0
                }
                let perItem = max(1, rest.byteCount / max(rest.count, 1))
                let fitting = max(1, (Self.frameBytes - bytes) / perItem)
                let count = min(rest.count, fitting, port.limits.itemsPerRun)
                message.runs.append(
                    SubmittedRun(
                        first: first, items: rest.slice(from: 0, count: count), deadline: run.deadline,
                        trace: run.trace, notify: !run.acceptances.isEmpty))
                bytes += count * perItem
                rest = rest.slice(from: count, count: rest.count - count)
                first += UInt64(count)
            } while rest.count > 0
        }
        port.submit(message)
    }

    /// A message that tells what was taken since the last one.
    private func nextMessage() -> SubmitMessage {
        loopState.with { state in
            defer {
                state.untold = []
                state.untoldItems = 0
            }
            return SubmitMessage(key: token.key, taken: state.untold, lowestOpen: state.taken.base)
        }
    }

    private func received(_ part: StreamPart) {
        var answered: [SequenceRun] = []
        var posted: [OutcomeRun] = []
        for outcome in part.outcomes {
            if resumed.load(ordering: .relaxed) {
                for fresh in loopState.with({ $0.taken.missing(in: outcome.sequences) }) {
                    let offset = Int(fresh.first - outcome.sequences.first)
                    posted.append(
                        OutcomeRun(sequences: fresh, outcome: outcome.outcome.slice(from: offset, count: fresh.count)))
                }
                continue
            }
            for (run, kind) in loopState.with({ $0.sent.deliver(outcome) }) {
                switch kind {
                case .asks:
                    answer(run)
                    answered.append(run.sequences)
                case .posts: posted.append(run)
                }
            }
        }
        let accepted = loopState.with { state in
            let accepted = state.sent.takeAccepted(through: part.accepted ?? 0)
            state.sent.trim()
            return accepted
        }
        for caller in accepted { caller.resume(returning: nil) }
        if !posted.isEmpty { outbox.put(posted, from: self) }
        if !answered.isEmpty { tell(answered) }
        if let refused = part.refused { refuse(from: refused.from, refused.error) }
    }

    private func answer(_ run: OutcomeRun) {
        let first = run.sequences.first
        switch run.outcome {
        case .values(let items, let filtered):
            let answered = AnsweredRun(items)
            for index in 0..<run.sequences.count {
                let isFiltered = filtered?[index] == true
                takeSlot(first + UInt64(index))?.resume(
                    returning: isFiltered ? .filtered : .value(answered, index: index))
            }
        case .filtered:
            for index in 0..<run.sequences.count { takeSlot(first + UInt64(index))?.resume(returning: .filtered) }
        case .failed(let error):
            let failed = Answer.failed(error)
            for index in 0..<run.sequences.count { takeSlot(first + UInt64(index))?.resume(returning: failed) }
        }
    }

    private func takeSlot(_ sequence: UInt64) -> UnsafeContinuation<Answer, Never>? {
        let slot = Int(sequence & mask)
        defer { slots[slot] = nil }
        return slots[slot]
    }

    /// Notes what was taken; tells the inbox with the next submit, at the latest soon.
    private func tell(_ sequences: [SequenceRun]) {
        let (base, isMuch, isQuiet) = loopState.with { state -> (UInt64, Bool, Bool) in
            for run in sequences {
                for fresh in state.taken.insert(run) {
                    if let last = state.untold.last, last.end == fresh.first {
                        state.untold[state.untold.count - 1].count += fresh.count
                    } else {
                        state.untold.append(fresh)
                    }
                    state.untoldItems += fresh.count
                }
            }
            let isMuch = state.untoldItems >= token.window / 8 || state.untold.count >= port.limits.runsPerFrame / 2
            return (state.taken.base, isMuch, state.tellTimer == nil && state.untoldItems > 0)
        }
        let woken = pending.withLock { pending in
            pending.base = max(pending.base, base)
            return pending.wakeable()
        }
        for caller in woken { caller.resume() }
        if isMuch {
            tellNow()
        } else if isQuiet {
            let timer = port.loop.schedule(after: .milliseconds(20)) {
                self.loopState.with { $0.tellTimer = nil }
                self.tellNow()
            }
            loopState.with { $0.tellTimer = timer }
        }
    }

    private func tellNow() {
        guard loopState.with({ $0.isAttached && $0.untoldItems > 0 }) else { return }
        port.submit(nextMessage())
    }

    /// The inbox took nothing from `first` on. Callers hear it, and the sequences are given up.
    private func refuse(from first: UInt64, _ error: FlockError) {
        // A refusal of what was given up already, on its way when that was told: it says nothing of later requests.
        guard loopState.with({ first >= $0.givenUp }) else { return }
        let open = loopState.with { $0.sent.open(from: first) }
        guard let last = open.last else { return }
        loopState.with { $0.givenUp = last.end }
        fail(open, with: error)
        port.cancel(
            CancelMessage(
                key: token.key, sequences: SequenceRun(first: first, count: Int(last.end - first))))
    }

    /// Ends open requests on the client's side.
    private func fail(_ runs: [SequenceRun], with error: FlockError) {
        for run in runs {
            let waiting = loopState.with { $0.sent.takeAcceptances(in: run) }
            let parts = loopState.with { $0.sent.deliver(OutcomeRun(sequences: run, outcome: .failed(error))) }
            for (part, kind) in parts {
                switch kind {
                case .asks:
                    answer(part)
                    tell([part.sequences])
                case .posts:
                    // A post that still waits for acceptance throws; any other one hears it in the outbox.
                    let thrown = SequenceSet(of: waiting.map(\.requests))
                    let heard = thrown.missing(in: part.sequences)
                    outbox.put(heard.map { OutcomeRun(sequences: $0, outcome: part.outcome) }, from: self)
                    tell(SequenceSet(of: heard).missing(in: part.sequences))
                }
            }
            for acceptance in waiting { acceptance.caller.resume(returning: error) }
        }
        loopState.with { $0.sent.trim() }
    }

    // MARK: Loss and end

    private func detached(_ error: FlockError) {
        guard loopState.with({ $0.isAttached && !$0.ended }) else { return }
        loopState.with { $0.isAttached = false }
        usable.store(false, ordering: .relaxed)
        if error.code == .unavailable {
            let now = EventLoop.now
            loopState.with { $0.lostSince = $0.lostSince ?? now }
            port.onConnected { self.reattach() }
            scheduleExpiry()
        } else {
            end(error)
        }
    }

    /// The node is back: everything without an outcome is sent again, under the same ids.
    private func reattach() {
        guard loopState.with({ !$0.isAttached && !$0.ended }) else { return }
        loopState.with { $0.lostSince = nil }
        attach()
        // Also when nothing is open: what was told over the lost connection may never have arrived.
        send(loopState.with { $0.sent.unanswered() })
    }

    private func scheduleExpiry() {
        guard loopState.with({ $0.expiryTimer == nil && !$0.ended }) else { return }
        let timer = port.loop.schedule(after: .milliseconds(10)) { self.expire() }
        loopState.with { $0.expiryTimer = timer }
    }

    private func expire() {
        let now = EventLoop.now
        let (expired, again, isLost) = loopState.with { state -> ([SequenceRun], Bool, Bool) in
            state.expiryTimer = nil
            let isLost = state.lostSince.map { now - $0 > port.limits.connectTime } ?? false
            return (
                state.sent.expired(at: now), state.sent.nextExpiry != .never || state.lostSince != nil, isLost
            )
        }
        if !expired.isEmpty {
            fail(expired, with: FlockError(.deadlineExceeded, "No outcome before the deadline; it is unknown."))
        }
        if isLost {
            end(
                FlockError(
                    .unavailable, "The node \(token.node) cannot be reached; outcomes of open requests are unknown."))
        } else if again {
            scheduleExpiry()
        }
    }

    /// Fails everything that is open, and everything that comes. On the loop.
    func end(_ error: FlockError) {
        guard loopState.with({ !$0.ended }) else { return }
        usable.store(false, ordering: .relaxed)
        let pending = pending.withLock { pending -> (runs: [OutgoingRun], woken: [UnsafeContinuation<Void, Never>]) in
            pending.ended = error
            return (pending.take(), pending.wakeable())
        }
        let open = loopState.with { state in
            state.ended = true
            state.expiryTimer?.cancel()
            state.tellTimer?.cancel()
            for run in pending.runs { state.sent.append(run, expires: .never) }
            return state.sent.open(from: 0)
        }
        fail(open, with: error)
        for caller in pending.woken { caller.resume() }
        let detach = loopState.with { state in
            state.isAttached = false
            return state.detach.take()
        }
        detach?()
        onEnd()
    }
}
