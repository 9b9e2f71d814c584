// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

// Faults happen to processes and to the network, and end again.

extension Simulation {
    func scheduleFaults() {
        queue.push(.fault(.next), at: profile.faultsBegin)
        queue.push(.fault(.heal), at: profile.faultsEnd)
        queue.push(.fault(.check(.end)), at: profile.end)
    }

    func handle(_ event: FaultEvent) {
        switch event {
        case .start(let place): start(place)
        case .next:
            guard !isHealed else { return }
            if let kind = faults.draw(profile) { begin(kind) }
            let pause = faults.random.between(profile.faultInterval / 4, profile.faultInterval * 7 / 4)
            queue.push(.fault(.next), at: now + pause)
        case .mend(let ways):
            guard !isHealed else { return }
            for way in ways { network.mend(from: way.from, to: way.to) }
        case .fair: network.weather = .fair
        case .notSlow(let end): network.slowness[end] = 0
        case .burstOver: break
        case .heal: heal()
        case .check(let what): check(what)
        }
    }

    private func begin(_ kind: FaultKind) {
        let duration = faults.random.between(100 * Virtual.millisecond, profile.longestCut)
        let nodes = processes.indices.filter { processes[$0].isUp }
        guard !nodes.isEmpty else { return }
        let node = nodes[faults.random.below(nodes.count)]
        let other = nodes[faults.random.below(nodes.count)]
        trace?("\(now) fault \(kind) n\(node) n\(other)")
        switch kind {
        case .crash: crash(node)
        case .voterLoss: loseVoter(node)
        case .pause:
            let time = faults.random.between(50 * Virtual.millisecond, profile.longestPause)
            processes[node].pausedUntil = max(processes[node].pausedUntil, now + time)
            report.counts.pauses += 1
        case .cut: if node != other { cut([(node, other), (other, node)], for: duration) }
        case .oneWayCut: if node != other { cut([(node, other)], for: duration) }
        case .isolation:
            let ways = nodes.filter { $0 != node }.flatMap { [(node, $0), ($0, node)] }
            cut(ways, for: duration)
        case .clientCut:
            let client = processes.count + faults.random.below(profile.clients)
            cut([(node, client), (client, node)], for: duration)
        case .badWeather:
            network.weather = SimulatedNetwork.Weather(
                lossPerMille: faults.random.below(profile.lossPerMille + 1),
                doublePerMille: faults.random.below(profile.doublePerMille + 1),
                latePerMille: faults.random.below(max(profile.latePerMille, 1)), longDelay: profile.longestDelay)
            queue.push(.fault(.fair), at: now + duration)
        case .slow:
            network.slowness[node] = faults.random.between(5 * Virtual.millisecond, 80 * Virtual.millisecond)
            queue.push(.fault(.notSlow(node)), at: now + duration)
        case .join:
            guard let fresh = processes.indices.first(where: { processes[$0].isGone && !processes[$0].isUp }) else {
                return
            }
            processes[fresh].isGone = false
            report.counts.joins += 1
            start(fresh)
        case .leave: leave(node)
        case .burst: faults.burstUntil = now + duration
        case .stageDeath: faults.stagesDieUntil = now + duration
        case .reset:
            for peer in nodes where peer != node { reset(peer, of: node) }
        case .outage:
            report.counts.outages += 1
            for place in nodes { crash(place) }
        case .diskLoss: crash(node, isWiped: true)
        case .diskFailure: failDisk(node)
        case .replaceVoter:
            guard let voters = processes[node].node?.view?.voters, !voters.isEmpty else { return }
            // The one without a record first: that is what an operator would do.
            let lost = processes.first { $0.isWithoutRecord && voters.contains($0.name) }?.name
            let old = lost ?? voters[faults.random.below(voters.count)]
            step(node, .command(.replaceVoter(old, by: processes[other].name)))
        case .replication:
            // Never less than what the others were promised to survive.
            step(node, .command(.replication(factor: 3 + faults.random.below(2), minimumInSync: 2)))
        case .drain, .suspend, .addVoter, .removeVoter: order(kind, by: node, of: other)
        }
    }

    private func cut(_ ways: [(from: Int, to: Int)], for duration: UInt64) {
        for way in ways { network.cut(from: way.from, to: way.to) }
        report.counts.cuts += 1
        queue.push(.fault(.mend(ways)), at: now + duration)
    }

    private func reset(_ place: Int, of peer: Int) {
        let time = faults.random.between(Virtual.millisecond, 8 * Virtual.millisecond)
        guard !network.isCut(from: peer, to: place) else { return }
        queue.push(.reset(place, run: processes[place].run, peer: peer), at: now + time)
    }

    // MARK: Processes

    /// Kills a process, if no partition loses more copies by it than it may. `isWiped`: its disk is lost with it.
    func crash(_ place: Int, isWiped: Bool = false) {
        faults.recount(god, processes)
        let disks = processes.map(\.disk)
        let member = processes[place].node?.member
        // What is on a disk outlives the process.
        var exposed = (member.map { faults.exposed($0, god, disks) } ?? []).filter { !profile.isDurable($0) }
        if isWiped { exposed = faults.exposed(on: names[place], god, disks) }
        let bearable = faults.bearable(god) + profile.beyond
        guard exposed.allSatisfy({ faults.destroyed[$0] < bearable }) else { return }
        for number in exposed { faults.destroyed[number] += 1 }
        let voters = (0..<profile.voters).count { $0 != place && processes[$0].isUp }
        if let member { god.crashed(member, isDecidable: voters > profile.voters / 2, now: now) }
        report.counts.crashes += 1
        let down = faults.random.between(profile.shortestDown, profile.longestDown)
        stop(place, restartAfter: down)
        if isWiped { processes[place].files = SimulatedDisk() }
        guard faults.random.chance(profile.resetPerMille) else { return }
        for peer in processes.indices where processes[peer].isUp { reset(peer, of: place) }
    }

    /// Ends a process. Its memory is gone; its disk has what was synced, and perhaps what was being written.
    func stop(_ place: Int, restartAfter pause: UInt64?) {
        processes[place].node = nil
        processes[place].pausedUntil = 0
        processes[place].wakeAt = .max
        processes[place].isLeaving = false
        if let underWay = processes[place].disk.underWay, faults.random.chance(500) {
            processes[place].disk.record = underWay
        }
        processes[place].disk.underWay = nil
        if profile.isDurable { processes[place].files.losePower(&diskRandom) }
        if profile.diskLies, let stale = processes[place].disk.stale { processes[place].disk.record = stale }
        guard let pause else { return }
        queue.push(.fault(.start(place)), at: isHealed ? now + 50 * Virtual.millisecond : now + pause)
    }

    private func loseVoter(_ place: Int) {
        // By the newest view: those that an operator exchanged count no more, and none may be between two sets.
        guard let view = god.latest, view.exchange == nil, view.nextVoters == nil,
            view.voters.contains(processes[place].name), faults.lostVoters < (profile.voters - 1) / 2,
            faults.lostVoters < view.toleratedVoterFailures, !faults.isRemovalOpen(processes)
        else { return }
        crash(place)
        guard !processes[place].isUp else { return }
        faults.lostVoters += 1
        processes[place].disk = VoterDisk()
        processes[place].isWithoutRecord = true
    }

    func start(_ place: Int) {
        guard !processes[place].isUp, !processes[place].isGone else { return }
        processes[place].run += 1
        processes[place].disk.stale = processes[place].disk.record
        processes[place].clock = makeClock(at: now)
        let voters = (0..<profile.voters).map { NodeID("n\($0)") }
        var configuration = ControlConfiguration(
            candidate: Candidate(node: processes[place].name, incarnation: random.next()), voters: voters,
            isBootstrap: true, partitions: profile.partitions)
        configuration.times = profile.times
        configuration.durablePartitions = profile.durablePartitions
        let found = profile.isDurable ? readDisk(place) : nil
        configuration.candidate.disk = found?.recovery.log ?? 0
        configuration.pipelines = [Self.pipeline]
        configuration.candidate.labels = SimulatedPlacement.labels(of: place)
        processes[place].node = RunningNode(
            ClusterNode(
                configuration: configuration, record: processes[place].disk.record, copies: found?.copies ?? [],
                plan: plan, limits: limits, seed: random.next(), rules: rules,
                now: Tick(nanoseconds: processes[place].clock.local(now))))
        if let found {
            processes[place].node?.log = NodeLog(
                after: found.recovery, configuration: Self.segments, limits: limits, rules: rules)
        }
        trace?("\(now) n\(place) starts, run \(processes[place].run)")
        beginInstances(place)
        step(place, .tick)
    }

    private func leave(_ place: Int) {
        // Enough nodes must stay, and voters do.
        let staying = processes.filter { $0.isUp && !$0.isLeaving }.count
        guard place >= profile.voters, staying > profile.voters, !processes[place].isLeaving else { return }
        processes[place].isLeaving = true
        report.counts.leaves += 1
        step(place, .leave)
    }

    func left(_ place: Int) {
        stop(place, restartAfter: nil)
        processes[place].isGone = true
    }

    // MARK: After the faults

    private func heal() {
        trace?("\(now) heal")
        isHealed = true
        network.heal()
        faults.burstUntil = 0
        faults.stagesDieUntil = 0
        for place in processes.indices {
            processes[place].pausedUntil = min(processes[place].pausedUntil, now)
            if !processes[place].isUp && !processes[place].isGone { start(place) }
        }
        healedAt = now
        endSuspension()
        let times: [(Liveness, UInt64)] = [
            (.primaries, 1500), (.acceptRate, 3000), (.stop, 3500), (.members, 5000), (.recollect, 6000),
        ]
        for (what, milliseconds) in times {
            queue.push(.fault(.check(what)), at: now + milliseconds * Virtual.millisecond)
        }
    }

    private func check(_ what: Liveness) {
        if let trace, what != .resumption { describe(trace) }
        switch what {
        case .resumption: endSuspension()
        case .primaries: checkPrimaries()
        case .acceptRate: checkAcceptRate()
        case .stop: isLoaded = false
        case .members:
            guard !waitsForLife(what, profile.longestDown + Virtual.second) else { return }
            checkMembers()
            checkDrained()
            checkPlacement()
        case .recollect: recollect()
        case .end:
            guard !waitsForLife(what, profile.end - profile.faultsEnd), !waitsForSuspects() else { return }
            history.finish(time: now)
            isOver = true
        }
    }

    /// Whether a request has killed a process a moment ago: a fault as others are, and a later one. Where few processes
    /// have all the work they die one after another, and not for ever.
    private func waitsForLife(_ what: Liveness, _ time: UInt64) -> Bool {
        guard let diedOfRequestAt, diedOfRequestAt + time > now, now < 2 * profile.end else { return false }
        queue.push(.fault(.check(what)), at: diedOfRequestAt + time)
        return true
    }

    /// Suspect requests go out one at a time: they are waited for as long as each second brings some outcome.
    private func waitsForSuspects() -> Bool {
        let before = completedAtEnd
        completedAtEnd = history.completed
        let isUnderWay = processes.contains { $0.node?.holdsSuspects == true }
        guard isUnderWay, history.hasOpen, completedAtEnd > before, now < 2 * profile.end else { return false }
        queue.push(.fault(.check(.end)), at: now + Virtual.second)
        return true
    }

    /// Where everything stands, for a person.
    private func describe(_ trace: (String) -> Void) {
        for client in clients {
            for session in client.sessions {
                trace(
                    "  c\(client.id) \(session.partition) \(session.phase) \(session.id) base \(session.base) "
                        + "next \(session.next) held \(session.isDone.count) missing \(session.missing) pending "
                        + "\(session.pending.map { "\($0.first)+\($0.payloads.count)\($0.isCancelled ? "c" : "")" }) "
                        + "guess n\(session.guess) attached \(session.attachedTo ?? -1) lazy \(session.isLazy)")
            }
        }
        for (place, process) in processes.enumerated() {
            guard let node = process.node else { continue }
            trace("  n\(place) \(node.member?.description ?? "-") view \(node.viewVersion) \(node.work)")
        }
        for number in 0..<profile.partitions {
            for process in processes {
                guard let node = process.node, node.mark(of: PartitionID(number)) != nil else { continue }
                trace("  p\(number) \(process.name) \(node.core.describe(PartitionID(number)))")
            }
        }
        guard let latest = god.latest else { return }
        for (number, seats) in latest.partitions.enumerated() { trace("  p\(number) \(seats)") }
    }

    /// L1: every partition has a primary that commits.
    private func checkPrimaries() {
        for number in 0..<profile.partitions where god.lastCommit(of: number) < healedAt {
            let isServed = processes.contains { $0.node?.mark(of: PartitionID(number))?.isServing == true }
            if !isServed { violated("L1", "p\(number) has no primary that commits 1.5 s after all was healed") }
        }
    }

    /// L2: in the third second after all was healed, nine tenths of the runs that sessions want to issue are answered.
    /// Each is counted, so that how often a few clients happen to wake up does not matter.
    private func checkAcceptRate() {
        // In whole runs: of a few dozen one more or less is more than a percent.
        if answers < wishes * 90 / 100 {
            violated("L2", "\(answers) runs answered in a second after the faults, \(wishes) were to be issued")
        }
        report.acceptShare = wishes == 0 ? 1000 : answers * 1000 / wishes
    }

    /// L4: the members are the processes that run.
    private func checkMembers() {
        for process in processes where process.isUp && process.isLeaving {
            violated("L5", "\(process.name) wants to leave, and is not let go 5 s after all was healed")
        }
        guard let latest = god.latest else { return violated("L4", "no view after all was healed") }
        let running = processes.compactMap { $0.node?.member?.rawValue }.sorted()
        let members = latest.members.map(\.number.rawValue).sorted()
        let admitted = processes.filter { $0.isUp && $0.node?.member == nil }.count
        if running != members || admitted > 0 {
            violated("L4", "members \(members), running \(running) and \(admitted) not admitted")
        }
        // A view of this moment is still on its way.
        guard god.latestAt + 500 * Virtual.millisecond < now else { return }
        for process in processes where process.isUp && !process.isLeaving {
            if process.node?.viewVersion != god.latestVersion {
                violated("L4", "\(process.name) has view \(process.node?.viewVersion ?? 0) of \(god.latestVersion)")
            }
        }
    }
}
