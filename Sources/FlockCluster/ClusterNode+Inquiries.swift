// Flockwork · Apache-2.0 · see LICENSE

// After a primary change: which runs are with some member's stages, so that only the others are dispatched again.

internal import FlockWire

/// A new primary's question to all members, which of its runs they have.
struct Inquiry: Sendable {
    let partition: PartitionID
    let epoch: UInt64
    /// Open when the primary took over, in the order of ids.
    var runs: [RequestRun]
    /// Who did not answer yet.
    var waiting: [MemberNumber]
    var held: [(member: MemberNumber, run: LaneRun)] = []
    /// Their outcomes came meanwhile; they need not be committed yet.
    var answered: [RequestRun] = []
    /// When the rest is dispatched whoever has not answered.
    let until: Tick
    /// Somebody who may have had runs did not answer: what nobody holds was perhaps on a process that died.
    var isIncomplete: Bool
}

extension ClusterNode {
    /// This node's copy has committed its epoch: what is open is either with some stage, or dispatched again.
    mutating func serving(_ partition: PartitionID, out: inout [NodeDirective]) {
        let number = Int(partition.rawValue)
        guard let replica = replicas[number], let epoch = seats[number]?.epoch, let member else { return }
        inquiries.removeAll { $0.partition == partition }
        charges.removeAll { $0.run.requests.partition == partition }
        for lane in dispatchers.indices { stepDispatcher(lane, .forget(partition), out: &out) }
        let runs = replica.openRuns().map(\.requests)
        guard !runs.isEmpty else { return }
        let peers = links.filter { !$0.isStalled }.map(\.peer)
        inquiries.append(
            Inquiry(
                partition: partition, epoch: epoch, runs: runs, waiting: peers + [member],
                until: now + Self.inquiryTime,
                isIncomplete: isMissed(formers[number]) || links.contains(where: \.isStalled)))
        workDeadline = min(workDeadline, now + Self.inquiryTime)
        for peer in peers + [member] { send(.holding(partition, epoch: epoch), to: peer) }
    }

    /// Says what this node's stages have; what failed comes first, so that it is counted before it is dispatched again.
    mutating func answerHolding(_ partition: PartitionID, epoch: UInt64, to asker: MemberNumber) {
        let runs = heldHere(partition, epoch: epoch, for: asker)
        sendOutcomes(of: partition) { !$0.failed.sequences.isEmpty }
        send(.held(partition, epoch: epoch, runs), to: asker)
        sendOutcomes(of: partition) { _ in true }
    }

    /// This node's stages have these; what becomes of them goes to the one who asks. That is said before any outcome,
    /// so that the outcome finds the run with this node.
    private mutating func heldHere(_ partition: PartitionID, epoch: UInt64, for asker: MemberNumber) -> [LaneRun] {
        var runs: [LaneRun] = []
        func note(_ lane: UInt32, _ session: SessionID, _ sequences: SequenceRun, _ attempt: Int) {
            let requests = RequestRun(partition: partition, session: session, sequences: sequences)
            runs.append(LaneRun(lane: lane, requests: requests, attempt: attempt))
        }
        for place in jobs.jobs.indices where jobs.jobs[place].requests.partition == partition {
            let job = jobs.jobs[place]
            guard job.epoch <= epoch else { continue }
            jobs.claimJob(at: place, by: asker, epoch: epoch)
            // The rest has an outcome, or it failed, or it was returned to whoever had sent it.
            for sequences in job.rest { note(job.lane, job.requests.session, sequences, job.attempt) }
        }
        for place in jobs.parts.indices where jobs.parts[place].partition == partition {
            let part = jobs.parts[place]
            guard part.epoch <= epoch else { continue }
            jobs.claimPart(at: place, by: asker, epoch: epoch)
            for outcome in part.outcomes { note(part.lane, part.session, outcome.sequences, part.failed.attempt) }
        }
        return runs
    }

    private mutating func sendOutcomes(of partition: PartitionID, where isWanted: (JobTable.Part) -> Bool) {
        for place in jobs.parts.indices where jobs.parts[place].partition == partition {
            let part = jobs.parts[place]
            if part.target == nil && isWanted(part) { sendOutcomes(place) }
        }
    }

    mutating func held(
        _ partition: PartitionID, epoch: UInt64, _ runs: [LaneRun], by peer: MemberNumber, out: inout [NodeDirective]
    ) {
        guard let place = inquiries.firstIndex(where: { $0.partition == partition && $0.epoch == epoch }) else {
            return
        }
        inquiries[place].waiting.removeAll { $0 == peer }
        for run in runs { inquiries[place].held.append((peer, run)) }
        if inquiries[place].waiting.isEmpty { resolve(place, out: &out) }
    }

    mutating func inquiryLost(_ peer: MemberNumber, out: inout [NodeDirective]) {
        for place in inquiries.indices.reversed() {
            inquiries[place].waiting.removeAll { $0 == peer }
            inquiries[place].held.removeAll { $0.member == peer }
            inquiries[place].isIncomplete = true
            if inquiries[place].waiting.isEmpty { resolve(place, out: &out) }
        }
    }

    /// What is still open and nobody holds is dispatched; the rest is taken for sent.
    mutating func resolve(_ place: Int, out: inout [NodeDirective]) {
        var inquiry = inquiries.remove(at: place)
        if !inquiry.waiting.isEmpty { inquiry.isIncomplete = true }
        guard let replica = replicas[Int(inquiry.partition.rawValue)] else { return }
        for run in inquiry.runs {
            for part in replica.openRuns(of: run) { share(part, inquiry, out: &out) }
        }
        dispatcherIsDue = true
    }

    /// Runs that a member said it holds, and holds no longer before the others have answered.
    mutating func letGo(_ runs: [RequestRun], by peer: MemberNumber) {
        for place in inquiries.indices {
            for run in runs where run.partition == inquiries[place].partition {
                inquiries[place].held = inquiries[place].held.flatMap { holder, held in
                    guard holder == peer, held.requests.session == run.session else { return [(holder, held)] }
                    return held.requests.sequences.outside(run.sequences).map { sequences in
                        var rest = held
                        rest.requests.sequences = sequences
                        return (holder, rest)
                    }
                }
            }
        }
    }

    private mutating func share(_ run: OpenRun, _ inquiry: Inquiry, out: inout [NodeDirective]) {
        var rest = [run]
        for requests in inquiry.answered { rest = rest.flatMap { $0.cut(requests).outside } }
        let kind = SessionKind(number: run.pipeline)
        for (holder, other) in inquiry.held {
            guard let kind, Int(other.lane) == kind.pipeline, kind.pipeline < dispatchers.count else { continue }
            let host = HostID(rawValue: UInt64(holder.rawValue))
            var next: [OpenRun] = []
            for part in rest {
                let (inside, outside) = part.cut(other.requests)
                if var inside {
                    // As the holder counts, so that a failure there ends this one.
                    inside.attempt = other.attempt
                    inside.priority = kind.priority
                    stepDispatcher(kind.pipeline, .adopt(inside, host), out: &out)
                }
                next += outside
            }
            rest = next
        }
        for part in rest {
            // A suspect run never is with its primary, so that it did not die of that one.
            if inquiry.isIncomplete && part.deaths < limits.deathsBeforeIsolation && rules.partsAfterDeath {
                lost(part, out: &out)
            } else {
                enqueue(part, out: &out)
            }
        }
    }
}
