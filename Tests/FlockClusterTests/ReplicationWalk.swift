// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

/// Replicas of one partition over a network that loses, doubles and reorders, with processes that crash and views that
/// arrive late; clients that retry; a checker that knows everything.
struct ReplicationWalk {
    struct Client {
        var session: SessionID?
        var next: UInt64 = 0
        var accepted: UInt64 = 0
        var waiting = false
        var waitsUntil = Tick.zero
        var outcomes: [UInt64: String] = [:]
        var lowest: UInt64 = 0
    }

    let seed: UInt64
    var random: Seeded
    var group: ReplicaGroup
    var clients: [Client]
    var nextMember = 5
    /// What went wrong first; the walk stops then, since all that follows would be wrong too.
    let verdict = FirstFailure()
    var failure: String? { verdict.text }
    /// Views under way, disks at work.
    var installs: [(due: Tick, member: MemberNumber, seats: PartitionSeats)] = []
    var flushes: [(due: Tick, member: MemberNumber, through: UInt64, epoch: UInt64)] = []
    var messages: [(due: Tick, from: MemberNumber, to: MemberNumber, message: ReplicationMessage)] = []
    var work: [OpenRun] = []
    var hashes: [UInt64: UInt64] = [:]
    var digests: [UInt64: UInt64] = [:]
    var committed: UInt64 = 0
    var value: UInt64 = 0
    var lossPercent = 15
    var crashes = 0
    var primaries = 0
    var snapshots = 0

    init(seed: UInt64, rules: Rules = .all) {
        self.seed = seed
        random = Seeded(seed)
        var limits = Limits()
        limits.sessionWindow = 64
        limits.openBytes = 6000
        limits.reservedResultBytes = 16
        limits.outcomeTimeToLive = .seconds(2)
        limits.replicationMessageBytes = 300
        limits.replicationWindowBytes = 1500
        limits.replicationLogBytes = random.chance(50) ? 2000 : 20_000
        limits.uncommittedEntries = 100
        group = ReplicaGroup(limits, members: 0, isDurable: random.chance(30), rules: rules)
        for number in 1...4 { group.add(member(number), ahead: random.next() % 1_000_000_000_000) }
        clients = Array(repeating: Client(), count: 3)
        change { $0 = PartitionSeats(epoch: 0, primary: member(1), inSync: [1, 2, 3].map(member), generation: 1) }
    }

    func expect(_ condition: Bool, _ what: @autoclosure () -> String) {
        if !condition && failure == nil { verdict.text = what() }
    }

    var summary: String {
        let done = clients.reduce(0) { $0 + $1.outcomes.count }
        return "\(committed) entries, \(group.seats.epoch) epochs, \(primaries) primaries, \(crashes) crashes, "
            + "\(snapshots) snapshots, \(done) outcomes\(group.isDurable ? ", durable" : "")"
    }

    // MARK: Steps

    mutating func step(_ number: MemberNumber, _ event: PartitionEvent, client: Int? = nil) {
        guard group.places[number]?.isUp == true, failure == nil else { return }
        let out = group.step(number, event)
        for directive in out { carryOut(directive, number, client) }
        for (from, to, message) in group.network { post(from, to, message) }
        group.network = []
        check(number)
    }

    private mutating func post(_ from: MemberNumber, _ to: MemberNumber, _ message: ReplicationMessage) {
        if random.chance(lossPercent) { return }
        for _ in 0..<(random.chance(lossPercent / 2) ? 2 : 1) {
            let delay = Duration.milliseconds(Int64(random.below(random.chance(lossPercent) ? 150 : 8)))
            messages.append((group.now + delay, from, to, message))
        }
    }

    private mutating func carryOut(_ directive: PartitionDirective, _ number: MemberNumber, _ client: Int?) {
        switch directive {
        case .opened(let reply, let session):
            clients[Int(reply)].session = session
            clients[Int(reply)].waiting = false
        case .accepted(let reply, let through):
            let seats = group.replica(number).seats
            expect(seats.inSync.count >= 2, "S6: accepted by \(number) in \(seats)")
            clients[Int(reply)].accepted = max(clients[Int(reply)].accepted, through + 1)
            clients[Int(reply)].next = max(clients[Int(reply)].next, through + 1)
            clients[Int(reply)].waiting = false
        case .refused(let reply, _, _): clients[Int(reply)].waiting = false
        case .failed(let reply, let error):
            expect(error.code != .notFound, "a session is unknown at \(number): \(error)")
            clients[Int(reply)].waiting = false
        case .dispatch(let run): dispatched(run)
        case .serving:
            primaries += 1
            for run in group.replica(number).openRuns() { dispatched(run) }
        case .deliver(let subscriber, _, let runs): delivered(runs, to: Int(subscriber))
        case .persist(let first, let entries):
            guard let last = entries.last else { return }
            expect(entries[0].index == first, "persist from \(first): \(entries[0].index)")
            flush(number, last.index, last.epoch)
        case .persistSnapshot(let parts): flush(number, parts[0].index, parts[0].entryEpoch)
        default: return
        }
    }

    private mutating func flush(_ number: MemberNumber, _ through: UInt64, _ epoch: UInt64) {
        flushes.append((group.now + .milliseconds(Int64(random.below(12))), number, through, epoch))
    }

    private mutating func dispatched(_ run: OpenRun) {
        for index in 0..<run.items.count {
            let sequence = run.requests.sequences.first + UInt64(index)
            expect(
                number(run.items, index) == run.requests.session.rawValue << 32 + sequence,
                "S3: payload of \(sequence) in \(run.requests)")
        }
        work.append(run)
    }

    private mutating func delivered(_ runs: [OutcomeRun], to client: Int) {
        for run in runs {
            for (sequence, outcome) in PartitionModel.outcomes(of: run) {
                let text = "\(outcome)"
                if outcome == .failed(.expired) { continue }
                let old = clients[client].outcomes.updateValue(text, forKey: sequence)
                expect(old == nil || old == text, "S2: \(sequence) of client \(client): \(old ?? ""), then \(text)")
            }
        }
    }

    /// Every replica commits the same entries, and they make the same state.
    private mutating func check(_ number: MemberNumber) {
        let replica = group.replica(number)
        expect(replica.violation == nil, "\(number): \(replica.violation ?? "")")
        let index = replica.committedIndex
        guard replica.role != .none, index > 0 else { return }
        committed = max(committed, index)
        for known in replica.history.items.suffix(20) {
            let old = hashes.updateValue(known.hash, forKey: known.index)
            expect(old == nil || old == known.hash, "P3: \(number) has another entry \(known.index)")
        }
        let digest = replica.stateDigest
        let old = digests.updateValue(digest, forKey: index)
        expect(old == nil || old == digest, "\(number) made another state of the entries up to \(index)")
        let proposed = group.places[number]?.budget.proposed ?? 0
        expect(replica.role == .primary || proposed == 0, "\(number) still counts \(proposed) bytes as proposed")
    }

    mutating func run(_ milliseconds: Int, isHealed: Bool = false) {
        for _ in 0..<milliseconds where failure == nil {
            group.now = group.now + .milliseconds(1)
            arrive()
            for number in live {
                guard let place = group.places[number] else { continue }
                let tick = Tick(nanoseconds: group.now.nanoseconds + place.ahead)
                if place.replica.nextDeadline <= tick { step(number, .tick) }
            }
            if isHealed { heal() } else { control() }
            for client in clients.indices where random.chance(20) { act(client, isHealed: isHealed) }
            if random.chance(30) { finish() }
        }
    }

    private mutating func arrive() {
        let now = group.now
        let views = installs.filter { $0.due <= now }
        installs.removeAll { $0.due <= now }
        for view in views { step(view.member, .seats(view.seats, minimumInSync: 2)) }
        let synced = flushes.filter { $0.due <= now }
        flushes.removeAll { $0.due <= now }
        for flush in synced { step(flush.member, .persisted(through: flush.through, epoch: flush.epoch)) }
        let arrived = messages.filter { $0.due <= now }
        messages.removeAll { $0.due <= now }
        for message in arrived {
            if case .snapshot = message.message { snapshots += 1 }
            step(message.to, .replication(from: message.from, message.message))
        }
    }

    /// After the last fault: all that was accepted has an outcome, all replicas are equal, nothing is left over.
    mutating func end() {
        lossPercent = 0
        // What `control` did not listen to is said again in the next view; a `ControlNode` repeats it until then.
        change { _ in }
        run(3000, isHealed: true)
        guard let primary = group.seats.primary else { return expect(false, "no primary in \(group.seats)") }
        work = group.replica(primary).openRuns()
        for _ in 0..<50 where !work.isEmpty && failure == nil {
            run(20, isHealed: true)
            work = group.replica(primary).openRuns()
        }
        // A learner may have been let in at the very end: its view has to arrive (seed 9670416686855354241).
        for _ in 0..<50 where group.replica(primary).seats != group.seats { run(20, isHealed: true) }
        // Cancelled by nobody, closed by their clients.
        let lead = group.replica(primary)
        expect(lead.isServing && lead.seats == group.seats, "\(primary) does not serve: \(group.seats)")
        expect(lead.openItems == 0, "S1: \(lead.openItems) items have no outcome")
        for client in clients.indices {
            guard let session = clients[client].session else { continue }
            let slot = lead.sessions.slot(of: session)
            let next = slot.map { lead.sessions[$0].next } ?? 0
            expect(slot != nil && next >= clients[client].accepted, "S1: client \(client) was accepted beyond \(next)")
            step(primary, .close(session: session, secret: ReplicaGroup.secret))
        }
        run(1500, isHealed: true)
        for number in live {
            guard let place = group.places[number] else { continue }
            let has = place.replica.committedIndex
            let isEqual = !group.seats.holds(number) || has == group.replica(primary).committedIndex
            expect(isEqual, "\(number) knows \(has) of \(committed)")
            let budget = place.budget
            expect(
                budget.open == 0 && budget.unread == 0 && budget.proposed == 0, "\(number) still counts \(budget)")
            let kept = place.replica.log.last - place.replica.log.start
            expect(kept <= 2 || number != primary, "\(number) keeps \(kept) entries that all have")
        }
    }
}

extension Seeded: RandomNumberGenerator {}

/// What went wrong first in a walk.
final class FirstFailure {
    var text: String?
}
