// Flockwork · Apache-2.0 · see LICENSE

// A request that kills the process which executes it must not take others along. What a dead process had is executed
// once more as before, for most deaths have another reason and what was there must not wait. What a second one had is
// suspect: it goes on in halves, and one at a time. Only deaths while it was alone count against a single request, so
// that its neighbours succeed. The log says all of it before anything is executed again.

internal import FlockWire

extension Limits {
    /// Processes that died with a run before it is executed alone.
    var deathsBeforeIsolation: Int { min(2, max(attempts - 1, 1)) }
    /// Processes that died with a single request, the last ones while it was alone, before it is given up.
    var deathsBeforePoison: Int { attempts + deathsBeforeIsolation - 1 }
}

/// A suspect run that begins at its own primary, once the log has counted that.
struct Charge: Sendable {
    let lane: UInt32
    let run: OpenRun
}

extension ClusterNode {
    /// A process died with the run, or may have: the log says so before the run is executed again.
    mutating func lost(_ run: OpenRun, out: inout [NodeDirective]) {
        let requests = run.requests
        let isolation = limits.deathsBeforeIsolation
        let deaths = run.deaths + 1
        if deaths < isolation {
            died(requests, deaths, out: &out)
        } else if requests.count > 1 && rules.partsAfterDeath {
            let deaths = max(run.deaths, isolation)
            let half = requests.count / 2
            died(run.slice(from: 0, count: half).requests, deaths, out: &out)
            died(run.slice(from: half, count: requests.count - half).requests, deaths, out: &out)
        } else if deaths >= limits.deathsBeforePoison {
            giveUp(killer: requests, deaths, out: &out)
        } else {
            died(requests, deaths, out: &out)
        }
    }

    private mutating func died(_ run: RequestRun, _ deaths: Int, out: inout [NodeDirective]) {
        stepReplica(
            run.partition, .attempted(session: run.session, sequences: run.sequences, attempts: deaths), out: &out)
    }

    /// Whether that member can have had runs which nobody will tell of.
    func isMissed(_ former: MemberNumber?) -> Bool {
        guard let former, former != member else { return false }
        guard let place = place(of: former), !links[place].isStalled else { return true }
        return control.view?.member(former)?.isSuspected ?? true
    }

    func isSuspect(_ run: OpenRun) -> Bool { run.deaths >= limits.deathsBeforeIsolation }

    /// A suspect run goes out, unless it has an outcome by now.
    mutating func sendSuspect(_ run: OpenRun, lane: UInt32, to target: MemberNumber, out: inout [NodeDirective]) {
        guard isOpen(run.requests) else {
            let host = HostID(rawValue: UInt64(target.rawValue))
            return stepDispatcher(Int(lane), .finished(host, runs: [run.requests]), out: &out)
        }
        guard target == member else { return send(.runs(lane: lane, [assigned(run)]), to: target) }
        beginHere(run, lane: lane, out: &out)
    }

    // MARK: At home

    /// Nobody else has instances for a suspect run. If this process died of it, nobody would know; so the log counts
    /// that death before it can happen, and only of single requests, since the others did nothing.
    mutating func beginHere(_ run: OpenRun, lane: UInt32, out: inout [NodeDirective]) {
        guard let member else { return }
        guard rules.countsAtHome else { return send(.runs(lane: lane, [assigned(run)]), to: member) }
        let requests = run.requests
        let host = HostID(rawValue: UInt64(member.rawValue))
        // Who was turned away meanwhile has the next turn, if it comes: its way is longer, so it would come last.
        guard !jobs.hasSuspect && charges.isEmpty && !hasTurnedAway else {
            hasTurnedAway = false
            return stepDispatcher(Int(lane), .returned(host, runs: [requests]), out: &out)
        }
        if requests.count > 1 {
            stepDispatcher(Int(lane), .counted(host, runs: [requests], attempt: .max), out: &out)
            let half = requests.count / 2
            died(run.slice(from: 0, count: half).requests, run.deaths, out: &out)
            died(run.slice(from: half, count: requests.count - half).requests, run.deaths, out: &out)
        } else if run.deaths >= limits.deathsBeforePoison {
            stepDispatcher(Int(lane), .finished(host, runs: [requests]), out: &out)
            giveUp(killer: requests, run.deaths, out: &out)
        } else {
            charges.append(Charge(lane: lane, run: run))
            died(requests, run.deaths + 1, out: &out)
        }
    }

    /// The log has counted it: now it may begin.
    mutating func beginCharged(_ run: RequestRun, out: inout [NodeDirective]) {
        guard let member, let place = charges.firstIndex(where: { $0.run.requests == run }) else { return }
        let charge = charges.remove(at: place)
        var charged = charge.run
        charged.deaths += 1
        take([assigned(charged)], lane: charge.lane, from: member, out: &out)
    }

    /// Nobody waits for what was to begin here. False if that is not among these.
    mutating func uncharge(_ run: RequestRun, lane: UInt32, out: inout [NodeDirective]) -> Bool {
        guard let member, let place = charges.firstIndex(where: { $0.run.requests == run }) else { return false }
        charges.remove(at: place)
        let host = HostID(rawValue: UInt64(member.rawValue))
        stepDispatcher(Int(lane), .finished(host, runs: [run]), out: &out)
        return true
    }

    /// An outcome from elsewhere may have come before the count: then the log says nothing of it.
    mutating func lookAfterCharges(out: inout [NodeDirective]) {
        for charge in charges where !isOpen(charge.run.requests) {
            _ = uncharge(charge.run.requests, lane: charge.lane, out: &out)
            dispatcherIsDue = true
        }
    }

    /// Whether any of these waits for an outcome.
    func isOpen(_ requests: RequestRun) -> Bool {
        replicas[Int(requests.partition.rawValue)]?.openRuns(of: requests).isEmpty == false
    }

    private mutating func giveUp(killer requests: RequestRun, _ deaths: Int, out: inout [NodeDirective]) {
        let error = FlockError(
            .poison, "\(deaths) processes died while they had the request", node: node, limit: .attempts)
        giveUp(requests, error, out: &out)
    }

    // MARK: The stages' side

    /// A suspect run is executed if no other one is. Its primary hears that it begins before it does.
    mutating func takeSuspect(_ run: OpenRun, lane: UInt32, from peer: MemberNumber, epoch: UInt64) {
        let requests = run.requests
        guard !(jobs.hasSuspect || !charges.isEmpty) || !rules.partsAfterDeath else {
            if peer != member { hasTurnedAway = true }
            return send(.returned(lane: lane, [requests]), to: peer)
        }
        let job = jobs.insert(
            lane: lane, requests: requests, attempt: run.attempt, dispatcher: peer, epoch: epoch, isSuspect: true)
        let begun = LaneRun(lane: lane, requests: requests, attempt: run.attempt)
        send(.held(requests.partition, epoch: epoch, [begun]), to: peer)
        beginning.append(.execute(job: job, lane: lane, run))
    }
}
