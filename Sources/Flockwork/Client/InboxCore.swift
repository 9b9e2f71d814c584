// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// The untyped middle of an inbox handle: which session takes a request, and what happens when one ends.

final class InboxCore: Sendable {
    let pipeline: String
    let outbox = OutboxQueue()
    private let fingerprint: UInt64
    private let layout: ItemBuffer.Layout
    private let window: Int
    private let priority: RequestPriority
    private let ports: @Sendable () -> [any SessionPort]
    /// Nil where sessions stay with their nodes.
    private let routes: @Sendable () -> SessionRoutes?
    private let state = Mutex(State())
    private let turn = Atomic<Int>(0)
    /// The newest of `State.lists`, for callers of many threads: choosing a session takes no lock.
    private let current = Atomic<UInt>(0)

    private struct State {
        var sessions: [Session] = []
        var isClosed = false
        /// Sessions are being opened; whoever wants one waits for the same task.
        var opening: Task<Void, any Error>?
        /// Every list that `current` ever pointed to: a caller may still be reading an older one.
        var lists: [SessionList] = []
    }

    /// Read by every caller of every thread, so without a count of references that all of them would write: what is
    /// in a list lives as long as the core does.
    private final class SessionList: Sendable {
        private let owned: [Session]
        let count: Int
        // Written once, by `init`.
        nonisolated(unsafe) let sessions: UnsafePointer<Unmanaged<Session>>

        init(_ sessions: [Session]) {
            owned = sessions
            count = sessions.count
            let memory = UnsafeMutablePointer<Unmanaged<Session>>.allocate(capacity: max(sessions.count, 1))
            for (index, session) in sessions.enumerated() {
                (memory + index).initialize(to: Unmanaged.passUnretained(session))
            }
            self.sessions = UnsafePointer(memory)
        }

        deinit { sessions.deallocate() }
    }

    private func publish(_ state: inout State) {
        let list = SessionList(state.sessions)
        state.lists.append(list)
        current.store(UInt(bitPattern: Unmanaged.passUnretained(list).toOpaque()), ordering: .releasing)
    }

    init(
        pipeline: String, fingerprint: UInt64, layout: ItemBuffer.Layout, window: Int,
        priority: RequestPriority = .normal,
        ports: @escaping @Sendable () -> [any SessionPort],
        routes: @escaping @Sendable () -> SessionRoutes? = { nil }
    ) {
        self.pipeline = pipeline
        self.fingerprint = fingerprint
        self.layout = layout
        self.window = window
        self.priority = priority
        self.ports = ports
        self.routes = routes
    }

    deinit {
        // Sessions and their streams hold each other until they are ended.
        let sessions = state.withLock { $0.sessions }
        for session in sessions { session.abandon() }
    }

    var tokens: [SessionToken] { state.withLock { $0.sessions.map(\.token) } }

    /// Opens a session with every node that can be reached. Throws if there is none.
    func open() async throws {
        let end = EventLoop.now + (routes()?.connectTime ?? .zero)
        while true {
            do {
                return try await openMissing()
            } catch let error as FlockError where error.code == .unavailable && EventLoop.now < end {
                // A cluster that forms, or gives its partitions to others: soon somebody leads one.
                routes()?.refresh(nil)
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    private func openMissing() async throws {
        var failure = FlockError(.unavailable, "No node that runs the pipeline \(pipeline) can be reached.")
        var refusing: Set<NodeID> = []
        for port in missingPorts() where !refusing.contains(port.node) {
            do {
                try await openSession(through: port)
            } catch let error as FlockError {
                failure = error
                refusing.insert(port.node)
            }
        }
        guard state.withLock({ !$0.sessions.isEmpty }) else { throw failure }
    }

    /// Ports to nodes that have no session yet, or fewer than there should be. A session goes with its partition, so
    /// one node may come to have many and another one none; but there are never more than twice as many as wanted.
    private func missingPorts() -> [any SessionPort] {
        var missing = ports()
        let sessions = state.withLock { $0.sessions }.filter { !$0.hasEnded }
        let most = max(0, 2 * missing.count - sessions.count)
        for session in sessions {
            if let index = missing.firstIndex(where: { $0.node == session.port.node }) { missing.remove(at: index) }
        }
        return Array(missing.prefix(most))
    }

    /// Opens what is missing; callers that come at the same time share one attempt.
    private func reopen() async throws {
        let task = state.withLock { state in
            if let task = state.opening { return task }
            if state.sessions.contains(where: \.hasEnded) {
                state.sessions.removeAll { $0.hasEnded }
                publish(&state)
            }
            let task = Task {
                defer { self.state.withLock { $0.opening = nil } }
                try await self.open()
            }
            state.opening = task
            return task
        }
        try await task.value
    }

    /// A node that led nothing when it came may lead something now, and gets its sessions.
    func complete() {
        if !missingPorts().isEmpty { refresh() }
    }

    /// A newer view is known: other nodes may lead the sessions' partitions.
    func viewChanged() {
        for session in state.withLock({ $0.sessions }) { session.port.loop.execute { session.follow() } }
    }

    /// A session ended, or a node came (back): it is used again by what comes next.
    func refresh() {
        guard state.withLock({ !$0.isClosed && !$0.sessions.isEmpty }) else { return }
        Task {
            // A node that cannot be reached now is tried again when it is connected, or when a caller needs it.
            try? await reopen()
        }
    }

    private func openSession(through port: any SessionPort) async throws {
        let request = OpenRequest(
            pipeline: pipeline, fingerprint: fingerprint, window: window, priority: priority)
        let token = try await port.open(request)
        let way: any SessionPort =
            routes().map { RoutedPort(token.partition, openedAt: port, routes: $0) } ?? port
        let session = Session(token: token, layout: layout, port: way, outbox: outbox) { [weak self] in
            self?.refresh()
        }
        let isClosed = state.withLock { state in
            if !state.isClosed {
                state.sessions.append(session)
                publish(&state)
            }
            return state.isClosed
        }
        if isClosed { throw FlockError(.shuttingDown, "The inbox was closed.") }
        port.loop.execute { session.attach() }
    }

    /// Reads the outcomes of sessions that an earlier process opened.
    func resume(_ tokens: [SessionToken]) throws {
        let ports = ports()
        for token in tokens {
            guard token.window > 0, token.window & (token.window - 1) == 0 else {
                throw FlockError(.invalidInput, "The token of \(token) is damaged: a window is a power of two.")
            }
            let way: (any SessionPort)? =
                if let routes = routes() {
                    ports.first.map { RoutedPort(token.partition, openedAt: $0, routes: routes) }
                } else { ports.first { $0.node == token.node } }
            guard let port = way else {
                throw FlockError(.unavailable, "The node \(token.node) of the session cannot be reached.")
            }
            outbox.expectSource()
            let session = Session(resuming: token, layout: layout, port: port, outbox: outbox) { [outbox] in
                outbox.sourceEnded()
            }
            state.withLock { state in
                state.sessions.append(session)
                publish(&state)
            }
            port.loop.execute { session.attach() }
        }
    }

    /// A session to use next: each in turn, those that cannot be used left out. It lives as long as the core does.
    private func session() async throws -> Unmanaged<Session> {
        if let session = usableSession() { return session }
        if state.withLock({ $0.isClosed }) { throw FlockError(.shuttingDown, "The inbox was closed.") }
        try await reopen()
        guard let session = usableSession() ?? state.withLock({ $0.sessions.last.map(Unmanaged.passUnretained) }) else {
            throw FlockError(.unavailable, "No node that runs the pipeline \(pipeline) can be reached.")
        }
        return session
    }

    private func usableSession() -> Unmanaged<Session>? {
        guard let pointer = UnsafeRawPointer(bitPattern: current.load(ordering: .acquiring)) else { return nil }
        return Unmanaged<SessionList>.fromOpaque(pointer)._withUnsafeGuaranteedRef { list in
            let count = list.count
            let start = count == 1 ? 0 : turn.add(1, ordering: .relaxed).oldValue
            for offset in 0..<count {
                let session = list.sessions[Int(UInt(bitPattern: start &+ offset) % UInt(count))]
                if session._withUnsafeGuaranteedRef({ $0.isUsable }) { return session }
            }
            return nil
        }
    }

    func ask(_ item: EncodedItem, deadline: Duration?, trace: TraceContext?) async throws -> Answer {
        while true {
            let session =
                if let usable = usableSession() { usable } else { try await session() }
            let answer = await Self.ask(item, deadline: deadline, trace: trace, in: session)
            guard case .noRoom = answer else { return answer }
            // The window is full: this is the back-pressure of the client's own requests.
            try await session.takeUnretainedValue().room(for: 1)
        }
    }

    /// One attempt. Cancelling the task cancels the request.
    private static func ask(
        _ item: EncodedItem, deadline: Duration?, trace: TraceContext?, in session: Unmanaged<Session>
    ) async -> Answer {
        // In the task's own memory, for an object would have to be made for every request.
        let place = Atomic<UInt64>(AskPlace.unsent)
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                session._withUnsafeGuaranteedRef { session in
                    guard place.load(ordering: .relaxed) == AskPlace.unsent else {
                        return continuation.resume(returning: .failed(AskPlace.cancelledError))
                    }
                    switch session.ask(item, deadline: deadline, trace: trace, continuation: continuation) {
                    case .sent(let sequence):
                        let (isFirst, _) = place.compareExchange(
                            expected: AskPlace.unsent, desired: sequence, ordering: .acquiringAndReleasing)
                        // Cancelled in between: whoever did it could not know the sequence yet.
                        if !isFirst { session.cancel(sequence) }
                    case .notSent(let answer): continuation.resume(returning: answer)
                    }
                }
            }
        } onCancel: {
            let earlier = place.exchange(AskPlace.cancelled, ordering: .acquiringAndReleasing)
            if earlier < AskPlace.cancelled { session._withUnsafeGuaranteedRef { $0.cancel(earlier) } }
        }
    }

    func post(_ items: ItemBuffer, deadline: Duration?, waits: Bool) async throws -> Tickets {
        try Task.checkCancellation()
        var tickets = Tickets()
        var rest = items
        let trace = TraceContext.current
        while rest.count > 0 {
            let session = try await session().takeUnretainedValue()
            let count = min(rest.count, max(1, session.token.window / 4))
            let part = rest.slice(from: 0, count: count)
            let run: SequenceRun?
            do {
                run = try await post(part, deadline: deadline, trace: trace, waits: waits, to: session)
            } catch let error as FlockError where error.code == .overloaded && !tickets.isEmpty {
                // Part of the post is accepted and must not be lost to the caller, so the rest waits for its turn.
                try await Task.sleep(for: error.retryAfter ?? .milliseconds(5))
                continue
            }
            guard let run else {
                try await session.room(for: count)
                continue
            }
            tickets.append(
                RequestRun(partition: session.token.partition, session: session.token.session, sequences: run))
            rest = rest.slice(from: count, count: rest.count - count)
        }
        return tickets
    }

    private func post(
        _ items: ItemBuffer, deadline: Duration?, trace: TraceContext?, waits: Bool, to session: Session
    ) async throws -> SequenceRun? {
        guard waits else { return try session.post(items, deadline: deadline, trace: trace) }
        var run: SequenceRun?
        var thrown: (any Error)?
        let place = PostPlace()
        let refusal = await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<FlockError?, Never>) in
                do {
                    run = try session.post(items, deadline: deadline, trace: trace, accepted: continuation)
                    if let run {
                        if place.isCancelled(sent: run) { session.abandon(run) }
                    } else {
                        continuation.resume(returning: nil)
                    }
                } catch {
                    thrown = error
                    continuation.resume(returning: nil)
                }
            }
        } onCancel: {
            if let run = place.cancel() { session.abandon(run) }
        }
        if let thrown { throw thrown }
        if let refusal { throw refusal }
        return run
    }

    func cancel(_ ticket: Ticket) throws {
        let session = state.withLock { state in
            state.sessions.first { $0.token.partition == ticket.id.partition && $0.token.session == ticket.id.session }
        }
        guard let session else { throw FlockError(.notFound, "The ticket \(ticket) is of no session of this inbox.") }
        session.cancelPost(ticket.id.sequence)
    }

    func close() async {
        let sessions = state.withLock { state in
            state.isClosed = true
            defer {
                state.sessions = []
                publish(&state)
            }
            return state.sessions
        }
        await withTaskGroup(of: Void.self) { group in
            for session in sessions { group.addTask { await session.close() } }
        }
        outbox.finish()
    }
}

/// Where an `ask` is: the sequence, or one of these.
private enum AskPlace {
    static let unsent = UInt64.max
    static let cancelled = UInt64.max - 1
    static let cancelledError = FlockError(.cancelled, "The caller cancelled the request.")
}

/// Where a `post` is whose caller waits: its sequences, once they are known, and whether the caller has left.
private final class PostPlace: Sendable {
    private let state = Mutex<(sent: SequenceRun?, isCancelled: Bool)>((nil, false))

    /// Whether the caller has left before it was known what to cancel.
    func isCancelled(sent run: SequenceRun) -> Bool {
        state.withLock { state in
            state.sent = run
            return state.isCancelled
        }
    }

    /// What to cancel, if it is known.
    func cancel() -> SequenceRun? {
        state.withLock { state in
            state.isCancelled = true
            return state.sent
        }
    }
}
