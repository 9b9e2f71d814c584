// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

/// What this process says until a view answers it.
struct Outgoing: Sendable {
    var isLeaving = false
    var isDrained = false
    var reports: [PartitionReport] = []
    var commands: [OperatorCommand] = []
    /// Commands of this process that a view has answered.
    var answeredCommands: UInt64 = 0
    /// Only for the mutant of `Rules.resetIsNotDeath`.
    var resets: [MemberNumber] = []
    var resendAt = Tick.never

    /// Forgets what the view answers.
    mutating func prune(_ view: ControlState, member: MemberNumber?) {
        if let member, !commands.isEmpty {
            let answered = view.lastCommand(of: member)
            commands.removeFirst(min(commands.count, Int(answered - min(answered, answeredCommands))))
            answeredCommands = max(answered, answeredCommands)
        }
        if !reports.isEmpty { reports.removeAll { !$0.isOpen(in: view) } }
    }
}

extension ControlNode {
    // MARK: Receiving

    mutating func receive(
        _ message: ControlMessage, from node: NodeID, _ now: Tick, _ out: inout [ControlDirective]
    ) {
        switch message {
        case .probe(let sequence, let number, let version, let suspects):
            probed(sequence, number, version, suspects, from: node, now, &out)
        case .alive(let sequence, let number, let version):
            detector.answer(number, sequence: sequence, now: now)
            if detector.hasNews { arm(now) }
            hint(version, from: node, now, &out)
        case .join(let candidate, let replaced, let have):
            join(.init(candidate: candidate, replaces: replaced), have: have, now, &out)
        case .look(let number):
            guard isVoter else { return }
            _ = detector.look(at: number, now: now, version: view?.version ?? 0, out: &out)
        case .leave(let number, let isDrained):
            guard isVoter, view?.member(number)?.node == node else { return }
            if pending.leave(number, isDrained: isDrained, now: now) { arm(now) }
        case .enrolled(let number):
            guard isVoter, view?.member(number)?.node == node else { return }
            if pending.enrolled(number, now: now) { arm(now) }
        case .report(let report, let number):
            guard isVoter, view?.member(number)?.node == node else { return }
            if let view, !report.isOpen(in: view) { return }
            if pending.report(.init(report: report, by: number), now: now) { arm(now) }
        case .command(let command, let id):
            guard isVoter, let view, view.member(id.issuer)?.node == node, id.isOpen(in: view) else { return }
            if pending.command(.init(command: command, id: id), now: now) { arm(now) }
        case .view(let state): receiveView(state, from: node, now, &out)
        case .deltas(let deltas): receiveDeltas(deltas, from: node, now, &out)
        case .pull(let have):
            if let news = news(since: have) { send(node, news, &out) }
        default: receiveTurn(message, from: node, now, &out)
        }
    }

    /// The register's messages.
    private mutating func receiveTurn(
        _ message: ControlMessage, from node: NodeID, _ now: Tick, _ out: inout [ControlDirective]
    ) {
        switch message {
        case .prepare(let ballot, let known):
            proposer.see(ballot)
            acceptor?.prepare(from: node, ballot, known: known, out: &out)
        case .accept(let ballot, let state):
            acceptor?.accept(from: node, ballot, state, out: &out)
            installUnagreed(now, &out)
        case .acceptDelta(let ballot, let base, let delta):
            acceptor?.accept(from: node, ballot, base: base, delta, out: &out)
            installUnagreed(now, &out)
        case .promise(let ballot, let accepted, let state):
            promised(from: node, ballot, accepted: accepted, state: state, now, &out)
        case .accepted(let ballot): accepted(from: node, ballot, now, &out)
        case .acceptWhole(let ballot): sendWhole(to: node, ballot, &out)
        case .rejected(let ballot, let promised): rejected(ballot, promised: promised, now)
        case .founding(let mark):
            let name = self.own
            guard acceptor?.meet(node, mark: mark) == true, let own = acceptor?.mark(of: name) else {
                // It will not vote, and need not wait for that to join.
                if acceptor != nil, let news = news(since: 0) { send(node, news, &out) }
                return
            }
            acceptor?.acknowledge(node, yours: mark, mine: own)
        case .founded(let yours, let mine):
            guard yours == acceptor?.mark(of: own) else { return }
            let (voters, name) = (configuration.voters, own)
            let isDone = acceptor?.confirm(node, mark: mine, of: voters, own: name, out: &out)
            if isDone == true { beginVoting(now) }
        default: break
        }
    }

    /// The mutant of `Rules.installsAgreedOnly`.
    private mutating func installUnagreed(_ now: Tick, _ out: inout [ControlDirective]) {
        guard !rules.installsAgreedOnly, let state = acceptor?.record.state else { return }
        receiveView(state, from: own, now, &out)
    }

    private mutating func probed(
        _ sequence: UInt32, _ number: MemberNumber, _ version: UInt64, _ suspects: [MemberNumber], from node: NodeID,
        _ now: Tick, _ out: inout [ControlDirective]
    ) {
        if isVoter {
            detector.hear(node, accused: suspects, now: now)
            if detector.hasNews { arm(now) }
        }
        if number == member, !isOut {
            orphanAt = now + times.orphanInterval
            send(node, .alive(sequence: sequence, from: number, version: view?.version ?? 0), &out)
        }
        hint(version, from: node, now, &out)
    }

    /// Anybody tells a newcomer what is agreed, voters also remember that it asks.
    private mutating func join(
        _ join: ControlReasons.Join, have: UInt64, _ now: Tick, _ out: inout [ControlDirective]
    ) {
        let node = join.candidate.node
        if node != own, let news = news(since: have) { send(node, news, &out) }
        guard isVoter else { return }
        if let view, !join.isOpen(in: view) { return }
        if pending.join(join, now: now) || proposeAt == .never { arm(now) }
    }

    // MARK: Sending what has no effect yet

    mutating func resend(_ now: Tick, _ out: inout [ControlDirective]) {
        outgoing.resendAt = .never
        guard !isOut else { return }
        var isWaiting = found(now, &out)
        if let member {
            for (place, command) in outgoing.commands.enumerated() {
                let id = CommandID(issuer: member, number: outgoing.answeredCommands + UInt64(place) + 1)
                sendToVoters(.command(command, id: id), &out)
                isWaiting = true
            }
            for report in outgoing.reports { sendToVoters(.report(report, by: member), &out) }
            isWaiting = isWaiting || !outgoing.reports.isEmpty
            let isLeaving = view?.member(member)?.phase == .leaving
            if outgoing.isLeaving && (!isLeaving || outgoing.isDrained) {
                sendToVoters(.leave(member, isDrained: outgoing.isDrained), &out)
                isWaiting = true
            }
            if view?.exchange?.member == member, view?.nextVoters == nil {
                if acceptor?.isDurable == true { sendToVoters(.enrolled(member), &out) }
                isWaiting = true
            }
        } else if waitsToVote(now) {
            isWaiting = true
        } else {
            let replaced = view?.member(on: own)?.number
            let have = view?.version ?? 0
            sendToVoters(.join(configuration.candidate, replaces: replaced, have: have), &out)
            isWaiting = true
        }
        if isWaiting { outgoing.resendAt = now + times.resendInterval }
    }

    /// A bootstrap voter joins when it votes: a cluster that serves as soon as all are members then survives a loss. If
    /// some voter never comes, or the cluster has begun without this one's record, it joins as any other node.
    private func waitsToVote(_ now: Tick) -> Bool {
        acceptor?.record.isFounded == false && view == nil && now < joinsAnyhowAt
    }

    /// A bootstrap voter's first record is begun and shown to the others. Returns whether some do not know it yet.
    private mutating func found(_ now: Tick, _ out: inout [ControlDirective]) -> Bool {
        guard let mark = acceptor?.mark(of: own), acceptor?.record.isFounded == false else { return false }
        if beginsRecord {
            beginsRecord = false
            acceptor?.begin(out: &out)
        }
        let (voters, name) = (configuration.voters, own)
        if acceptor?.found(voters, own: name, out: &out) == true {
            beginVoting(now)
            return false
        }
        if acceptor?.isDurable == true {
            for voter in configuration.voters where voter != own { send(voter, .founding(mark: mark), &out) }
        }
        return true
    }

    /// All bootstrap voters know this one.
    private mutating func beginVoting(_ now: Tick) {
        if member == nil { outgoing.resendAt = now }
        if let view, isVoter, !isOut { detector.watch(view, now: now) }
        arm(now)
    }

    mutating func report(_ report: PartitionReport, _ now: Tick, _ out: inout [ControlDirective]) {
        guard let member, let view, report.isOpen(in: view), !outgoing.reports.contains(report) else { return }
        if case .lagging = report {
            // Rule R4 may never allow it, so it is said once: the replica repeats it while it is true.
        } else {
            outgoing.reports.append(report)
            if outgoing.resendAt == .never { outgoing.resendAt = now + times.resendInterval }
        }
        sendToVoters(.report(report, by: member), &out)
    }

    mutating func order(_ command: OperatorCommand, _ now: Tick, _ out: inout [ControlDirective]) {
        if case .forceNewControl = command { return forceNewControl(now, &out) }
        outgoing.commands.append(command)
        resend(now, &out)
    }

    /// The voters look; that is all.
    mutating func connectionReset(_ node: NodeID, _ now: Tick, _ out: inout [ControlDirective]) {
        guard let member = view?.member(on: node), node != own, !isOut else { return }
        if !rules.resetIsNotDeath, isVoter {
            outgoing.resets.append(member.number)
            return arm(now)
        }
        if isVoter, !detector.look(at: member.number, now: now, version: view?.version ?? 0, out: &out) { return }
        for voter in electorate.all where voter != own && voter != node { send(voter, .look(member.number), &out) }
    }
}
