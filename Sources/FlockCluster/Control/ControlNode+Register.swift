// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

extension ControlNode {
    // MARK: Turns

    /// There may be something to propose: now, if this process comes first, else after those before it had their time.
    mutating func arm(_ now: Tick, after pause: Duration = .zero) {
        guard isVoter, !isForcedOut else { return }
        let place = self.placeInOrder
        let delay = place == 0 ? .zero : times.proposerDelay * place + random(upTo: times.proposerDelay / 2)
        proposeAt = min(proposeAt, now + pause + delay)
    }

    /// A voter that left, or was evicted, still votes until its process ends; it proposes nothing.
    private var isForcedOut: Bool { isOut }

    /// How many voters come before this process: they are asked in the order of the list, from the one that made the
    /// newest view; those that this process accuses are passed over.
    private var placeInOrder: Int {
        let voters = electorate.all
        let start = lead.flatMap { voters.firstIndex(of: $0) } ?? 0
        var before = 0
        for offset in voters.indices {
            let voter = voters[(start + offset) % voters.count]
            if voter == own { return before }
            if !detector.isAccused(voter) { before += 1 }
        }
        return before
    }

    /// All that this process knows to speak for a change, now.
    private mutating func reasons(_ now: Tick) -> ControlReasons {
        pending.prune(view, now: now)
        var reasons = ControlReasons()
        pending.fill(&reasons)
        detector.fill(&reasons, now: now)
        // Two processes that claim one node: the one that is a member stays as long as it answers.
        reasons.joins.removeAll { join in
            guard let member = view?.member(on: join.candidate.node) else { return false }
            return detector.isAnswering(member.number, now: now)
        }
        if !rules.resetIsNotDeath {
            reasons.resets = outgoing.resets
        }
        // Nobody watches a single voter; former ones may have suspected it.
        if let member, electorate.all == [own], view?.member(member)?.isSuspected == true {
            reasons.trusted.append(member)
        }
        if let view {
            reasons.placesNow = isUnplaced(view) && placeAt == .never
        }
        return reasons
    }

    /// Begins a turn if there is a reason to.
    mutating func consider(_ now: Tick, _ out: inout [ControlDirective]) {
        proposeAt = .never
        guard isVoter else { return }
        let reasons = reasons(now)
        if let view {
            guard function.next(view, reasons, isAgreed: true) != nil else { return }
        } else {
            guard !reasons.joins.isEmpty else { return }
        }
        begin([electorate] + remaining(reasons), now, &out)
    }

    /// Who would vote when a voter is removed must be heard before that: of voters without a record a majority might
    /// never come about again. If they do not answer twice, the turn does without them, and the command is refused.
    private func remaining(_ reasons: ControlReasons) -> [Electorate] {
        guard let view, proposer.failures < 2, rules.asksRemainingVoters else { return [] }
        for command in reasons.commands {
            guard case .removeVoter(let node) = command.command, command.command.objection(in: view) == nil else {
                continue
            }
            return [Electorate(voters: view.voters(without: node))]
        }
        return []
    }

    private mutating func begin(_ electorates: [Electorate], _ now: Tick, _ out: inout [ControlDirective]) {
        guard let acceptor else { return }
        let time = times.roundTime * (1 << min(proposer.failures, 3))
        let message = proposer.begin(electorates, own: acceptor.record, until: now + time)
        for node in proposer.voters { send(node, message, &out) }
    }

    /// Two proposers that meet wait for different, growing times.
    mutating func backOff(_ now: Tick) {
        proposer.fail()
        proposeAt = now + .milliseconds(5) + random(upTo: .milliseconds(20) * (1 << min(proposer.failures, 4)))
    }

    // MARK: Voters' answers

    /// Begins the record of a coming voter, and says that it is there until the next view. Only the process that the
    /// view names does: a later one of its node has another number, and if the record is lost, nobody votes without it.
    mutating func enrol(_ now: Tick, _ out: inout [ControlDirective]) {
        guard let view, view.nextVoters == nil, let exchange = view.exchange, exchange.member == member else { return }
        if acceptor?.record.isFounded != true {
            // What a bootstrap voter began that never voted is as good as nothing.
            var fresh = acceptor ?? Acceptor(record: VoterRecord(), rules: rules)
            fresh.enrol(out: &out)
            acceptor = fresh
        }
        outgoing.resendAt = min(outgoing.resendAt, now + .milliseconds(10))
    }

    mutating func promised(
        from node: NodeID, _ ballot: Ballot, accepted: Ballot, state: ControlState?, _ now: Tick,
        _ out: inout [ControlDirective]
    ) {
        guard let record = acceptor?.record else { return }
        guard proposer.promise(from: node, ballot, accepted: accepted, state: state, known: record) else { return }
        guard let read = proposer.read else {
            guard configuration.isBootstrap, let first = function.first(configuration, reasons(now)) else {
                return proposer.end()
            }
            return propose(first, delta: nil, &out)
        }
        let found = Electorate(read)
        guard proposer.electorates.contains(found) else { return begin(proposer.electorates + [found], now, &out) }
        if let view, view.version > read.version { return proposer.end() }
        let isAgreed = view?.version == read.version
        var reasons = reasons(now)
        reasons.voting = proposer.promised
        if let next = function.next(read, reasons, isAgreed: isAgreed) {
            propose(next, delta: ControlDelta(from: read, to: next), &out)
        } else if isAgreed {
            proposer.end()
        } else {
            // Accepted somewhere, and perhaps not by a majority: finish what its proposer began.
            propose(read, delta: ControlDelta(from: read, to: read), &out)
        }
    }

    private mutating func propose(_ state: ControlState, delta: ControlDelta?, _ out: inout [ControlDirective]) {
        proposer.propose(state)
        let message =
            delta.map {
                ControlMessage.acceptDelta(proposer.ballot, base: proposer.base, $0)
            } ?? .accept(proposer.ballot, state)
        for node in proposer.voters { send(node, message, &out) }
    }

    mutating func sendWhole(to node: NodeID, _ ballot: Ballot, _ out: inout [ControlDirective]) {
        guard proposer.phase == .accepting, proposer.ballot == ballot, let state = proposer.proposal else { return }
        send(node, .accept(ballot, state), &out)
    }

    mutating func accepted(from node: NodeID, _ ballot: Ballot, _ now: Tick, _ out: inout [ControlDirective]) {
        guard let chosen = proposer.accept(from: node, ballot) else { return }
        publish(chosen, now, &out)
    }

    mutating func rejected(_ ballot: Ballot, promised: Ballot, _ now: Tick) {
        proposer.see(promised)
        guard proposer.phase != .idle, ballot == proposer.ballot else { return }
        backOff(now)
    }

    // MARK: Operators

    /// Goes on from this process's view with itself as the only voter. What a lost majority agreed on later is gone.
    mutating func forceNewControl(_ now: Tick, _ out: inout [ControlDirective]) {
        guard var state = view else { return }
        state.version += 1 << 32
        state.voters = [own]
        state.nextVoters = nil
        state.exchange = nil
        var voter = acceptor ?? Acceptor(record: VoterRecord(), rules: rules)
        let round = voter.record.promised.round + 1 << 32
        voter.force(state, ballot: Ballot(round: round, proposer: 0), out: &out)
        acceptor = voter
        begin([Electorate(state)], now, &out)
    }
}
