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
    /// When to look again whether it is still open.
    var lookAt: Tick
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

    // MARK: At home

    /// Nobody else has instances for a suspect run. If this process died of it, nobody would know; so the log counts
    /// that death before it can happen, and only of single requests, since the others did nothing.
    mutating func beginHere(_ run: OpenRun, lane: UInt32, out: inout [NodeDirective]) {
        guard let member else { return }
        let requests = run.requests
        let host = HostID(rawValue: UInt64(member.rawValue))
        guard !jobs.hasSuspect && charges.isEmpty else {
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
            let lookAt = now + Self.recordTime
            charges.append(Charge(lane: lane, run: run, lookAt: lookAt))
            workDeadline = min(workDeadline, lookAt)
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
        for charge in charges {
            let requests = charge.run.requests
            guard charge.lookAt <= now else {
                workDeadline = min(workDeadline, charge.lookAt)
                continue
            }
            let open = replicas[Int(requests.partition.rawValue)]?.openRuns(of: requests) ?? []
            if open.isEmpty {
                _ = uncharge(requests, lane: charge.lane, out: &out)
                dispatcherIsDue = true
            } else if let place = charges.firstIndex(where: { $0.run.requests == requests }) {
                charges[place].lookAt = now + Self.recordTime
                workDeadline = min(workDeadline, charges[place].lookAt)
            }
        }
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
            return send(.returned(lane: lane, [requests]), to: peer)
        }
        let job = jobs.insert(
            lane: lane, requests: requests, attempt: run.attempt, dispatcher: peer, epoch: epoch, isSuspect: true)
        let begun = LaneRun(lane: lane, requests: requests, attempt: run.attempt)
        send(.held(requests.partition, epoch: epoch, [begun]), to: peer)
        beginning.append(.execute(job: job, lane: lane, run))
    }
}
