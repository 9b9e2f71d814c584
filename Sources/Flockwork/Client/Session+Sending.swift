// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The loop's side of a session: what callers have handed over becomes frames.

extension Session {
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
            if let last = runs.last { state.roundTrip.sent(last.first, at: now) }
            for run in runs {
                state.sent.append(run, expires: run.deadline.map { now + $0 + Self.grace } ?? .never)
            }
            return state.isAttached && !state.isHeldBack
        }
        if isAttached { send(runs) }
        if runs.contains(where: { $0.deadline != nil }) { scheduleExpiry() }
        scheduleLook()
    }

    /// An answer that was sent in time may arrive a little later than the deadline.
    private static let grace = Duration.milliseconds(50)
    /// Item bytes of a submit frame, about.
    private static let frameBytes = 1 << 20

    func send(_ runs: [OutgoingRun]) {
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
    func nextMessage() -> SubmitMessage {
        loopState.with { state in
            defer {
                state.untold = []
                state.untoldItems = 0
            }
            return SubmitMessage(key: token.key, taken: state.untold, lowestOpen: state.taken.base)
        }
    }
}
