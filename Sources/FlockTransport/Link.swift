// Flockwork · Apache-2.0 · see LICENSE

// A connection that is wanted for as long as the link is started: made again whenever it is lost.

public import FlockWire
public import Logging
internal import Synchronization

/// Keeps one outgoing connection up: reconnects for ever, with capped exponential back-off and jitter.
// Unchecked: what is mutable is of the loop's thread only; `start` and `stop` go there.
public final class Link: @unchecked Sendable {
    private let loop: EventLoop
    private let target: DialTarget
    private let log: Logger
    private let onUp: @Sendable (Connection) -> Void
    private let onDown: @Sendable (FlockError) -> Void
    private let failure = Mutex<FlockError?>(nil)

    private var isStarted = false
    private var attempt: DialAttempt?
    private var connection: Connection?
    private var timer: LoopTimer?
    private static let shortestPause = Duration.milliseconds(10)
    /// Not even who is in a hurry tries again before.
    private var notBefore = Tick.zero
    private var backoff: Backoff
    private var random = SystemRandomNumberGenerator()

    /// Not started yet. Both handlers are called on the loop: `onUp` with a connection whose handlers it should set,
    /// `onDown` once for each `onUp`, after the connection's own `onClose`.
    public init(
        host: String, port: Int, on loop: EventLoop, identity: Identity, limits: Limits, expecting: NodeID? = nil,
        log: Logger, onUp: @escaping @Sendable (Connection) -> Void,
        onDown: @escaping @Sendable (FlockError) -> Void = { _ in }
    ) {
        self.loop = loop
        var target = DialTarget(host: host, port: port, identity: identity, limits: limits, expecting: expecting)
        // Nobody waits for this attempt, and what the kernel sends again comes ever more seldom.
        target.limits.connectTime = min(limits.connectTime, limits.reconnectMaximum)
        self.target = target
        self.log = log
        self.onUp = onUp
        self.onDown = onDown
        backoff = Backoff(minimum: limits.reconnectMinimum, maximum: limits.reconnectMaximum)
    }

    /// Why there is no connection; nil while there is one, and before the first attempt ended. From any thread.
    public var lastError: FlockError? { failure.withLock { $0 } }

    /// Connects, and again whenever the connection is lost. From any thread.
    public func start() {
        loop.execute { [self] in
            guard !isStarted else { return }
            isStarted = true
            dial()
        }
    }

    /// Somebody needs the connection now, and has reason to think that the other side is there: a pause between
    /// attempts ends, but one that the other side asked for. From any thread.
    public func hurry() {
        loop.execute { [self] in
            guard timer != nil, notBefore <= EventLoop.now else { return }
            timer?.cancel()
            dial()
        }
    }

    /// Ends at once: no attempt goes on, the connection is closed, for that reason. From any thread.
    public func stop(_ reason: FlockError? = nil) {
        let reason =
            reason ?? FlockError(.shuttingDown, "the link to \(target.host):\(target.port) was stopped")
        loop.execute { [self] in
            isStarted = false
            timer?.cancel()
            timer = nil
            attempt?.cancel()
            connection?.close(reason)
        }
    }

    private func dial() {
        timer = nil
        guard isStarted, attempt == nil, connection == nil, !loop.isStopping else { return }
        let since = EventLoop.now
        attempt = DialAttempt(target, on: loop) { [self] result in
            attempt = nil
            switch result {
            case .failure(let error): failed(error, after: EventLoop.now - since)
            case .success(let made): up(made)
            }
        }
    }

    private func up(_ made: Connection) {
        let since = EventLoop.now
        connection = made
        failure.withLock { $0 = nil }
        made.stream.afterClose = { [self] in
            let error = made.stream.reason ?? FlockError(.unavailable, "the connection was lost")
            connection = nil
            backoff.lost(after: EventLoop.now - since)
            onDown(error)
            failed(error)
        }
        if isStarted { onUp(made) } else { made.close(FlockError(.shuttingDown, "the link was stopped")) }
    }

    /// `time` was spent on the attempt already: a host that is cut off is called as often as one that refuses.
    private func failed(_ error: FlockError, after time: Duration = .zero) {
        let before = failure.withLock { failure in
            defer { failure = error }
            return failure
        }
        guard isStarted, !loop.isStopping else { return }
        // One line per kind of failure, not per attempt.
        if before?.code != error.code {
            log.notice(
                "a link is down and will be tried again",
                metadata: ["peer": "\(target.host):\(target.port)", "error": "\(error)"])
        }
        notBefore = EventLoop.now + max(error.retryAfter ?? .zero, Self.shortestPause)
        let pause = max(backoff.next(random: random.next()) - time, error.retryAfter ?? .zero, .zero)
        timer = loop.schedule(after: min(pause, target.limits.reconnectMaximum)) { [weak self] in self?.dial() }
    }
}
