// Flockwork · Apache-2.0 · see LICENSE

// A request that kills the process which executes it must not take others along. What a dead process had is executed
// once more as before, for most deaths have another reason and what was there must not wait. What a second one had is
// suspect: it goes on in halves, and one at a time. Only deaths while it was alone count against a single request, so
// that its neighbours succeed. The log says all of it before anything is executed again.

internal import FlockWire

extension Limits {
    /// Processes that died with a run before it is executed alone.
    var deathsBeforeIsolation: Int { min(2, max(attempts - 1, 1)) }
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
        } else if deaths >= limits.attempts + isolation - 1 {
            let error = FlockError(
                .poison, "\(deaths) processes died while they had the request", node: node, limit: .attempts)
            giveUp(requests, error, out: &out)
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

    // MARK: The stages' side

    /// A suspect run is executed if no other one is. Its primary hears that it begins before it does.
    mutating func takeSuspect(_ run: OpenRun, lane: UInt32, from peer: MemberNumber, epoch: UInt64) {
        let requests = run.requests
        guard !jobs.hasSuspect || !rules.partsAfterDeath else {
            return send(.returned(lane: lane, [requests]), to: peer)
        }
        let job = jobs.insert(
            lane: lane, requests: requests, attempt: run.attempt, dispatcher: peer, epoch: epoch, isSuspect: true)
        let begun = LaneRun(lane: lane, requests: requests, attempt: run.attempt)
        send(.held(requests.partition, epoch: epoch, [begun]), to: peer)
        beginning.append(.execute(job: job, lane: lane, run))
    }
}
