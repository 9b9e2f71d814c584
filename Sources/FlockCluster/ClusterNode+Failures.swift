// Flockwork · Apache-2.0 · see LICENSE

// Executions that gave no outcome while their process lived: a stage died, or did not come back. The log counts them
// before the next one begins, whoever is primary by then. So whoever has them says so until a primary's log says it
// too, and the primary goes by the log: it dispatches what the log has counted and nobody has.

internal import FlockWire

extension ClusterNode {
    /// An execution of these began at that member and gave no outcome. True once the log has counted it.
    mutating func failed(
        _ runs: [RequestRun], attempt: Int, lane: UInt32, by peer: MemberNumber, out: inout [NodeDirective]
    ) -> Bool {
        letGo(runs, by: peer)
        // No matter for the inquiry any more: that would dispatch them uncounted.
        for place in inquiries.indices {
            for run in runs where run.partition == inquiries[place].partition {
                inquiries[place].runs = inquiries[place].runs.flatMap { $0.outside(run) }
            }
        }
        let host = HostID(rawValue: UInt64(peer.rawValue))
        stepDispatcher(Int(lane), .counted(host, runs: runs, attempt: attempt), out: &out)
        var isCounted = true
        for run in runs {
            // Executed while they were on their way to the others: the log counts it behind them.
            if rules.completesProposed,
                let proposed = replicas[Int(run.partition.rawValue)]?.proposed(of: run)
            {
                isCounted = false
                stepReplica(
                    run.partition, .failed(session: run.session, sequences: proposed, attempts: attempt), out: &out)
            }
            for open in replicas[Int(run.partition.rawValue)]?.openRuns(of: run) ?? [] {
                if open.attempt > attempt {
                    attempted(open.requests, out: &out)
                } else {
                    isCounted = false
                    let requests = open.requests
                    stepReplica(
                        requests.partition,
                        .failed(session: requests.session, sequences: requests.sequences, attempts: attempt), out: &out)
                }
            }
        }
        return isCounted
    }

    /// The log has counted what befell these: what nobody has of them is executed again.
    mutating func attempted(_ run: RequestRun, out: inout [NodeDirective]) {
        beginCharged(run, out: &out)
        guard let replica = replicas[Int(run.partition.rawValue)] else { return }
        for open in replica.openRuns(of: run) {
            guard let kind = SessionKind(number: open.pipeline), kind.pipeline < dispatchers.count else { continue }
            var parts = dispatchers[kind.pipeline].missing(of: open.requests).map {
                RequestRun(partition: run.partition, session: run.session, sequences: $0)
            }
            // Whoever has it may not have answered yet.
            for inquiry in inquiries where inquiry.partition == run.partition {
                for asked in inquiry.runs { parts = parts.flatMap { $0.outside(asked) } }
            }
            for part in parts {
                if let missing = open.cut(part).inside { enqueue(missing, out: &out) }
            }
        }
    }

    /// The error is the requests' outcome.
    mutating func giveUp(_ requests: RequestRun, _ error: FlockError, out: inout [NodeDirective]) {
        let outcome = OutcomeRun(sequences: requests.sequences, outcome: .failed(error))
        stepReplica(requests.partition, .completed(session: requests.session, runs: [outcome]), out: &out)
    }

    /// It was executed as often as may be.
    mutating func giveUp(tried run: OpenRun, out: inout [NodeDirective]) {
        let error = FlockError(
            .poison, "\(run.attempt - 1) executions of the request began, and none gave an outcome", node: node,
            limit: .attempts)
        giveUp(run.requests, error, out: &out)
    }
}

extension RequestRun {
    /// The parts that are not in the other.
    func outside(_ other: RequestRun) -> [RequestRun] {
        guard session == other.session && partition == other.partition else { return [self] }
        return sequences.outside(other.sequences).map {
            RequestRun(partition: partition, session: session, sequences: $0)
        }
    }
}
