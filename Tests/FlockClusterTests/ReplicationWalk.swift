// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

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

    // MARK: Views

    /// Every view has its own epoch; every member installs it some time later, or skips it for a newer one.
    mutating func change(_ body: (inout PartitionSeats) -> Void) {
        let epoch = group.seats.epoch
        body(&group.seats)
        group.seats.epoch = epoch + 1
        group.seats.inSync.sort()
        group.seats.learners.sort()
        group.minimum = 2
        if group.seats.primary.map({ group.places[$0]?.isUp != true || !group.seats.inSync.contains($0) }) ?? true {
            group.seats.primary = group.seats.inSync.first { group.places[$0]?.isUp == true }
        }
        for number in group.seats.inSync where group.places[number]?.isUp == true {
            let has = group.replica(number).lastIndex
            expect(has >= committed, "P2: \(number) is in sync with \(has) of \(committed) entries")
        }
        for number in group.places.keys.sorted() {
            let delay = Duration.milliseconds(Int64(random.below(random.chance(20) ? 400 : 20)))
            installs.append((group.now + delay, number, group.seats))
        }
    }

    var live: [MemberNumber] { group.places.keys.sorted().filter { group.places[$0]?.isUp == true } }

    mutating func control() {
        let seats = group.seats
        for report in group.reports where random.chance(80) {
            switch report {
            case .caughtUp(_, seats.epoch, let learner) where seats.learners.contains(learner):
                change {
                    $0.learners.removeAll { $0 == learner }
                    $0.inSync.append(learner)
                }
            case .lagging(_, seats.epoch, let slow) where seats.inSync.count > 2 && slow != seats.primary:
                change {
                    $0.inSync.removeAll { $0 == slow }
                    $0.learners.append(slow)
                }
            default: continue
            }
            break
        }
        group.reports = []
        guard seats == group.seats else { return }
        let copies = seats.inSync.count + seats.learners.count
        if copies < 3, let fresh = live.first(where: { !seats.holds($0) }) {
            return change { $0.learners.append(fresh) }
        }
        switch random.below(1600) {
        case 0..<8:  // hand over, or a suspicion of the primary
            let next = seats.inSync[random.below(seats.inSync.count)]
            change { $0.primary = next }
        case 8..<12 where seats.inSync.count > 2:  // suspicion of a backup
            let gone = seats.inSync[random.below(seats.inSync.count)]
            change { $0.inSync.removeAll { $0 == gone } }
        case 12..<15 where !seats.learners.isEmpty: change { $0.learners.removeFirst() }
        case 15..<18: crash()
        default: return
        }
    }

    /// One process loses its memory. Only while another complete copy is there: f is 1.
    mutating func crash() {
        let seats = group.seats
        let complete = seats.inSync.filter { group.places[$0]?.isUp == true }
        guard let victim = live.randomElement(using: &random) else { return }
        guard !complete.contains(victim) || complete.count >= 2 else { return }
        crashes += 1
        group.places[victim] = nil
        work.removeAll()  // the stages were on all nodes; what they held comes back with the next primary
        group.add(member(nextMember), ahead: random.next() % 1_000_000_000_000)
        nextMember += 1
        change {
            $0.inSync.removeAll { $0 == victim }
            $0.learners.removeAll { $0 == victim }
            if $0.primary == victim { $0.primary = nil }
        }
        // The work of a primary that goes on is sent again by its dispatcher.
        if let primary = group.seats.primary, group.replica(primary).isServing {
            work = group.replica(primary).openRuns()
        }
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

    /// No faults any more, but learners are still let in.
    private mutating func heal() {
        for case .caughtUp(_, group.seats.epoch, let learner) in group.reports
        where group.seats.learners.contains(learner) {
            change {
                $0.learners.removeAll { $0 == learner }
                $0.inSync.append(learner)
            }
        }
        group.reports = []
        let seats = group.seats
        if seats.inSync.count + seats.learners.count < 3, let fresh = live.first(where: { !seats.holds($0) }) {
            change { $0.learners.append(fresh) }
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
}

extension ReplicationWalk {
    // MARK: Clients and stages

    private mutating func someReplica() -> MemberNumber? {
        if random.chance(85) { return group.seats.primary }
        return live.randomElement(using: &random)
    }

    private mutating func act(_ client: Int, isHealed: Bool) {
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
    private mutating func finish() {
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

    /// After the last fault: all that was accepted has an outcome, all replicas are equal, nothing is left over.
    mutating func end() {
        lossPercent = 0
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

/// A rule of replication that is left out.
enum Mutant: CaseIterable {
    case awaitsInSync
    case checksEpoch
    case publishesCommittedOnly
    case dedupsOutcomes
    case dedupsAfterPrimaryChange
    case waitsForReportedLearner
    case refusesBelowMinimum
    case servesAfterEpochEntry
    case usesPartitionTime

    func leaveOut(of rules: inout Rules) {
        switch self {
        case .awaitsInSync: rules.awaitsInSync = false
        case .checksEpoch: rules.checksEpoch = false
        case .publishesCommittedOnly: rules.publishesCommittedOnly = false
        case .dedupsOutcomes: rules.dedupsOutcomes = false
        case .dedupsAfterPrimaryChange: rules.dedupsAfterPrimaryChange = false
        case .waitsForReportedLearner: rules.waitsForReportedLearner = false
        case .refusesBelowMinimum: rules.refusesBelowMinimum = false
        case .servesAfterEpochEntry: rules.servesAfterEpochEntry = false
        case .usesPartitionTime: rules.usesPartitionTime = false
        }
    }
}

@Suite("Replication, random walks")
struct ReplicationWalkTests {
    private func run(_ seed: UInt64, rules: Rules = .all) -> ReplicationWalk {
        var walk = ReplicationWalk(seed: seed, rules: rules)
        walk.run(4000)
        walk.end()
        return walk
    }

    @Test(
        "replicas agree, and keep what they accepted, whatever the network, crashes and views do",
        arguments: 1...12 as ClosedRange<UInt64>)
    func walk(seed: UInt64) {
        let walk = run(seed)
        #expect(walk.failure == nil, "seed \(seed)")
        #expect(walk.committed > 50, "seed \(seed): only \(walk.committed) entries")
        print("replication walk \(seed): \(walk.summary)")
    }

    @Test(
        "seeds that once failed: a late part of an earlier snapshot, a view under way at the end",
        arguments: [15_765_295_795_600_917_904, 9_670_416_686_855_354_241])
    func pinned(seed: UInt64) { #expect(run(seed).failure == nil) }

    @Test("seeds that nobody tried before do as well")
    func freshSeeds() {
        for _ in 0..<4 {
            let seed = UInt64.random(in: 1000...UInt64.max)
            print("replication walk: fresh seed \(seed)")
            #expect(run(seed).failure == nil, "seed \(seed)")
        }
    }

    @Test(
        "each rule is needed: without it some walk goes wrong",
        arguments: Mutant.allCases)
    func mutants(mutant: Mutant) {
        var rules = Rules.all
        mutant.leaveOut(of: &rules)
        for seed in 1...60 as ClosedRange<UInt64> {
            guard let failure = run(seed, rules: rules).failure else { continue }
            print("without \(mutant), seed \(seed): \(failure)")
            return
        }
        Issue.record("nobody misses \(mutant)")
    }
}
