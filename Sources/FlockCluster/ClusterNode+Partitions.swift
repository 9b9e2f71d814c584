// Flockwork · Apache-2.0 · see LICENSE

// What a replica wants done, and what clients ask of it.

internal import FlockWire

extension ClusterNode {
    mutating func stepReplica(_ partition: PartitionID, _ event: PartitionEvent, out: inout [NodeDirective]) {
        let number = Int(partition.rawValue)
        guard number < replicas.count, hasCopy(number) else { return }
        // One event may lead to another of the same partition, which then gets a list of its own.
        var directives: [PartitionDirective] = []
        swap(&directives, &partitionDirectives)
        replicas[number]?.step(event, now: now, budget: &budget, out: &directives)
        touched.append(partition)
        // Taken out one by one: a copy of each would have to be made and thrown away.
        if directives.count > 1 { directives.reverse() }
        while let directive = directives.popLast() { carryOut(directive, partition, out: &out) }
        swap(&directives, &partitionDirectives)
        if let deadline = replicas[number]?.due() { replicaDeadline = min(replicaDeadline, deadline) }
    }

    private mutating func carryOut(
        _ directive: PartitionDirective, _ partition: PartitionID, out: inout [NodeDirective]
    ) {
        switch directive {
        case .opened(let reply, let session): answer(reply, .opened(session), out: &out)
        case .accepted(let reply, let through): answer(reply, .accepted(through: through), out: &out)
        case .refused(let reply, let from, let error): answer(reply, .refused(from: from, error), out: &out)
        case .failed(let reply, let error): answer(reply, .failed(error), out: &out)
        case .done(let reply): answer(reply, .done, out: &out)
        case .dispatch(let run): enqueue(run, out: &out)
        case .revoke(let run):
            for lane in dispatchers.indices { stepDispatcher(lane, .revoke(run), out: &out) }
        case .deliver(let subscriber, let session, let runs):
            out.append(.push(connection: subscriber, partition, session, runs))
        case .sessionClosed: return
        case .send(let peer, let message):
            guard let member, let node = nodeName(of: peer) else { return }
            out.append(.send(node, .replication(from: member, to: peer, partition, message)))
        case .report(let report): stepControl(.report(report), out: &out)
        case .attempted(let run, _): attempted(run, out: &out)
        case .persist(let first, let entries): out.append(.keep(partition, first: first, entries))
        case .persistSnapshot(let parts): keep(parts, of: partition, out: &out)
        case .behind: return
        case .serving: serving(partition, out: &out)
        case .demoted: demoted(partition, out: &out)
        }
    }

    private func nodeName(of peer: MemberNumber) -> NodeID? { place(of: peer).map { links[$0].node } }

    private mutating func answer(_ reply: UInt64, _ answer: ClientAnswer, out: inout [NodeDirective]) {
        guard let call = calls.take(reply) else { return }
        out.append(.answer(connection: call.connection, number: call.number, answer))
    }

    /// This copy is no primary any more: its runs are another's, and its callers do not know what became of theirs.
    mutating func demoted(_ partition: PartitionID, out: inout [NodeDirective]) {
        for lane in dispatchers.indices { stepDispatcher(lane, .forget(partition), out: &out) }
        inquiries.removeAll { $0.partition == partition }
        charges.removeAll { $0.run.requests.partition == partition }
        for call in calls.takeAll(of: partition) {
            out.append(.answer(connection: call.connection, number: call.number, whereItIs(partition)))
        }
    }

    // MARK: Clients

    mutating func handle(_ call: ClientCall, connection: UInt64, number: UInt64, out: inout [NodeDirective]) {
        let partition = call.partition
        let place = Int(partition.rawValue)
        guard place < replicas.count, seats[place]?.primary == member, member != nil, hasCopy(place),
            !isDiskFailed || !isDurable(partition)
        else {
            out.append(.answer(connection: connection, number: number, whereItIs(partition)))
            return
        }
        if case .ack(_, let session, let secret, let runs, let lowestOpen) = call {
            // Nobody waits for it.
            return stepReplica(
                partition, .ack(session: session, secret: secret, runs: runs, lowestOpen: lowestOpen), out: &out)
        }
        let reply = calls.insert(connection: connection, number: number, partition: partition)
        let event: PartitionEvent
        switch call {
        case .open(_, let pipeline, let secret, let window):
            event = .open(pipeline: pipeline, secret: secret, window: window, reply: reply)
        case .submit(_, let session, let secret, let run):
            event = .submit(session: session, secret: secret, run: run, reply: reply)
        case .cancel(_, let session, let secret, let sequences):
            event = .cancel(session: session, secret: secret, sequences: sequences, reply: reply)
        case .attach(_, let session, let secret):
            event = .attach(session: session, secret: secret, subscriber: connection, reply: reply)
        case .ack: return
        case .close(_, let session, let secret):
            event = .close(session: session, secret: secret, reply: reply)
        }
        stepReplica(partition, event, out: &out)
    }

    /// What a caller hears who came to the wrong node, or too early.
    private func whereItIs(_ partition: PartitionID) -> ClientAnswer {
        let place = Int(partition.rawValue)
        if let view = control.view, place < view.partitions.count, let primary = view.partitions[place].primary,
            primary != member, let owner = view.members.first(where: { $0.number == primary })
        {
            return .moved(version: view.version, owner.node)
        }
        return .unavailable(retryAfter: limits.retryAfter)
    }

    mutating func clientGone(_ connection: UInt64, out: inout [NodeDirective]) {
        calls.drop(connection: connection)
        for number in replicas.indices where hasCopy(number) {
            stepReplica(PartitionID(number), .detach(subscriber: connection), out: &out)
        }
    }
}

// Reading through an optional element copies the replica, hundreds of bytes with a retain for each reference in them.
// What is `mutating` works in place, though it changes nothing.

extension ClusterNode {
    /// Whether this node has a copy of a partition.
    mutating func hasCopy(_ number: Int) -> Bool { replicas[number]?.due() != nil }
}

extension PartitionReplica {
    /// `nextDeadline`, in place.
    mutating func due() -> Tick { nextDeadline }
    /// `isServing`, in place.
    mutating func serves() -> Bool { isServing }
}
