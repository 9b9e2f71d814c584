// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The loop's side of a session: a connection that is lost and comes back, requests whose time is over, and the end.

extension Session {
    func detached(_ error: FlockError) {
        guard loopState.with({ $0.isAttached && !$0.ended }) else { return }
        loopState.with { $0.isAttached = false }
        usable.store(false, ordering: .relaxed)
        if error.code == .unavailable || (port.isRouted && error.code == .moved) {
            if error.code == .moved, let node = error.node { port.moved(to: node) }
            noteLoss()
            port.onConnected { self.reattach() }
        } else {
            end(error)
        }
    }

    /// A newer view is known. Where it gives the partition to another node the session goes there: the one that had it
    /// may be cut off, and say nothing more.
    func follow() {
        guard port.isElsewhere, loopState.with({ $0.isAttached && !$0.ended }) else { return }
        let detach = loopState.with { $0.detach.take() }
        detached(FlockError(.moved, "Another node leads \(token.partition)."))
        detach?()
    }

    private static let lookInterval = Duration.milliseconds(100)

    /// While something is awaited the session looks whether its node is there, and still is the right one.
    func scheduleLook() {
        guard port.isRouted, loopState.with({ $0.lookTimer == nil && !$0.ended }) else { return }
        let timer = port.loop.schedule(after: Self.lookInterval) {
            let isAwaiting = self.loopState.with { state in
                state.lookTimer = nil
                return !state.sent.runs.isEmpty
            }
            guard isAwaiting else { return }
            if self.loopState.with({ $0.isAttached }) {
                self.port.lookAfter()
                self.follow()
            }
            self.scheduleLook()
        }
        loopState.with { $0.lookTimer = timer }
    }

    /// From now on nobody is known to take what the session has; too long, and it ends.
    private func noteLoss() {
        let now = EventLoop.now
        loopState.with { $0.lostSince = $0.lostSince ?? now }
        scheduleExpiry()
    }

    /// Whether a refusal says nothing about the request: another node, or this one in a moment, takes it.
    func isPassing(_ error: FlockError, from first: UInt64) -> Bool {
        guard port.isRouted else { return false }
        switch error.code {
        case .moved, .unavailable: return true
        // An earlier run of the session was refused so, and comes first; or what was taken is told and not replicated
        // yet, since this end never has more open than the window; or the beginning of a post is accepted, and its
        // caller must not hear that it was not.
        case .overloaded:
            return error.limit == nil || error.limit == .sessionWindow
                || loopState.with { $0.sent.isWithinPost(first) }
        case .suspended: return loopState.with { $0.sent.isWithinPost(first) }
        default: return false
        }
    }

    /// What was refused is sent again soon, in order, and nothing before it. Nor what came before: an inbox that is
    /// overloaded has taken that, and sent a second time it would only keep it so.
    func sendAgain(from first: UInt64, after error: FlockError) {
        let isTakenBefore = error.code == .overloaded || error.code == .suspended
        noteLoss()
        if error.code == .moved, let node = error.node {
            port.moved(to: node)
            // At once: what is known may have changed back before the next look, and nobody have been sent anything.
            if port.isElsewhere { return follow() }
        }
        let isFirst = loopState.with { state in
            defer { state.isHeldBack = true }
            state.heldBackFrom = min(state.heldBackFrom, isTakenBefore ? first : 0)
            return !state.isHeldBack
        }
        guard isFirst else { return }
        let pause = max(error.retryAfter ?? port.limits.retryAfter, .milliseconds(1))
        _ = port.loop.schedule(after: pause) {
            let from = self.loopState.with { state -> UInt64? in
                state.isHeldBack = false
                state.attachedAt = EventLoop.now
                defer { state.heldBackFrom = .max }
                return state.isAttached && !state.ended ? state.heldBackFrom : nil
            }
            // Not attached any more: what is found next gets all of it.
            if let from { self.sendUnanswered(from: from) }
        }
    }

    /// The node is back: everything without an outcome is sent again, under the same ids.
    private func reattach() {
        guard loopState.with({ !$0.isAttached && !$0.ended }) else { return }
        if !port.isRouted { loopState.with { $0.lostSince = nil } }
        loopState.with { state in
            state.isHeldBack = false
            state.heldBackFrom = .max
            state.attachedAt = EventLoop.now
        }
        attach()
        guard loopState.with({ $0.isAttached }) else { return }
        sendUnanswered(from: 0)
    }

    /// Also when nothing is open: what was told over the lost connection may never have arrived.
    private func sendUnanswered(from first: UInt64) {
        if port.isRouted, let run = loopState.with({ $0.givenUpRun }) {
            port.cancel(CancelMessage(key: token.key, sequences: run))
        }
        send(loopState.with { $0.sent.unanswered(from: first) })
    }

    func scheduleExpiry() {
        guard loopState.with({ $0.expiryTimer == nil && !$0.ended }) else { return }
        let timer = port.loop.schedule(after: .milliseconds(10)) { self.expire() }
        loopState.with { $0.expiryTimer = timer }
    }

    private static let settlingTime = Duration.seconds(1)

    private func expire() {
        let now = EventLoop.now
        let patience = port.isRouted ? port.limits.recoveryTime : port.limits.connectTime
        let (expired, again, isLost) = loopState.with { state -> ([SequenceRun], Bool, Bool) in
            state.expiryTimer = nil
            // Nobody said no for a while: the session has found its place, though there may be nothing to say.
            let isSettled = state.isAttached && !state.isHeldBack && now - state.attachedAt > Self.settlingTime
            if port.isRouted && isSettled { state.lostSince = nil }
            let isLost = state.lostSince.map { now - $0 > patience } ?? false
            return (
                state.sent.expired(at: now), state.sent.nextExpiry != .never || state.lostSince != nil, isLost
            )
        }
        if !expired.isEmpty {
            fail(expired, with: FlockError(.deadlineExceeded, "No outcome before the deadline; it is unknown."))
        }
        if isLost {
            let limit = port.isRouted ? Limit.recoveryTime : .connectTime
            port.loop.limitsReached.reached(limit)
            end(
                FlockError(
                    .unavailable, "The node \(port.node) cannot be reached; outcomes of open requests are unknown.",
                    limit: limit))
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
            state.lookTimer?.cancel()
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
