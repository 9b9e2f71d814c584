// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// An operator's orders become commands of the register; that they are done is seen in a view. What speaks against one
// is asked of the same function that the register asks.

/// Somebody who waits for a view.
struct ViewWaiter {
    let isDone: @Sendable (ControlState) -> Bool
    let continuation: UnsafeContinuation<Void, any Error>
    let timer: LoopTimer
}

extension InboxActor {
    /// For a command of the register; voters answer within a fraction of it.
    static let orderTime = Duration.seconds(10)

    /// Has the register carry a command out.
    func order(
        _ command: OperatorCommand, within time: Duration = orderTime,
        until isDone: (@Sendable (ControlState) -> Bool)? = nil,
        late: @Sendable (ControlState) -> String? = { _ in nil }, refused: String? = nil
    ) async throws {
        let view = try agreedView()
        if let objection = command.objection(in: view) { throw FlockError(.invalidInput, objection) }
        log.notice("an operator's command", metadata: ["command": "\(command)"])
        if !command.isDone(in: view) { step(.command(command)) }
        let isDone = isDone ?? { command.isDone(in: $0) }
        guard try await !sees(within: time, isDone) else { return }
        guard let last = self.cluster?.node.view else { throw Self.stopped }
        let objection = command.isDone(in: last) ? late(last) : command.objection(in: last)
        throw FlockError(.unavailable, objection ?? refused ?? Self.noMajority(last, time))
    }

    /// Returns when the others alone decide.
    func removeVoter(_ node: NodeID) async throws {
        try await order(
            .removeVoter(node),
            refused: "\(node) votes still: no majority of the other voters has answered. One that lost its data folder "
                + "is there and does not vote: replace or remove that one first")
    }

    /// The view, where there is something to agree on and this node takes part.
    func agreedView() throws(FlockError) -> ControlState {
        guard isClustered else {
            throw FlockError(
                .invalidInput,
                "\(actorSystem.node) is alone, or has a fixed list of members: there is nothing to agree on; "
                    + "clusters begin with --bootstrap or --join")
        }
        guard let cluster, let view = cluster.node.view, cluster.node.state().member != nil else {
            throw FlockError(.unavailable, "\(actorSystem.node) is no member yet: ask another node, or later")
        }
        return view
    }

    /// Who is to hear of what an operator wants of all nodes.
    func memberNodes() throws(FlockError) -> [NodeID] {
        isClustered ? try agreedView().members.map(\.node).sorted() : view.members.map(\.id)
    }

    static func noMajority(_ view: ControlState, _ time: Duration) -> String {
        let away = view.voters.filter { view.member(on: $0)?.isSuspected ?? true }
        let who = away.isEmpty ? "" : "; \(away.map(\.rawValue).joined(separator: ", ")) cannot be reached"
        let voters = view.voters.map(\.rawValue).joined(separator: ", ")
        return "not agreed on within \(time): a majority of the voters \(voters) is needed\(who). It is carried out as "
            + "soon as they answer"
    }

    /// Whether a view came for which that is true, in time.
    func sees(within time: Duration, _ isDone: @escaping @Sendable (ControlState) -> Bool) async throws -> Bool {
        if let view = cluster?.node.view, isDone(view) { return true }
        let number = takeNumber()
        do {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
                let timer = actorSystem.loop.schedule(after: time) { [weak self] in
                    self?.assumeIsolated { inbox in
                        let waiter = inbox.viewWaiters.removeValue(forKey: number)
                        waiter?.continuation.resume(throwing: FlockError(.deadlineExceeded, "no such view"))
                    }
                }
                viewWaiters[number] = ViewWaiter(isDone: isDone, continuation: continuation, timer: timer)
            }
            return true
        } catch let error as FlockError where error.code == .deadlineExceeded {
            return false
        }
    }

    /// A newer view is here.
    func tellViewWaiters(_ view: ControlState) {
        for (number, waiter) in viewWaiters where waiter.isDone(view) {
            viewWaiters[number] = nil
            waiter.timer.cancel()
            waiter.continuation.resume()
        }
    }

    /// No view comes any more.
    func endViewWaiters() {
        let waiters = viewWaiters
        viewWaiters = [:]
        for waiter in waiters.values {
            waiter.timer.cancel()
            waiter.continuation.resume(throwing: Self.stopped)
        }
    }

    // MARK: Pipelines

    func suspend(_ pipeline: String) async throws {
        try checkPipeline(pipeline)
        guard !isClustered else { return try await order(.suspend(pipeline: pipeline)) }
        setSuspended(suspendedHere + [pipeline])
    }

    func resume(_ pipeline: String) async throws {
        // One that nobody runs any more may be suspended all the same.
        if !currentlySuspended.contains(pipeline) { try checkPipeline(pipeline) }
        guard !isClustered else { return try await order(.resume(pipeline: pipeline)) }
        setSuspended(suspendedHere.filter { $0 != pipeline })
    }

    /// Of a node whose partitions are its own.
    private func setSuspended(_ names: [String]) {
        suspendedHere = Set(names).sorted()
        let numbers = pipelines.indices.filter { suspendedHere.contains(pipelines[$0].definition.name) }
        for partition in owned { replicas[Int(partition.rawValue)]?.suspended = numbers }
    }

    /// Names of the pipelines that accept nothing, as this node knows it.
    var currentlySuspended: [String] { cluster?.node.view?.suspended ?? suspendedHere }

    private func checkPipeline(_ name: String) throws(FlockError) {
        let names = pipelines.map(\.definition.name)
        guard names.contains(name) else {
            throw FlockError(
                .notFound, "no pipeline \"\(name)\"; the nodes run \(names.sorted().joined(separator: ", "))")
        }
    }

    // MARK: Nodes

    /// Returns when the member leads nothing.
    func drainMember(_ node: NodeID) async throws {
        try await order(
            .drain(node), within: limits.drainTime,
            until: { view in
                guard let member = view.member(on: node), member.phase == .draining else { return false }
                return !view.partitions.contains { $0.primary == member.number }
            },
            late: { view in
                guard let member = view.member(on: node) else { return "\(node) is no member any more" }
                let led = view.partitions.count { $0.primary == member.number }
                return "\(node) is drained, but still leads \(led) partitions: nobody else has whole copies of them "
                    + "yet; `flockwork status` shows when they are made"
            })
    }

    /// Has a node hand over what it has and end; returns when the cluster has let it go.
    func leave(_ node: NodeID) async throws {
        if let view = cluster?.node.view, let objection = Self.objection(toLeaving: node, view) {
            throw FlockError(.invalidInput, objection)
        }
        guard node != actorSystem.node else { return try await leaveMyself() }
        guard let view = cluster?.node.view else {
            throw FlockError(
                .invalidInput, "\(actorSystem.node) is in no cluster: ask \(node) at its own admin socket")
        }
        guard let member = view.member(on: node) else {
            let known = view.members.map(\.node.rawValue).sorted().joined(separator: ", ")
            throw FlockError(.notFound, "\(node) is no member; the members are \(known)")
        }
        guard actorSystem.peers[node]?.isOpen == true else {
            throw FlockError(
                .unavailable,
                "\(node) cannot be reached, and hands nothing over: the cluster goes on without it by itself; end its "
                    + "process where it runs")
        }
        let actor = try MemberActor.resolve(id: ActorAddress(named: MemberActor.name, on: node), using: actorSystem)
        try await actor.leave()
        let number = member.number
        guard try await !sees(within: limits.drainTime + Self.orderTime, { $0.member(number) == nil }) else { return }
        throw FlockError(
            .unavailable,
            "\(node) was told to leave and is a member still: nobody else has whole copies of what it leads yet, or no "
                + "majority of the voters is there; `flockwork status` shows which")
    }

    /// Copies are never fewer than the minimum: with too few others a node would wait for somebody to hand over to.
    private static func objection(toLeaving node: NodeID, _ view: ControlState) -> String? {
        guard view.member(on: node) != nil else { return nil }
        let others = view.members.count { $0.node != node && !$0.isSuspected && $0.phase != .leaving }
        guard others < view.minimumInSync else { return nil }
        return "\(others) others are there, and each partition needs \(view.minimumInSync) copies in sync: \(node) has "
            + "nobody to hand over to. Start another node first; to end the cluster, send SIGTERM to all of its nodes"
    }

    private func leaveMyself() async throws {
        askToLeave()
        guard let cluster, (cluster.node.view?.members.count ?? 0) > 1 else { return }
        await leaveCluster()
        // Whoever lets a process go may end the connection before the process has heard of it.
        guard !cluster.hasLeft, let view = cluster.node.view, !isHandedOver(in: view) else { return }
        throw FlockError(
            .unavailable,
            "\(actorSystem.node) ends without having handed over all that it has: nobody was there to take it in time")
    }

    /// Others lead everything, with the copies that it takes.
    private func isHandedOver(in view: ControlState) -> Bool {
        guard let own = view.member(on: actorSystem.node)?.number else { return true }
        return view.partitions.allSatisfy { seats in
            seats.primary != own && seats.inSync.count { $0 != own } >= view.minimumInSync
        }
    }

    /// What this node had not done when the time for its end was over.
    var leftUndone: Logger.Message {
        if openItems > 0 { return "node stopped before all accepted requests had an outcome" }
        guard let view = cluster?.node.view, Self.objection(toLeaving: actorSystem.node, view) != nil else {
            return "node stopped before others had all of its copies"
        }
        return "node could not hand over its copies: fewer nodes are left than the minimum of copies"
    }

    /// Whoever runs this node ends it, in its own time.
    func askToLeave() {
        log.notice("an operator asks this node to leave")
        isAskedToLeave = true
        let waiting = askedToLeave
        askedToLeave = []
        for continuation in waiting { continuation.resume() }
    }

    /// Returns when an operator has asked for it, or when the node ends.
    func waitForOrderToLeave() async {
        if isAskedToLeave { return }
        await withUnsafeContinuation { askedToLeave.append($0) }
    }
}
