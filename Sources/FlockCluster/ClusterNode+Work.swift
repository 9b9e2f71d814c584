// Flockwork · Apache-2.0 · see LICENSE

// Runs go from the dispatcher of their partition's primary to the stages of some member, and outcomes from there to
// whoever is primary by then. Nothing of it is durable: what is lost is dispatched again.

internal import FlockWire

extension ClusterNode {
    static let inquiryTime = Duration.milliseconds(250)
    static let recordTime = Duration.milliseconds(500)
    static let stallTime = Duration.milliseconds(1000)

    mutating func send(_ message: WorkMessage, to peer: MemberNumber) {
        if peer == member { return local.append(message) }
        guard let place = place(of: peer) else { return }
        links[place].enqueue(message)
    }

    // MARK: The primary's side

    mutating func enqueue(_ run: OpenRun, out: inout [NodeDirective]) {
        // A lane that this program does not have: an outcome, so that nobody waits for it.
        guard let kind = SessionKind(number: run.pipeline), kind.pipeline < dispatchers.count else {
            return giveUp(run.requests, FlockError(.notFound, "no such pipeline", node: node), out: &out)
        }
        guard run.attempt <= limits.attempts else { return giveUp(tried: run, out: &out) }
        var run = run
        run.priority = kind.priority
        stepDispatcher(kind.pipeline, .enqueue(run), out: &out)
        dispatcherIsDue = true
    }

    mutating func stepDispatcher(_ lane: Int, _ event: DispatcherEvent, out: inout [NodeDirective]) {
        var directives: [DispatcherDirective] = []
        swap(&directives, &dispatcherDirectives)
        dispatchers[lane].step(event, now: now, out: &directives)
        for directive in directives { carryOut(directive, lane: UInt32(lane), out: &out) }
        directives.removeAll(keepingCapacity: true)
        swap(&directives, &dispatcherDirectives)
    }

    private mutating func carryOut(_ directive: DispatcherDirective, lane: UInt32, out: inout [NodeDirective]) {
        switch directive {
        case .send(let host, let runs):
            let target = MemberNumber(rawValue: UInt32(host.rawValue))
            guard rules.partsAfterDeath, runs.contains(where: isSuspect) else {
                return send(.runs(lane: lane, runs.map(assigned)), to: target)
            }
            let others = runs.filter { !isSuspect($0) }
            if !others.isEmpty { send(.runs(lane: lane, others.map(assigned)), to: target) }
            for run in runs where isSuspect(run) { sendSuspect(run, lane: lane, to: target, out: &out) }
        case .giveUp(let partition, let session, let outcome):
            stepReplica(partition, .completed(session: session, runs: [outcome]), out: &out)
        case .lost(let run): lost(run, out: &out)
        case .revoke(let host, let run):
            if host.rawValue == member.map({ UInt64($0.rawValue) }), uncharge(run, lane: lane, out: &out) { return }
            send(.revoke(lane: lane, run), to: MemberNumber(rawValue: UInt32(host.rawValue)))
        }
    }

    /// As it is sent: deadlines count from now.
    func assigned(_ run: OpenRun) -> AssignedRun {
        var run = run
        run.deadline = run.deadline.map { Tick(nanoseconds: ($0 - now).clampedNanoseconds) }
        return AssignedRun(epoch: seats[Int(run.requests.partition.rawValue)]?.epoch ?? 0, run: run)
    }

    // MARK: Both sides

    mutating func handle(_ message: WorkMessage, from peer: MemberNumber, out: inout [NodeDirective]) {
        let host = HostID(rawValue: UInt64(peer.rawValue))
        switch message {
        case .runs(let lane, let runs): take(runs, lane: lane, from: peer, out: &out)
        case .revoke(let lane, let run): revoked(run, lane: lane, out: &out)
        case .done(let job, let lane, let partition, let session, let runs, let without):
            let number = Int(partition.rawValue)
            guard number < replicas.count, replicas[number]?.serves() == true, Int(lane) < dispatchers.count else {
                return
            }
            let requests = runs.map { RequestRun(partition: partition, session: session, sequences: $0.sequences) }
            if rules.returnsCredits { stepDispatcher(Int(lane), .finished(host, runs: requests), out: &out) }
            stepReplica(partition, .completed(session: session, runs: runs), out: &out)
            dispatcherIsDue = true
            for place in inquiries.indices where inquiries[place].partition == partition {
                inquiries[place].answered += requests
            }
            let failures = without.sequences.map {
                RequestRun(partition: partition, session: session, sequences: $0)
            }
            if failures.isEmpty || failed(failures, attempt: without.attempt, lane: lane, by: peer, out: &out) {
                send(.recorded(job: job), to: peer)
            }
        case .recorded(let job):
            guard let place = jobs.part(job), jobs.parts[place].target == peer else { return }
            jobs.removePart(at: place)
        case .returned(let lane, let runs):
            guard Int(lane) < dispatchers.count else { return }
            letGo(runs, by: peer)
            stepDispatcher(Int(lane), .returned(host, runs: runs), out: &out)
            dispatcherIsDue = true
        case .holding(let partition, let epoch): answerHolding(partition, epoch: epoch, to: peer)
        case .held(let partition, let epoch, let runs):
            for run in runs where Int(run.lane) < dispatchers.count {
                stepDispatcher(Int(run.lane), .begun(host, run.requests), out: &out)
            }
            held(partition, epoch: epoch, runs, by: peer, out: &out)
        case .hosts(let stages): heard(stages, hostedBy: peer, out: &out)
        }
    }

    // MARK: The stages' side

    mutating func take(_ runs: [AssignedRun], lane: UInt32, from peer: MemberNumber, out: inout [NodeDirective]) {
        // It has said that nothing keeps it but its seats, so it may be removed at any time: what it began now would be
        // taken for lost by its death.
        // Or it was sent before its sender heard that this node has no instances of it any more.
        guard !isDrained && hasInstances(lane: lane) else {
            return send(.returned(lane: lane, runs.map(\.run.requests)), to: peer)
        }
        for assigned in runs {
            var run = assigned.run
            run.deadline = run.deadline.map { now + .nanoseconds(Int64(clamping: $0.nanoseconds)) }
            if run.deaths >= limits.deathsBeforeIsolation {
                takeSuspect(run, lane: lane, from: peer, epoch: assigned.epoch)
                continue
            }
            let job = jobs.insert(
                lane: lane, requests: run.requests, attempt: run.attempt, dispatcher: peer, epoch: assigned.epoch)
            out.append(.execute(job: job, lane: lane, run))
        }
    }

    private func revoked(_ run: RequestRun, lane: UInt32, out: inout [NodeDirective]) {
        for job in jobs.jobs where job.lane == lane && job.requests.session == run.session {
            guard job.requests.partition == run.partition else { continue }
            for rest in job.rest {
                if let part = rest.inside(run.sequences) { out.append(.revoke(job: job.id, part)) }
            }
        }
    }

    /// A part of a job, or all of it, is handed over. The rest is still with the stages.
    mutating func executed(job: UInt64, outcomes: [OutcomeRun], failed: [SequenceRun], returned: [SequenceRun]) {
        guard let place = jobs.job(job) else { return }
        for outcome in outcomes { jobs.handOver(outcome.sequences, of: place) }
        for sequences in failed + returned { jobs.handOver(sequences, of: place) }
        let job = jobs.jobs[place]
        jobs.endIfDone(place)
        if !returned.isEmpty {
            let runs = returned.map {
                RequestRun(partition: job.requests.partition, session: job.requests.session, sequences: $0)
            }
            send(.returned(lane: job.lane, runs), to: job.dispatcher)
        }
        if !outcomes.isEmpty || !failed.isEmpty { sendOutcomes(jobs.add(outcomes, failed: failed, of: job)) }
    }

    /// Sends outcomes to whoever is primary, as far as is known here, and again later if need be.
    mutating func sendOutcomes(_ place: Int) {
        let part = jobs.parts[place]
        let target = primary(of: part)
        jobs.sent(place, to: target, again: now + Self.recordTime)
        workDeadline = min(workDeadline, now + Self.recordTime)
        if let link = self.place(of: target), links[link].isStalled { return }
        send(
            .done(job: part.number, lane: part.lane, part.partition, part.session, part.outcomes, part.failed),
            to: target)
    }

    private func primary(of part: JobTable.Part) -> MemberNumber {
        let place = Int(part.partition.rawValue)
        guard let view = control.view, place < view.partitions.count, view.partitions[place].epoch > part.epoch else {
            return part.dispatcher
        }
        return view.partitions[place].primary ?? part.dispatcher
    }

    mutating func primaryChanged(_ partition: PartitionID) {
        for place in jobs.parts.indices where jobs.parts[place].partition == partition { sendOutcomes(place) }
    }

    /// The mutant of `Rules.agreesOnOwnership`: the next member in sync makes itself the primary.
    mutating func seize(from silent: MemberNumber, out: inout [NodeDirective]) {
        for number in seats.indices {
            guard var own = seats[number], own.primary == silent else { continue }
            own.inSync.removeAll { $0 == silent }
            guard own.inSync.first == member else { continue }
            own.epoch += 1
            own.primary = member
            seats[number] = own
            stepReplica(PartitionID(number), .seats(own, minimumInSync: 1), out: &out)
        }
    }

    // MARK: Time

    mutating func tickWork(out: inout [NodeDirective]) {
        workDeadline = .never
        for lane in dispatchers.indices {
            if dispatchers[lane].nextDeadline() <= now { dispatcherIsDue = true }
        }
        for place in links.indices {
            links[place].tick(now: now)
            if let since = links[place].waitingSince, since + Self.stallTime <= now, !links[place].isStalled {
                stall(place, out: &out)
            }
        }
        for place in inquiries.indices.reversed() {
            if inquiries[place].until <= now {
                resolve(place, out: &out)
            } else {
                workDeadline = min(workDeadline, inquiries[place].until)
            }
        }
        for place in jobs.parts.indices {
            if jobs.parts[place].resendAt <= now { sendOutcomes(place) }
            workDeadline = min(workDeadline, jobs.parts[place].resendAt)
        }
    }
}

extension ClusterNode {
    /// The member at the other end does not answer: others get what it has.
    mutating func stall(_ place: Int, out: inout [NodeDirective]) {
        links[place].isStalled = true
        links[place].isOpen = Array(repeating: false, count: dispatchers.count)
        let id = HostID(rawValue: UInt64(links[place].peer.rawValue))
        for lane in dispatchers.indices { stepDispatcher(lane, .hostAway(id), out: &out) }
        hostsChanged(out: &out)
        dispatcherIsDue = true
    }
}

extension SequenceRun {
    /// The sequences of both; nil if there are none.
    func inside(_ other: SequenceRun) -> SequenceRun? {
        let start = max(first, other.first)
        let end = min(end, other.end)
        return start < end ? SequenceRun(first: start, count: Int(end - start)) : nil
    }

    /// The parts that are not in the other.
    func outside(_ other: SequenceRun) -> [SequenceRun] {
        guard let inside = inside(other) else { return [self] }
        var parts: [SequenceRun] = []
        if first < inside.first { parts.append(SequenceRun(first: first, count: Int(inside.first - first))) }
        if inside.end < end { parts.append(SequenceRun(first: inside.end, count: Int(end - inside.end))) }
        return parts
    }
}

extension OpenRun {
    /// The part that is among `requests`, and what is not.
    func cut(_ requests: RequestRun) -> (inside: OpenRun?, outside: [OpenRun]) {
        let mine = self.requests.sequences
        guard self.requests.session == requests.session, let inside = mine.inside(requests.sequences) else {
            return (nil, [self])
        }
        func part(_ run: SequenceRun) -> OpenRun { slice(from: Int(run.first - mine.first), count: run.count) }
        return (part(inside), mine.outside(requests.sequences).map(part))
    }
}
