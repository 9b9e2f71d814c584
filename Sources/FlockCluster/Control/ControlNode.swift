// Flockwork · Apache-2.0 · see LICENSE

// The control part of a process: one of a few voters, or a member that only follows. It is told what happens and says
// what to do; it has no clock, no socket and no disk.
//
// Reasons for a change go to all voters and are repeated until a view answers them. One voter at a time acts on them:
// the one that made the last view comes first, the others wait for their turn in the order of the list, and whoever
// meets a higher ballot backs off for a random time.

public import FlockWire

/// Control in one process.
public struct ControlNode: Sendable {
    /// The newest agreed state that this process has; it never goes back (invariant C2).
    public internal(set) var view: ControlState?
    /// What this process is called, once it is admitted.
    public internal(set) var member: MemberNumber?
    /// The cluster goes on without this process: nothing happens here any more.
    public internal(set) var isOut = false

    let configuration: ControlConfiguration
    let rules: Rules
    var function: ControlRules
    var acceptor: Acceptor?
    var proposer: Proposer
    var detector: Detector
    var pending: PendingReasons
    var outgoing = Outgoing()
    /// The changes that made the newest views, oldest first, without gaps.
    var history: [ControlDelta] = []
    /// The voter that made the newest view, as far as this process knows.
    var lead: NodeID?
    /// When this process looks whether it has something to propose.
    var proposeAt = Tick.never
    /// When the first view has waited long enough for all voters.
    var placeAt = Tick.never
    var orphanAt = Tick.never
    var pullAfter = Tick.zero
    /// Messages of this process to itself.
    var loop: [ControlMessage] = []
    private var random: UInt64
    /// A voter that does not vote yet waits until then for the others to know it.
    let joinsAnyhowAt: Tick
    /// The record of a bootstrap voter's first start is to be written.
    var beginsRecord = false

    /// A process that starts. `record` is what its disk has of it as a voter. The same seed, events and times make the
    /// same directives. The first `tick` is due at once.
    public init(configuration: ControlConfiguration, record: VoterRecord?, seed: UInt64, now: Tick) {
        self.init(configuration: configuration, record: record, seed: seed, rules: .all, now: now)
    }

    init(configuration: ControlConfiguration, record: VoterRecord?, seed: UInt64, rules: Rules, now: Tick) {
        let own = configuration.candidate.node
        self.configuration = configuration
        self.rules = rules
        function = ControlRules(rules: rules, times: configuration.times)
        proposer = Proposer(
            identity: ControlState.mark(own, incarnation: configuration.candidate.incarnation))
        detector = Detector(node: own, times: configuration.times)
        pending = PendingReasons(life: configuration.times.reasonLife)
        random = seed
        joinsAnyhowAt = now + configuration.times.bootstrapGrace
        let isBootstrapVoter = configuration.isBootstrap && configuration.voters.contains(own)
        var fresh: VoterRecord?
        if isBootstrapVoter && record == nil {
            fresh = VoterRecord()
            fresh?.founders = [.init(node: own, mark: configuration.candidate.incarnation)]
            fresh?.isFounded = false
        }
        if let record = record ?? fresh { acceptor = Acceptor(record: record, rules: rules) }
        beginsRecord = fresh != nil
        outgoing.resendAt = now
    }

    /// This process's node.
    var own: NodeID { configuration.candidate.node }
    var times: ControlTimes { configuration.times }

    /// Whose majority decides, as far as this process knows: it reads on from there.
    var electorate: Electorate {
        if let view { return Electorate(view) }
        if let state = acceptor?.record.state { return Electorate(state) }
        return Electorate(voters: configuration.voters)
    }

    /// Whether this process votes and proposes.
    public var isVoter: Bool {
        guard let acceptor, acceptor.record.isFounded else { return false }
        if let view { return view.voters.contains(own) || view.nextVoters?.contains(own) == true }
        return electorate.contains(own)
    }

    /// When `tick` is due; `never` while nothing waits for time.
    public var nextDeadline: Tick {
        let turn = proposer.phase == .idle ? proposeAt : proposer.deadline
        return min(min(turn, detector.nextDeadline), min(min(outgoing.resendAt, orphanAt), placeAt))
    }

    /// Carries one event.
    public mutating func step(_ event: ControlEvent, now: Tick, out: inout [ControlDirective]) {
        switch event {
        case .message(let node, let message): receive(message, from: node, now, &out)
        case .persisted(let token):
            acceptor?.persisted(token)
            if acceptor?.record.isFounded == false, acceptor?.isDurable == true { outgoing.resendAt = now }
        case .persistFailed: acceptor?.fail()
        case .connectionReset(let node): connectionReset(node, now, &out)
        case .report(let report): self.report(report, now, &out)
        case .leave:
            if !outgoing.isLeaving { sayVoteStays(&out) }
            outgoing.isLeaving = true
            resend(now, &out)
        case .drained:
            outgoing.isDrained = true
            resend(now, &out)
        case .command(let command): order(command, now, &out)
        case .tick: tick(now, &out)
        }
        settle(now, &out)
    }

    /// A voter goes as any member does, and comes back with its disk when nodes restart one by one. If it does not, its
    /// seat is a voter that failed: nobody may overlook that.
    private func sayVoteStays(_ out: inout [ControlDirective]) {
        guard let view, view.voters.contains(own) else { return }
        let there = view.voters.count { $0 != own && view.member(on: $0)?.takesWork == true }
        out.append(.votesOn(tolerated: max(0, there - view.voters.count / 2 - 1)))
    }

    /// Delivers what this process says to itself, until there is no more.
    private mutating func settle(_ now: Tick, _ out: inout [ControlDirective]) {
        while true {
            if let answers = acceptor?.takeAnswers(), !answers.isEmpty {
                for answer in answers { send(answer.to, answer.message, &out) }
            }
            if !loop.isEmpty {
                let messages = loop
                loop.removeAll(keepingCapacity: true)
                for message in messages { receive(message, from: own, now, &out) }
            } else if proposer.phase == .idle, now >= proposeAt {
                consider(now, &out)
            } else {
                return
            }
        }
    }

    private mutating func tick(_ now: Tick, _ out: inout [ControlDirective]) {
        if now >= detector.nextDeadline {
            detector.tick(now, version: view?.version ?? 0, out: &out)
            if detector.hasNews { arm(now) }
        }
        if proposer.phase != .idle, now >= proposer.deadline { backOff(now) }
        if now >= placeAt {
            placeAt = .never
            arm(now)
        }
        if now >= outgoing.resendAt { resend(now, &out) }
        if now >= orphanAt { askForNews(now, &out) }
    }

    // MARK: Sending

    /// A time between nothing and `duration`.
    mutating func random(upTo duration: Duration) -> Duration {
        .nanoseconds(Int64(clamping: randomNumber() % max(duration.clampedNanoseconds, 1)))
    }

    mutating func randomNumber() -> UInt64 {
        random &+= 0x9E37_79B9_7F4A_7C15
        return StableHash.mix(random)
    }

    mutating func send(_ node: NodeID, _ message: ControlMessage, _ out: inout [ControlDirective]) {
        if node == own { loop.append(message) } else { out.append(.send(node, message)) }
    }

    /// To all who may vote, this process included.
    mutating func sendToVoters(_ message: ControlMessage, _ out: inout [ControlDirective]) {
        for node in electorate.all { send(node, message, &out) }
    }
}
