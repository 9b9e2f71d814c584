// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// The inbox of a node in a cluster: what clients and stages say becomes events of the `ClusterNode`, whose directives
// become frames. Sessions' streams, refusals, mailboxes and lanes are those of a node alone.

extension InboxActor {
    /// Hands an event to the node and carries out what it wants done, in order.
    func step(_ event: NodeEvent) {
        guard let cluster else { return }
        crashPoint?.sees(event)
        cluster.node.step(event, now: EventLoop.now, out: &cluster.directives)
        cluster.waiting.append(contentsOf: cluster.directives)
        cluster.directives.removeAll(keepingCapacity: true)
        guard !cluster.isCarryingOut else { return }
        cluster.isCarryingOut = true
        while let directive = cluster.waiting.popFirst() { carryOut(directive, cluster) }
        cluster.isCarryingOut = false
        let state = cluster.node.state()
        if state.viewVersion != cluster.followed { follow(cluster) }
        schedule(state.nextDeadline)
    }

    private func carryOut(_ directive: NodeDirective, _ cluster: ClusterShell) {
        crashPoint?.sees(directive)
        switch directive {
        case .send(let node, let message): post(message, to: node, cluster)
        case .persist(let record, let token): persist(record, token, cluster)
        case .keep(let partition, let first, let entries):
            durableLog?.persist(partition, first: first, entries)
        case .keepSnapshot(let partition, let snapshot): durableLog?.add(.snapshot(partition, snapshot))
        case .dropCopy(let partition, let generation): durableLog?.add(.drop(partition, generation: generation))
        case .answer(_, let number, let answer): answered(number, answer, cluster)
        case .push(let stream, let partition, let session, let runs):
            pushed(runs, of: SessionPlace(partition: partition, session: session), to: stream)
        case .execute(let job, _, let run): execute(job, run, cluster)
        case .revoke(let job, let part): revoke(job, part, cluster)
        case .place(let counts): place(counts)
        case .admitted(let member):
            log.info("admitted to the cluster", metadata: ["member": "\(member)"])
            admitted()
        case .evicted:
            log.warning("the cluster went on without this process; it begins again, with empty copies")
            beginAgain(cluster)
        case .left:
            cluster.hasLeft = true
            letGo(cluster)
            if let diskError { excluded(diskError) }
        case .votesOn(let tolerated):
            log.notice(
                "this node votes, and stays a voter while it is away", metadata: ["more may fail": "\(tolerated)"])
        case .refused(let error): refused(error)
        case .lost(let partitions):
            log.critical(
                "all copies of partitions are gone, and what was accepted there",
                metadata: ["partitions": "\(partitions.count)"])
        }
    }

    private func persist(_ record: VoterRecord, _ token: UInt64, _ cluster: ClusterShell) {
        cluster.record = record
        if let voterFile { return voterFile.persist(record, token: token) }
        // After what the node wants done besides, as if it had been a disk's.
        actorSystem.loop.execute { [weak self] in self?.assumeIsolated { $0.step(.persisted(token)) } }
    }

    /// What this node must not forget as a voter goes to a folder of its own.
    func keepRecord(in folder: DataFolder) {
        voterFile = VoterFile(in: folder, on: actorSystem.loop) { [weak self] result in
            self?.assumeIsolated { $0.persisted(result) }
        }
    }

    /// The disk has a record, or refuses it.
    func persisted(_ result: Result<UInt64, FlockError>) {
        switch result {
        case .success(let token): step(.persisted(token))
        // This node ends, and its disk is as good as before.
        case .failure(let error) where error.code == .shuttingDown: return
        case .failure(let error):
            log.critical("this node does not vote any more: its disk refuses", metadata: ["error": "\(error)"])
            step(NodeEvent.persistFailed)
        }
    }

    private func beginAgain(_ cluster: ClusterShell) {
        cluster.waiting.removeAll()
        // They count nowhere: the new process gets others.
        durableLog?.dropAll()
        cluster.beginAgain(limits: limits, now: EventLoop.now)
        let error = FlockError(.unavailable, "The node begins again.", node: actorSystem.node)
        for number in cluster.calls.keys.sorted() { fail(number, error, cluster) }
        for stream in streams.keys.sorted() { endStream(stream, error) }
        actorSystem.loop.execute { [weak self] in self?.assumeIsolated { $0.beginStepping() } }
    }

    /// The first that a new node hears: which instances there are.
    func beginStepping() {
        if !isEndingPlaces { step(.hosts(places.map { $0.running?.count ?? 0 })) }
        step(NodeEvent.tick)
    }

    // MARK: Clients

    /// A session in one of the partitions that this node leads.
    func openInCluster(_ kind: SessionKind, secret: SessionSecret, window: Int) async throws -> (
        PartitionID, SessionID
    ) {
        guard let cluster, let partition = nextServing(cluster, isDurable: isDurable(kind)) else {
            throw FlockError(
                .unavailable, "The node leads no partition yet.", node: actorSystem.node, retryAfter: limits.retryAfter)
        }
        let number = takeNumber()
        let session = try await withUnsafeThrowingContinuation {
            (continuation: UnsafeContinuation<SessionID, any Error>) in
            cluster.calls[number] = .open(continuation)
            step(
                .call(
                    connection: number, number: number,
                    .open(partition, pipeline: kind.number, secret, window: window)))
        }
        return (partition, session)
    }

    private func nextServing(_ cluster: ClusterShell, isDurable: Bool) -> PartitionID? {
        let serving = cluster.node.serving(isDurable: isDurable)
        guard !serving.isEmpty else { return nil }
        nextOwned += 1
        return serving[nextOwned % serving.count]
    }

    func closeInCluster(_ key: SessionKey) async throws {
        guard let cluster else { return }
        let number = takeNumber()
        try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
            cluster.calls[number] = .close(continuation)
            step(.call(connection: number, number: number, .close(key.partition, key.session, key.secret)))
        }
    }

    func attachInCluster(_ key: SessionKey, stream: UInt64, _ cluster: ClusterShell) {
        cluster.calls[stream] = .attach(stream: stream)
        step(.call(connection: stream, number: stream, .attach(key.partition, key.session, key.secret)))
    }

    func detachInCluster(_ stream: UInt64, _ cluster: ClusterShell) {
        cluster.calls = cluster.calls.filter { entry in
            switch entry.value {
            case .attach(let other), .submit(let other, _, _): other != stream
            case .open, .close: true
            }
        }
        step(.clientGone(stream))
    }

    func submitInCluster(
        _ run: SubmittedRun, _ key: SessionKey, _ kind: SessionKind, in stream: UInt64, _ cluster: ClusterShell
    ) {
        let number = takeNumber()
        let before = held(of: kind)
        cluster.calls[number] = .submit(stream: stream, run: run.sequences, notifies: run.notify)
        let accept = AcceptRun(
            sequences: run.sequences, items: run.items.unpinned(), deadline: run.deadline, trace: run.trace)
        step(
            .call(
                connection: stream, number: number, .submit(key.partition, key.session, key.secret, accept)))
        let open = held(of: kind)
        // What waits for its copies is not measured: only some are, anyhow.
        guard open > before else { return }
        let requests = RequestRun(partition: key.partition, session: key.session, sequences: run.sequences)
        pipelines[kind.pipeline].began(requests, kind.priority, open: open, at: EventLoop.now)
    }

    /// Outcomes that this node's partitions have recorded.
    private func pushed(_ runs: [OutcomeRun], of place: SessionPlace, to stream: UInt64) {
        if let pipeline = streams[stream]?.pipeline, pipelines.indices.contains(pipeline) {
            for run in runs {
                let requests = RequestRun(
                    partition: place.partition, session: place.session, sequences: run.sequences)
                pipelines[pipeline].ended(requests, isDone: !run.isGivenUp, at: EventLoop.now)
            }
        }
        deliver(runs, to: stream)
    }

    /// What a partition answered. A number that nobody waits for is that of a call without an answer.
    private func answered(_ number: UInt64, _ answer: ClientAnswer, _ cluster: ClusterShell) {
        switch answer {
        case .opened(let session):
            guard case .open(let continuation)? = cluster.calls.removeValue(forKey: number) else { return }
            continuation.resume(returning: session)
        case .accepted(let through):
            guard case .submit(let stream, let run, let notifies)? = cluster.calls.removeValue(forKey: number) else {
                return
            }
            counters.accepted += UInt64(run.count)
            if let pipeline = streams[stream]?.pipeline { metrics?.accepted(run.count, pipeline: pipeline) }
            if notifies { noteAccepted(through: through + 1, in: stream) }
        case .refused(let from, let error):
            guard case .submit(let stream, let run, _)? = cluster.calls.removeValue(forKey: number) else { return }
            refuse(Int(run.end - max(from, run.first)), error, from: from, in: stream)
        case .failed(let error): fail(number, error, cluster)
        case .done:
            switch cluster.calls.removeValue(forKey: number) {
            case .close(let continuation)?: continuation.resume()
            case .attach(let stream)?: attached(stream)
            default: return
            }
        case .moved(_, let node):
            fail(number, FlockError(.moved, "Another node leads the partition.", node: node), cluster)
        case .unavailable(let pause):
            fail(
                number,
                FlockError(
                    .unavailable, "No node is known to lead the partition.", node: actorSystem.node, retryAfter: pause),
                cluster)
        }
    }

    func fail(_ number: UInt64, _ error: FlockError, _ cluster: ClusterShell) {
        switch cluster.calls.removeValue(forKey: number) {
        case .open(let continuation)?:
            metrics?.refused(error)
            continuation.resume(throwing: error)
        case .close(let continuation)?: continuation.resume(throwing: error)
        case .attach(let stream)?: endStream(stream, error)
        case .submit(let stream, let run, _)?:
            // Whether it was accepted is unknown where the partition has moved: the client asks there.
            if error.code == .moved || error.code == .unavailable {
                refuse(run.count, error, from: run.first, in: stream)
            } else {
                endStream(stream, error)
            }
        case nil: return
        }
    }

    // MARK: Stages

    private func execute(_ job: UInt64, _ run: OpenRun, _ cluster: ClusterShell) {
        let life = cluster.life
        let assignment = Assignment { [weak self] run, ending in
            self?.assumeIsolated { $0.ended(job, of: life, run, ending) }
        }
        guard let kind = SessionKind(number: run.pipeline), pipelines.indices.contains(kind.pipeline) else {
            let error = FlockError(.notFound, "no such pipeline", node: actorSystem.node)
            let outcome = OutcomeRun(sequences: run.requests.sequences, outcome: .failed(error))
            return step(.executed(job: job, outcomes: [outcome], failed: [], returned: []))
        }
        var run = run
        run.priority = kind.priority
        cluster.work[job] = ClusterShell.Work(
            requests: run.requests, lane: kind.pipeline, left: run.requests.count)
        cluster.taken[kind.pipeline].append(WorkRun(run, arrived: EventLoop.now, assignment: assignment))
        turn?.arm()
    }

    /// The stages are through with a part of a job.
    private func ended(_ job: UInt64, of life: Int, _ run: RequestRun, _ ending: RunEnding) {
        // Of an earlier life: it was another member's job.
        guard let cluster, cluster.life == life, let left = cluster.work[job]?.left else { return }
        precondition(run.count <= left, "job \(job) ended \(run.count - left) items too many")
        if run.count == left { cluster.work[job] = nil } else { cluster.work[job]?.left = left - run.count }
        switch ending {
        case .done(let outcomes): step(.executed(job: job, outcomes: outcomes, failed: [], returned: []))
        case .lost: step(.executed(job: job, outcomes: [], failed: [run.sequences], returned: []))
        // Its outcome is in the partition already, so that nobody sends it again.
        case .returned, .revoked:
            step(.executed(job: job, outcomes: [], failed: [], returned: [run.sequences]))
        }
    }

    private func revoke(_ job: UInt64, _ part: SequenceRun, _ cluster: ClusterShell) {
        guard let work = cluster.work[job], let runner = pipelines[work.lane].runners[0] else { return }
        var requests = work.requests
        requests.sequences = part
        for work in runner.revoke(requests) { work.assignment.ended(work.run, .revoked) }
    }

    /// The last thing in a turn: what came for this node's stages, and what others are to hear.
    ///
    /// Messages are written before anything is executed: others must know of what this process may die of.
    func endOfClusterTurn() {
        guard let cluster else { return }
        sendPosted(cluster, atOnce: cluster.taken.contains { !$0.isEmpty })
        for lane in cluster.taken.indices where !cluster.taken[lane].isEmpty {
            let runs = cluster.taken[lane]
            cluster.taken[lane] = []
            run(runs, on: actorSystem.node, pipeline: lane, lane: 0)
        }
    }
}

extension OutcomeRun {
    /// Nobody wanted the requests any more.
    fileprivate var isGivenUp: Bool {
        guard case .failed(let error) = outcome else { return false }
        return error.code == .deadlineExceeded || error.code == .cancelled
    }
}
