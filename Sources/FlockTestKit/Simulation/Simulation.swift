// Flockwork · Apache-2.0 · see LICENSE

// A whole cluster in one thread: real nodes' logic, virtual time, a network and processes that fail as a seed says.
// After every step the checker looks at all of it at once. Nothing here may depend on anything but the seed.

package import FlockCluster
internal import FlockWire

/// What happens in a simulation. What is large lies in a box: events are moved about in the queue.
enum SimulationEvent {
    indirect case message(to: Int, run: UInt32, from: Int, NodeMessage)
    case wake(Int, run: UInt32)
    indirect case persisted(Int, run: UInt32, VoterRecord, token: UInt64)
    case reset(Int, run: UInt32, peer: Int)
    indirect case executed(Int, run: UInt32, job: UInt64, OpenRun, StageFate)
    indirect case call(to: Int, client: Int, number: UInt64, ClientCall)
    indirect case answer(client: Int, from: Int, number: UInt64, ClientAnswer)
    indirect case push(client: Int, from: Int, PartitionID, SessionID, [OutcomeRun])
    case refused(client: Int, number: UInt64)
    case client(Int, session: Int)
    case nudge(Int, session: Int)
    indirect case fault(FaultEvent)
    case synced(Int, run: UInt32, segment: UInt64)
    /// Instances were made, or ended.
    indirect case placed(Int, run: UInt32, [Int])
}

/// What the fault scheduler does at a time.
enum FaultEvent {
    case start(Int)
    case next
    case mend([(from: Int, to: Int)])
    case fair
    case notSlow(Int)
    case burstOver
    case heal
    case check(Liveness)
}

/// Times after the last fault at which something must be true.
enum Liveness { case resumption, primaries, acceptRate, members, stop, recollect, end }

/// One run of a simulated cluster.
package final class Simulation {
    package let seed: UInt64
    package let profile: FaultProfile
    package let rules: Rules
    /// Of the processes, by place.
    let names: [NodeID]
    // One thread runs it all, and no method of a part calls back: checking each access for exclusivity at run time took
    // a seventh of all instructions.
    @exclusivity(unchecked) var queue = EventQueue<SimulationEvent>()
    @exclusivity(unchecked) var random: SimulatedRandom
    @exclusivity(unchecked) var networkRandom: SimulatedRandom
    @exclusivity(unchecked) var stageRandom: SimulatedRandom
    @exclusivity(unchecked) var diskRandom: SeededRandom
    @exclusivity(unchecked) var network: SimulatedNetwork
    @exclusivity(unchecked) var processes: [SimulatedProcess] = []
    @exclusivity(unchecked) var clients: [SimulatedClient] = []
    @exclusivity(unchecked) var god: GodView
    @exclusivity(unchecked) var history = HistoryChecker()
    @exclusivity(unchecked) var now: UInt64 = 0
    @exclusivity(unchecked) var hash = EventHash()
    @exclusivity(unchecked) package internal(set) var report: SimulationReport
    /// Says what happens, if somebody wants to read it.
    package var trace: ((String) -> Void)? {
        didSet { god.trace = trace }
    }
    /// Gets every line of every client.
    package var historySink: ((HistoryLine) -> Void)?
    var limits = Limits()
    @exclusivity(unchecked) var directives: [NodeDirective] = []
    @exclusivity(unchecked) var faults: FaultScheduler
    @exclusivity(unchecked) var isLoaded = true
    /// Messages between two nodes arrive in order, as over one connection; in every other run they do not.
    let isOrdered: Bool
    /// What all nodes run.
    let plan: StagePlan
    /// When a request killed a process last.
    @exclusivity(unchecked) var diedOfRequestAt: UInt64?
    @exclusivity(unchecked) var isOver = false
    /// Outcomes when the run was to end first, or was put off last.
    @exclusivity(unchecked) var completedAtEnd = 0
    /// In the third second after all was healed: runs that sessions wanted to issue, and runs that were answered.
    @exclusivity(unchecked) var wishes = 0
    @exclusivity(unchecked) var answers = 0
    @exclusivity(unchecked) var isHealed = false
    var healedAt: UInt64 = 0

    /// A run that is ready to begin.
    package init(seed: UInt64, profile: FaultProfile, rules: Rules = .all) {
        self.seed = seed
        self.profile = profile
        self.rules = rules
        random = SimulatedRandom(seed: seed)
        networkRandom = random.split()
        isOrdered = random.chance(500)
        plan = profile.placement.plan(of: seed)
        stageRandom = random.split()
        // Not drawn from the others, whose numbers stay the same with disks and without.
        diskRandom = SeededRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15)
        let slots = profile.nodes + (profile.join > 0 ? 2 : 0)
        names = (0..<slots).map { NodeID("n\($0)") }
        network = SimulatedNetwork(
            ends: slots + profile.clients, shortest: 200 * Virtual.microsecond, longest: 2 * Virtual.millisecond)
        god = GodView(
            nodes: slots, partitions: profile.partitions,
            comparesStates: profile.comparesStates || seed % 16 == 0,
            durable: profile.durablePartitions)
        faults = FaultScheduler(random: random.split(), partitions: profile.partitions)
        report = SimulationReport(seed: seed)
        // Where few processes have all the work, one that has a suspect request dies of fresh ones beside it.
        if profile.diesOfRequestsOnly, plan.isEverywhere { history.isDeadly = { PayloadKind.isDeadly($0) } }
        limits.outcomeTimeToLive = .nanoseconds(Int64(profile.timeToLive))
        limits.attemptTime = .seconds(5)
        limits.creditItems = 64
        limits.sessionWindow = 512
        for place in 0..<slots { processes.append(makeProcess(place)) }
        for id in 0..<profile.clients { clients.append(makeClient(id)) }
    }

    /// A run of a mutant under its own faults.
    package convenience init(seed: UInt64, mutant: Mutant) {
        self.init(seed: seed, profile: mutant.profile, rules: mutant.rules)
    }

    private func makeProcess(_ place: Int) -> SimulatedProcess {
        var process = SimulatedProcess(name: names[place], clock: makeClock(at: 0))
        process.isGone = place >= profile.nodes
        return process
    }

    func makeClock(at time: UInt64) -> SimulatedClock {
        let drift = profile.driftPartsPerMillion
        return SimulatedClock(
            start: time, offset: random.between(1, 100) * Virtual.second,
            driftPartsPerMillion: drift == 0 ? 0 : random.below(2 * drift + 1) - drift)
    }

    private func makeClient(_ id: Int) -> SimulatedClient {
        var own = random.split()
        let sessions = (0..<profile.sessions).map { number in
            ClientSession(
                partition: PartitionID((id * profile.sessions + number) % profile.partitions),
                secret: SessionSecret(own.next(), own.next()), guess: own.below(profile.nodes),
                isLazy: own.chance(200))
        }
        return SimulatedClient(id: id, random: own, sessions: sessions)
    }

    // MARK: Running

    /// Runs to the end, or to the first violation.
    @discardableResult
    package func run() -> SimulationReport {
        for place in 0..<profile.nodes {
            queue.push(.fault(.start(place)), at: random.below(200 * Virtual.millisecond))
        }
        for (place, client) in clients.enumerated() {
            for session in client.sessions.indices {
                queue.push(.client(place, session: session), at: Virtual.second + random.below(Virtual.second / 4))
            }
        }
        scheduleFaults()
        while let due = queue.pop() {
            now = due.time
            report.counts.events += 1
            handle(due.event)
            if !god.violations.isEmpty || !history.violations.isEmpty { break }
            if isOver { break }
        }
        report.hash = hash
        report.violations = god.violations + history.violations
        report.counts.accepted = history.accepted
        report.counts.completed = history.completed
        report.counts.views = god.latestVersion
        report.counts.acceptGaps = god.acceptGaps
        report.counts.doubleGaps = god.doubleGaps
        report.counts.serveGaps = god.serveGaps
        return report
    }

    private func handle(_ event: SimulationEvent) {
        hash.combine(now)
        switch event {
        case .message(let to, let run, let from, let message):
            hash.combine(UInt64(to) << 8 | UInt64(from))
            guard isThere(to, run) else { return }
            guard !postpone(event, to) else { return }
            god.before(message, at: processes[to].node)
            step(to, .message(from: processes[from].name, message))
        case .wake(let place, let run):
            guard isThere(place, run), processes[place].wakeAt == now else { return }
            guard !postpone(event, place) else { return }
            processes[place].wakeAt = .max
            step(place, .tick)
        case .persisted(let place, let run, let record, let token):
            guard isThere(place, run) else { return }
            processes[place].disk.record = record
            guard !postpone(event, place) else { return }
            step(place, .persisted(token))
        case .reset(let place, let run, let peer):
            guard isThere(place, run), !postpone(event, place) else { return }
            step(place, .connectionReset(processes[peer].name))
        case .executed(let place, let run, let job, let open, let fate):
            guard isThere(place, run), !postpone(event, place) else { return }
            execute(place, job, open, fate)
        case .call(let to, let client, let number, let call):
            hash.combine(number)
            guard processes[to].isUp else {
                queue.push(.refused(client: client, number: number), at: now + Virtual.millisecond)
                return
            }
            guard !postpone(event, to) else { return }
            handle(call: call, connection: UInt64(client), number: number, at: to)
        case .answer(let client, let from, let number, let answer):
            hash.combine(number)
            answered(client, from: from, number, answer)
        case .push(let client, let from, let partition, let session, let runs):
            hash.combine(UInt64(partition.rawValue))
            pushed(client, from: from, partition, session, runs)
        case .refused(let client, let number): refused(client, number)
        case .synced(let place, let run, let segment):
            guard isThere(place, run) else { return }
            if processes[place].pausedUntil > now {
                // Nobody says it again: it must not be late for a pause that was cut short.
                return queue.push(event, at: min(processes[place].pausedUntil, now + 10 * Virtual.millisecond))
            }
            synced(place, segment)
        case .placed(let place, let run, let counts):
            guard isThere(place, run), !postpone(event, place) else { return }
            placed(place, counts)
        case .client(let client, let session): wakeClient(client, session)
        case .nudge(let client, let session): act(client, session)
        case .fault(let fault): handle(fault)
        }
    }

    private func isThere(_ place: Int, _ run: UInt32) -> Bool {
        processes[place].run == run && processes[place].isUp
    }

    /// A process that is paused meets everything when it wakes up, in order.
    private func postpone(_ event: SimulationEvent, _ place: Int) -> Bool {
        guard processes[place].pausedUntil > now else { return false }
        if case .wake = event { processes[place].wakeAt = processes[place].pausedUntil }
        queue.push(event, at: processes[place].pausedUntil)
        return true
    }

    // MARK: Nodes

    func step(_ place: Int, _ event: NodeEvent) {
        let local = Tick(nanoseconds: processes[place].clock.local(now))
        processes[place].node?.step(event, now: local, out: &directives)
        check(place)
        var out: [NodeDirective] = []
        swap(&out, &directives)
        // Taken out one by one: a copy of each would have to be made and thrown away.
        if out.count > 1 { out.reverse() }
        while let directive = out.popLast() { carryOut(directive, place) }
        swap(&out, &directives)
        if profile.isDurable { turn(place) }
        schedule(place)
    }

    private func check(_ place: Int) {
        guard let node = processes[place].node else { return }
        hash.combine(UInt64(place))
        god.after(node, at: place, now: now, processes: processes, hash: &hash)
    }

    func schedule(_ place: Int) {
        guard let deadline = processes[place].node?.nextDeadline, deadline != .never else { return }
        let due = max(processes[place].clock.global(deadline.nanoseconds), now + 1)
        guard due < processes[place].wakeAt else { return }
        processes[place].wakeAt = due
        queue.push(.wake(place, run: processes[place].run), at: due)
    }

    private func carryOut(_ directive: NodeDirective, _ place: Int) {
        let run = processes[place].run
        switch directive {
        case .send(let name, let message):
            guard let to = names.firstIndex(of: name) else { return }
            send(message, from: place, to: to)
        case .persist(let record, let token):
            processes[place].disk.underWay = record
            let time = random.between(100 * Virtual.microsecond, 2 * Virtual.millisecond)
            // One after another: a later record never lies under an earlier one.
            let done = max(now, processes[place].disk.busyUntil) + time
            processes[place].disk.busyUntil = done
            queue.push(.persisted(place, run: run, record, token: token), at: done)
        case .keep, .keepSnapshot, .dropCopy: keep(directive, place)
        case .answer(let connection, let number, let answer):
            if case .accepted = answer { noteAccepted(place, client: Int(connection), number) }
            guard let arrival = arrival(from: place, to: processes.count + Int(connection)) else { return }
            queue.push(.answer(client: Int(connection), from: place, number: number, answer), at: arrival)
        case .push(let connection, let partition, let session, let runs):
            guard let arrival = arrival(from: place, to: processes.count + Int(connection)) else { return }
            queue.push(.push(client: Int(connection), from: place, partition, session, runs), at: arrival)
        case .place(let counts): self.place(counts, at: place)
        case .execute(let job, _, let open):
            checkInstances(place)
            // Stages hand over what a batch has finished; a run may be in several.
            var rest = open
            while rest.items.count > 1, stageRandom.chance(200) {
                let first = 1 + stageRandom.below(rest.items.count - 1)
                begin(place, job, rest.slice(from: 0, count: first))
                rest = rest.slice(from: first, count: rest.items.count - first)
            }
            begin(place, job, rest)
        case .revoke: break
        case .admitted(let member): trace?("\(now) n\(place) is \(member)")
        case .evicted:
            report.counts.evictions += 1
            trace?("\(now) n\(place) evicted")
            if profile.isConnected { violated("L4", "n\(place) was evicted, though it ran and answered") }
            stop(place, restartAfter: 50 * Virtual.millisecond)
        case .left:
            trace?("\(now) n\(place) left")
            left(place)
        case .votesOn: break
        case .refused(let error): violated("L4", "n\(place) refuses: \(error)")
        case .lost(let partitions):
            god.lost(partitions, now: now)
        }
    }

    /// When a message of a connection between a client and a node arrives: in order; never if it is lost.
    func arrival(from sender: Int, to receiver: Int) -> UInt64? {
        let (delay, _) = network.send(from: sender, to: receiver, random: &networkRandom)
        return delay.map { network.inOrder(now + $0, from: sender, to: receiver) }
    }

    func send(_ message: NodeMessage, from place: Int, to: Int) {
        let run = processes[to].run
        let (arrives, second) = network.send(from: place, to: to, random: &networkRandom)
        guard processes[to].isUp, let delay = arrives else { return }
        let first = isOrdered ? network.inOrder(now + delay, from: place, to: to) - now : delay
        queue.push(.message(to: to, run: run, from: place, message), at: now + first)
        if let again = second { queue.push(.message(to: to, run: run, from: place, message), at: now + again) }
    }

    /// A node says `accepted`: it may not, with too few copies.
    private func noteAccepted(_ place: Int, client: Int, _ number: UInt64) {
        guard let call = clients[client].call(number), let node = processes[place].node else { return }
        let partition = clients[client].sessions[call.session].partition
        god.accepted(partition, by: node, now: now)
    }
}
