// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// The stages' side of the inbox: accepted runs go to a dispatcher, which chooses a host with credit; at the end of each
// turn every host gets its runs in one hand-over (or one frame). What comes back goes to the partitions.

extension InboxActor {
    // MARK: Hosts

    /// This node's own instances are hosts of the first moment; others come as peers do.
    func startDispatching(_ index: Int) {
        let node = actorSystem.node
        for lane in pipelines[index].runners.indices where pipelines[index].runners[lane] != nil {
            pipelines[index].nodesOfLane[lane].append(node)
        }
        if pipelines[index].runners[0] != nil { hostUp(node, pipeline: index, isLocal: true) }
    }

    private func hostUp(_ node: NodeID, pipeline index: Int, isLocal: Bool) {
        let host = HostID(rawValue: takeNumber())
        pipelines[index].hosts[host] = node
        pipelines[index].hostOfNode[node] = host
        feed(
            index,
            .hostUp(host, isLocal: isLocal, creditItems: limits.creditItems, creditBytes: limits.creditBytes))
    }

    func peerUp(_ peer: Peer) {
        // Guests are no nodes yet, and have no stages.
        guard peer.identity.role == .node, !peer.identity.node.rawValue.hasPrefix(Guest.prefix) else { return }
        let announced: Announcement
        do {
            announced = try Announcement(peer.announcement, limits: limits)
        } catch {
            return peer.close(FlockError(.protocolViolation, "announcement: \(error)"))
        }
        // Members of a cluster say it again and again, as views change.
        for entry in announced.pipelines where !isClustered {
            guard let index = pipelines.firstIndex(where: { $0.definition.fingerprint == entry.fingerprint }),
                entry.instances.count == pipelines[index].runners.count
            else { continue }
            for (lane, count) in entry.instances.enumerated() where count > 0 {
                pipelines[index].nodesOfLane[lane].append(peer.identity.node)
                if lane == 0 { hostUp(peer.identity.node, pipeline: index, isLocal: false) }
            }
        }
        log.info("node connected", metadata: ["node": "\(peer.identity.node)"])
    }

    func peerDown(_ peer: Peer, _ reason: FlockError) {
        let node = peer.identity.node
        guard peer.identity.role == .node, !node.rawValue.hasPrefix(Guest.prefix) else { return }
        for index in pipelines.indices {
            for lane in pipelines[index].nodesOfLane.indices {
                pipelines[index].nodesOfLane[lane].removeAll { $0 == node }
            }
            guard !isClustered, let host = pipelines[index].hostOfNode.removeValue(forKey: node) else { continue }
            pipelines[index].hosts[host] = nil
            feed(index, .hostDown(host))
        }
        log.info("node disconnected", metadata: ["node": "\(node)", "reason": "\(reason.message)"])
        if isClustered { memberDown(node) }
    }

    // MARK: Dispatch

    func dispatch(_ run: OpenRun, _ kind: SessionKind) {
        var run = run
        run.priority = kind.priority
        feed(kind.pipeline, .enqueue(run))
        pipelines[kind.pipeline].began(run.requests, kind.priority, open: held(of: kind), at: EventLoop.now)
    }

    func revoke(_ run: RequestRun) {
        for index in pipelines.indices { feed(index, .revoke(run)) }
    }

    /// Hands an event to a pipeline's dispatcher. What it sends, it sends at the end of the turn.
    private func feed(_ index: Int, _ event: DispatcherEvent) {
        var out: [DispatcherDirective] = []
        pipelines[index].dispatcher.step(event, now: EventLoop.now, out: &out)
        for directive in out { carryOut(directive, pipeline: index) }
        pipelines[index].isDirty = true
        turn?.arm()
    }

    /// The last thing in a turn: hand over, then send.
    func endOfTurn() {
        if isClustered { endOfClusterTurn() }
        for index in pipelines.indices where pipelines[index].isDirty {
            pipelines[index].isDirty = false
            var out: [DispatcherDirective] = []
            swap(&out, &pipelines[index].dispatchDirectives)
            pipelines[index].dispatcher.step(.tick, now: EventLoop.now, out: &out)
            for directive in out { carryOut(directive, pipeline: index) }
            out.removeAll(keepingCapacity: true)
            swap(&out, &pipelines[index].dispatchDirectives)
            noteCredits(index)
        }
        flushStreams()
        crashPoint?.turnEnds(on: actorSystem.loop)
        checkDrained()
    }

    private func carryOut(_ directive: DispatcherDirective, pipeline index: Int) {
        switch directive {
        case .send(let host, let runs): send(runs, to: host, pipeline: index)
        case .giveUp(let partition, let session, let outcome):
            step(partition, .completed(session: session, runs: [outcome]))
        case .lost(var run):
            // With one copy of a partition there is no other whose count of attempts could differ.
            run.attempt += 1
            feed(index, .enqueue(run))
        case .revoke(let host, let run):
            guard pipelines[index].hosts[host] == actorSystem.node, let runner = pipelines[index].runners[0] else {
                return
            }
            // What waits here is dropped; its outcome is in the partition already.
            for work in runner.revoke(run) { work.assignment.ended(work.run, .revoked) }
        }
    }

    private func send(_ runs: [OpenRun], to host: HostID, pipeline index: Int) {
        guard let node = pipelines[index].hosts[host] else { return }
        let assignment = Assignment { [weak self] run, ending in
            self?.assumeIsolated { $0.ended(run, ending, host: host, pipeline: index) }
        }
        run(
            runs.map { WorkRun($0, arrived: EventLoop.now, assignment: assignment) }, on: node, pipeline: index, lane: 0
        )
    }

    /// Has a lane's instances on some node handle the runs.
    func run(_ runs: [WorkRun], on node: NodeID, pipeline index: Int, lane: Int) {
        if node == actorSystem.node, let runner = pipelines[index].runners[lane] {
            runner.put(runs)
        } else if let peer = actorSystem.peers[node], peer.isOpen {
            StageHost.call(
                peer, pipeline: pipelines[index].definition, lane: lane, runs: runs, limits: limits)
        } else {
            for work in runs { work.assignment.ended(work.run, .returned) }
        }
    }

    /// A host is through with a run of this node's partitions. The first outcome of each request counts.
    private func ended(_ run: RequestRun, _ ending: RunEnding, host: HostID, pipeline index: Int) {
        let isDone = if case .done = ending { true } else { false }
        pipelines[index].ended(run, isDone: isDone, at: EventLoop.now)
        switch ending {
        case .done(let outcomes):
            feed(index, .finished(host, runs: [run]))
            step(run.partition, .completed(session: run.session, runs: outcomes))
        case .revoked: feed(index, .finished(host, runs: [run]))
        case .lost: feed(index, .failed(host, runs: [run]))
        case .returned: feed(index, .returned(host, runs: [run]))
        }
    }

    // MARK: Results

    /// A lane on this node has finished a batch. On the loop.
    func finished(_ batch: FinishedBatch, pipeline index: Int, lane: Int) {
        // The node was stopped meanwhile: its requests are nobody's here.
        guard pipelines.indices.contains(index) else { return }
        if lane + 1 < pipelines[index].runners.count {
            forward(batch, pipeline: index, to: lane + 1)
        } else {
            var first = 0
            for work in batch.runs {
                let outcomes = batch.result.outcomes(of: work.run.sequences, from: first)
                first += work.run.count
                work.assignment.ended(work.run, .done(outcomes))
            }
        }
    }

    private func forward(_ batch: FinishedBatch, pipeline index: Int, to lane: Int) {
        guard let node = nextNode(pipeline: index, lane: lane) else {
            guard isClustered else {
                for work in batch.runs { work.assignment.ended(work.run, .lost) }
                return
            }
            // Nothing more is sent once this node has noticed; what was under way is tried again after a moment.
            actorSystem.loop.schedule(after: Self.returnPause) {
                for work in batch.runs { work.assignment.ended(work.run, .returned) }
            }
            return
        }
        var first = 0
        var next: [WorkRun] = []
        for work in batch.runs {
            let (kept, ended) = batch.result.forwarded(of: work.run.sequences, from: first)
            first += work.run.count
            for (sequences, items) in kept {
                var part = work
                part.run.sequences = sequences
                part.items = items
                next.append(part)
            }
            for outcome in ended {
                var part = work.run
                part.sequences = outcome.sequences
                work.assignment.ended(part, .done([outcome]))
            }
        }
        if !next.isEmpty { run(next, on: node, pipeline: index, lane: lane) }
    }

    /// This node if it can, else each other in turn.
    private func nextNode(pipeline index: Int, lane: Int) -> NodeID? {
        if isClustered && pipelines[index].runners[lane] != nil { return actorSystem.node }
        let nodes = isClustered ? othersHosting(index, lane) : pipelines[index].nodesOfLane[lane]
        if nodes.contains(actorSystem.node) { return actorSystem.node }
        guard !nodes.isEmpty else { return nil }
        pipelines[index].nextNode += 1
        return nodes[pipelines[index].nextNode % nodes.count]
    }

    /// A lane has no instances that can be reached.
    private static let returnPause = Duration.milliseconds(20)

    // MARK: Time

    /// Has partitions hear when something of theirs is due. One timer for all of them.
    func schedule(_ due: Tick) {
        guard due < timerDue else { return }
        timer?.cancel()
        timerDue = due
        // A little late is fine, and saves wake-ups where many deadlines lie close together.
        let delay = max(due - EventLoop.now, .milliseconds(1))
        timer = actorSystem.loop.schedule(after: delay) { [weak self] in
            self?.assumeIsolated { $0.timeIsUp() }
        }
    }

    private func timeIsUp() {
        timerDue = .never
        if isClustered { return step(NodeEvent.tick) }
        let now = EventLoop.now
        for partition in owned where (replicas[Int(partition.rawValue)]?.nextDeadline ?? .never) <= now {
            step(partition, .tick)
        }
        schedule(owned.reduce(Tick.never) { min($0, replicas[Int($1.rawValue)]?.nextDeadline ?? .never) })
    }

    // MARK: End

    /// Takes nothing new; returns once every accepted request has an outcome.
    func drain() async {
        isDraining = true
        // What others have copies of goes on there.
        if cluster?.hasLeft == true || isAbandoned { return }
        if openItems == 0 { return }
        await withUnsafeContinuation { drained.append($0) }
    }

    /// Whoever waits for the drain is told that it is over.
    func abandonDrain() {
        isAbandoned = true
        if let cluster { letGo(cluster) }
        let waiting = drained
        drained = []
        for continuation in waiting { continuation.resume() }
    }

    var openItems: Int {
        if let cluster { return cluster.node.load().openItems }
        return owned.reduce(0) { $0 + (replicas[Int($1.rawValue)]?.openItems ?? 0) }
    }

    private func checkDrained() {
        guard isDraining, !drained.isEmpty, openItems == 0 else { return }
        let waiting = drained
        drained = []
        for continuation in waiting { continuation.resume() }
    }

    /// Ends everything that others wait for, and lets go of what holds this actor.
    func stop() {
        timer?.cancel()
        sampling?.cancel()
        metrics = nil
        for continuation in opening.values { continuation.resume(throwing: Self.stopped) }
        for continuation in closing.values { continuation.resume(throwing: Self.stopped) }
        for continuation in drained { continuation.resume() }
        opening = [:]
        closing = [:]
        drained = []
        endViewWaiters()
        for continuation in askedToLeave { continuation.resume() }
        askedToLeave = []
        endCluster()
        for stream in streams.values {
            if case .local(_, let onEnd) = stream.sink { onEnd(Self.stopped) }
        }
        streams = [:]
        pipelines = []
        turn = nil
    }

    static var stopped: FlockError { FlockError(.shuttingDown, "The node is shutting down.") }
}

extension InboxActor {
    private var pipelineStates: [PipelineState] {
        let suspended = currentlySuspended
        return pipelines.enumerated().map { index, pipeline in
            let definition = pipeline.definition
            return PipelineState(
                name: definition.name, form: definition.form.map { "\($0)" },
                isSuspended: suspended.contains(definition.name), unplaced: unplaced(index))
        }
    }

    func currentStatus() -> NodeStatus {
        let load = cluster?.node.load()
        return NodeStatus(
            node: actorSystem.node, accepted: counters.accepted, completed: counters.completed, failed: counters.failed,
            refused: counters.refused, openRequests: openItems, openBytes: load?.bytes ?? (budget.open + budget.unread),
            sessions: load?.sessions ?? owned.reduce(0) { $0 + (replicas[Int($1.rawValue)]?.sessionCount ?? 0) },
            peers: actorSystem.peers.keys.sorted(),
            stages: pipelines.flatMap { pipeline in
                pipeline.runners.compactMap { runner in
                    runner.map { $0.currentStatus(of: pipeline.definition.name) }
                }
            }, children: places.flatMap { $0.running?.context.children ?? [] }, pipelines: pipelineStates,
            cluster: cluster?.status)
    }
}

extension WorkRun {
    init(_ run: OpenRun, arrived: Tick, assignment: Assignment) {
        self.init(
            run: run.requests, items: run.items, deadline: run.deadline, arrived: arrived, trace: run.trace,
            priority: run.priority, assignment: assignment)
    }

    var place: SessionPlace { SessionPlace(partition: run.partition, session: run.session) }
}
