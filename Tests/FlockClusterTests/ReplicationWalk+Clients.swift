// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

// What clients ask of the replicas, sometimes twice and sometimes of the wrong one, and what stages bring back.

extension ReplicationWalk {
    private mutating func someReplica() -> MemberNumber? {
        if random.chance(85) { return group.seats.primary }
        return live.randomElement(using: &random)
    }

    mutating func act(_ client: Int, isHealed: Bool) {
        guard let target = someReplica() else { return }
        let state = clients[client]
        guard let session = state.session else {
            guard !state.waiting || state.waitsUntil <= group.now else { return }
            clients[client].waiting = true
            clients[client].waitsUntil = group.now + .milliseconds(500)
            return step(
                target,
                .open(pipeline: 7, secret: ReplicaGroup.secret, window: 24 + client, reply: UInt64(client)))
        }
        switch random.below(10) {
        case 0..<4: if !isHealed || state.next < state.accepted { submit(client, session, target) }
        case 4..<5: attach(client, session, target)
        case 5..<6 where !isHealed: cancel(client, session, target)
        case 6..<7: attach(client, session, group.seats.primary ?? target)
        default: acknowledge(client, session, target)
        }
    }

    private func attach(_ client: Int, _ session: SessionID) -> PartitionEvent {
        .attach(session: session, secret: ReplicaGroup.secret, subscriber: UInt64(client))
    }

    private mutating func attach(_ client: Int, _ session: SessionID, _ target: MemberNumber) {
        step(target, attach(client, session))
    }

    private mutating func submit(_ client: Int, _ session: SessionID, _ target: MemberNumber) {
        // Sometimes again what was accepted, sometimes before the answer.
        let back = random.chance(30) ? UInt64(random.below(6)) : 0
        let first = clients[client].next - min(back, clients[client].next)
        let count = 1 + random.below(8)
        let payload = items(count, from: session.rawValue << 32 + first)
        let run = AcceptRun(sequences: sequences(first, count), items: payload)
        if random.chance(10) { clients[client].next += UInt64(count) }  // the next one goes out before the answer
        step(
            target, .submit(session: session, secret: ReplicaGroup.secret, run: run, reply: UInt64(client)))
        if random.chance(20) { clients[client].next = clients[client].accepted }
    }

    private mutating func cancel(_ client: Int, _ session: SessionID, _ target: MemberNumber) {
        let low = clients[client].accepted - min(clients[client].accepted, UInt64(random.below(8)))
        step(
            target,
            .cancel(session: session, secret: ReplicaGroup.secret, sequences: sequences(low, 1 + random.below(4))))
    }

    private mutating func acknowledge(_ client: Int, _ session: SessionID, _ target: MemberNumber) {
        let state = clients[client]
        var lowest = state.lowest
        while state.outcomes[lowest] != nil { lowest += 1 }
        clients[client].lowest = lowest
        let known = state.outcomes.keys.filter { $0 >= lowest }.sorted().prefix(4)
        step(
            target,
            .ack(
                session: session, secret: ReplicaGroup.secret, runs: known.map { sequences($0, 1) },
                lowestOpen: lowest))
    }

    /// A stage is done with something, perhaps with something that another one is done with too.
    mutating func finish() {
        guard !work.isEmpty, let target = someReplica() else { return }
        let place = random.below(work.count)
        let run = work[place]
        if target == group.seats.primary && random.chance(80) { work.remove(at: place) }
        value += 1000
        let outcome = RunOutcome.values(items(run.items.count, from: value), filtered: nil)
        step(
            target,
            .completed(
                session: run.requests.session,
                runs: [OutcomeRun(sequences: run.requests.sequences, outcome: outcome)]))
    }
}
