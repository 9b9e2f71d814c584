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

    func scheduleExpiry() {
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
