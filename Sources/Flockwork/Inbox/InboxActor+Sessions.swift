// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// The clients' side of the inbox: frames become events of a partition, and its directives what a stream brings.

extension InboxActor {
    func openSession(_ request: OpenRequest) async throws -> SessionToken {
        guard !isDraining else {
            throw FlockError(.shuttingDown, "The node takes no new sessions.", node: actorSystem.node)
        }
        guard let index = pipelines.firstIndex(where: { $0.definition.name == request.pipeline }) else {
            throw FlockError(
                .notFound,
                "The node runs no pipeline \"\(request.pipeline)\"; it runs "
                    + pipelines.map(\.definition.name).sorted().joined(separator: ", ") + ".", node: actorSystem.node)
        }
        let definition = pipelines[index].definition
        let form = definition.form.map { (text: "\($0)", fingerprint: $0.fingerprint(of: definition.name)) }
        guard definition.fingerprint == request.fingerprint || form?.fingerprint == request.fingerprint else {
            throw FlockError(
                .incompatibleNode,
                "The node runs another version of the pipeline \"\(request.pipeline)\""
                    + (form.map { "; it is \($0.text)." } ?? "."), node: actorSystem.node)
        }
        let kind = SessionKind(pipeline: index, priority: request.priority)
        let secret = SessionSecret(.random(in: .min ... .max), .random(in: .min ... .max))
        let window = Self.window(request.window, limits: limits)
        let (partition, session) =
            isClustered
            ? try await openInCluster(kind, secret: secret, window: window)
            : try await open(kind, secret: secret, window: window)
        return SessionToken(
            node: actorSystem.node, partition: partition, session: session, pipeline: request.pipeline,
            fingerprint: request.fingerprint, secretHigh: secret.high, secretLow: secret.low, window: window)
    }

    private func open(
        _ kind: SessionKind, secret: SessionSecret, window: Int
    ) async throws -> (PartitionID, SessionID) {
        guard !owned.isEmpty else {
            throw FlockError(.unavailable, "The node owns no partition.", node: actorSystem.node)
        }
        let partition = owned[nextOwned % owned.count]
        nextOwned += 1
        let reply = takeNumber()
        let session = try await withUnsafeThrowingContinuation {
            (continuation: UnsafeContinuation<SessionID, any Error>) in
            opening[reply] = continuation
            step(partition, .open(pipeline: kind.number, secret: secret, window: window, reply: reply))
        }
        return (partition, session)
    }

    /// The largest power of two that is wished and allowed.
    static func window(_ wished: Int, limits: Limits) -> Int {
        let most = max(1, min(wished, limits.sessionWindow))
        return 1 << (Int.bitWidth - 1 - most.leadingZeroBitCount)
    }

    func closeSession(_ key: SessionKey) async throws {
        if isClustered { return try await closeInCluster(key) }
        let reply = takeNumber()
        try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
            closing[reply] = continuation
            guard step(key.partition, .close(session: key.session, secret: key.secret, reply: reply)) else {
                closing[reply] = nil
                continuation.resume(throwing: Self.noPartition(key.partition))
                return
            }
        }
    }

    func submitted(_ message: SubmitMessage) {
        let key = message.key
        // Without the session's secret nothing is done, and nobody hears of it: the caller has no stream either.
        guard let kind = kind(of: key) else { return }
        let stream = streamOfSession[SessionPlace(partition: key.partition, session: key.session)] ?? 0
        if cluster != nil {
            // Without a stream the client is about to look for another node, and says it all again there.
            guard stream > 0 else { return }
            if !message.taken.isEmpty || message.lowestOpen > 0 {
                step(
                    .call(
                        connection: stream, number: 0,
                        .ack(key.partition, key.session, key.secret, message.taken, lowestOpen: message.lowestOpen)))
            }
        } else if !message.taken.isEmpty || message.lowestOpen > 0 {
            step(
                key.partition,
                .ack(session: key.session, secret: key.secret, runs: message.taken, lowestOpen: message.lowestOpen))
        }
        for run in message.runs {
            if let refusal = refusal(of: run, for: kind) {
                refuse(run.items.count, refusal, from: run.first, in: stream)
                // What follows would leave a gap in the session, and is refused by the partition.
                continue
            }
            let (room, refusal) = room(for: run, kind, key)
            if room > 0 {
                if let cluster {
                    submitInCluster(run.prefix(room), key, kind, in: stream, cluster)
                } else {
                    submit(run.prefix(room), key, in: stream)
                }
            }
            if let refusal {
                refuse(run.items.count - room, refusal, from: run.first + UInt64(room), in: stream)
            }
        }
    }

    private func submit(_ run: SubmittedRun, _ key: SessionKey, in stream: UInt64) {
        acceptedThrough = nil
        step(
            key.partition,
            .submit(
                session: key.session, secret: key.secret,
                run: AcceptRun(
                    sequences: run.sequences, items: run.items.unpinned(), deadline: run.deadline, trace: run.trace),
                reply: stream))
        if run.notify, let through = acceptedThrough { noteAccepted(through: through + 1, in: stream) }
    }

    func refuse(_ count: Int, _ error: FlockError, from first: UInt64, in stream: UInt64) {
        counters.refused += UInt64(count)
        metrics?.refused(error)
        reached(error.limit)
        note(error, from: first, in: stream)
    }

    /// How many items of the run can be in time, and why no more are accepted.
    private func room(
        for run: SubmittedRun, _ kind: SessionKind, _ key: SessionKey
    ) -> (items: Int, refusal: FlockError?) {
        // What was accepted before, and comes again over another connection, is not refused any more.
        guard run.deadline != nil, isNew(run.first, key) else { return (run.items.count, nil) }
        return pipelines[kind.pipeline].room(for: run, kind.priority, behind: held(of: kind), limits: limits)
    }

    private func isNew(_ sequence: UInt64, _ key: SessionKey) -> Bool {
        if let cluster { return cluster.node.isNew(sequence, of: key.session, in: key.partition) }
        return replicas[Int(key.partition.rawValue)]?.isNew(sequence, of: key.session) ?? false
    }

    /// Requests like those of a session that this node's partitions have given to stages, or are about to.
    func held(of kind: SessionKind) -> Int {
        if let cluster { return cluster.node.heldItems(of: kind.priority, pipeline: kind.pipeline) }
        return pipelines[kind.pipeline].dispatcher.heldItems(of: kind.priority)
    }

    /// What a session's requests are, if it exists here and the secret is right.
    func kind(of key: SessionKey) -> SessionKind? {
        if let cluster {
            guard let number = cluster.node.pipeline(of: key.session, in: key.partition, secret: key.secret),
                let kind = SessionKind(number: number), pipelines.indices.contains(kind.pipeline)
            else { return nil }
            return kind
        }
        guard isOwned(key.partition),
            let number = replicas[Int(key.partition.rawValue)]?.pipeline(of: key.session, secret: key.secret),
            let kind = SessionKind(number: number), pipelines.indices.contains(kind.pipeline)
        else { return nil }
        return kind
    }

    /// Why this node does not take the run, whatever its partition thinks.
    private func refusal(of run: SubmittedRun, for kind: SessionKind) -> FlockError? {
        if isDraining { return FlockError(.shuttingDown, "The node is draining.", node: actorSystem.node) }
        do {
            try pipelines[kind.pipeline].definition.lanes[0].check(run.items)
            return nil
        } catch {
            return error
        }
    }

    func cancelled(_ message: CancelMessage) {
        let key = message.key
        guard kind(of: key) != nil else { return }
        // A refusal that was not told yet, of sequences that are given up now, would hide one of later sequences.
        if let stream = streamOfSession[SessionPlace(partition: key.partition, session: key.session)],
            let refused = streams[stream]?.part.refused, refused.from < message.sequences.end
        {
            streams[stream]?.part.refused = nil
        }
        if isClustered {
            let call = ClientCall.cancel(key.partition, key.session, key.secret, message.sequences)
            return step(.call(connection: 0, number: 0, call))
        }
        step(key.partition, .cancel(session: key.session, secret: key.secret, sequences: message.sequences))
    }

    // MARK: Partitions

    func isOwned(_ partition: PartitionID) -> Bool {
        Int(partition.rawValue) < replicas.count && replicas[Int(partition.rawValue)] != nil
    }

    static func noPartition(_ partition: PartitionID) -> FlockError {
        FlockError(.moved, "This node does not own \(partition).")
    }

    func takeNumber() -> UInt64 {
        defer { nextNumber += 1 }
        return nextNumber
    }

    /// Hands an event to a partition and carries its directives out. False if the partition is not here.
    @discardableResult
    func step(_ partition: PartitionID, _ event: PartitionEvent) -> Bool {
        guard isOwned(partition) else { return false }
        let number = Int(partition.rawValue)
        var out: [PartitionDirective] = []
        swap(&out, &directives)
        let before = event.isTick ? replicas[number]?.counters : nil
        replicas[number]?.step(event, now: EventLoop.now, budget: &budget, out: &out)
        if event.isTick { noteExpiry(before, replicas[number]?.counters) }
        for directive in out { carryOut(directive, of: partition) }
        out.removeAll(keepingCapacity: true)
        swap(&out, &directives)
        schedule(replicas[number]?.nextDeadline ?? .never)
        return true
    }

    private func carryOut(_ directive: PartitionDirective, of partition: PartitionID) {
        switch directive {
        case .opened(let reply, let session): opening.removeValue(forKey: reply)?.resume(returning: session)
        case .accepted(_, let through): acceptedThrough = through
        case .refused(let reply, let from, let error):
            counters.refused += 1
            metrics?.refused(error)
            reached(error.limit)
            note(error, from: from, in: reply)
        case .dispatch(let run):
            counters.accepted += UInt64(run.requests.count)
            guard let kind = SessionKind(number: run.pipeline) else { preconditionFailure("pipeline \(run.pipeline)") }
            metrics?.accepted(run.requests.count, pipeline: kind.pipeline)
            dispatch(run, kind)
        case .revoke(let run): revoke(run)
        case .deliver(let subscriber, _, let runs): deliver(runs, to: subscriber)
        case .failed(let reply, let error): answer(reply, with: error)
        case .done(let reply): closing.removeValue(forKey: reply)?.resume()
        case .sessionClosed(let session):
            if let number = streamOfSession[SessionPlace(partition: partition, session: session)] {
                endStream(number, FlockError(.expired, "The session was closed."))
            }
        // A node's replicas are alone until it follows views: nobody to send to, no epoch but the first.
        case .attempted, .send, .report, .persist, .persistSnapshot, .serving, .demoted, .behind: return
        }
    }

    private func answer(_ reply: UInt64, with error: FlockError) {
        if let continuation = opening.removeValue(forKey: reply) {
            metrics?.refused(error)
            reached(error.limit)
            continuation.resume(throwing: error)
        } else if let continuation = closing.removeValue(forKey: reply) {
            continuation.resume(throwing: error)
        } else {
            endStream(reply, error)
        }
    }
}

extension PartitionEvent {
    fileprivate var isTick: Bool { if case .tick = self { true } else { false } }
}

extension SessionKey {
    var secret: SessionSecret { SessionSecret(secretHigh, secretLow) }
}
