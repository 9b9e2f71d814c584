// Flockwork · Apache-2.0 · see LICENSE

// The one function that changes the agreed state: from the state that a proposer read and the reasons that it has to
// the next state. Pure and deterministic; everything that happens to members and voters is here, what happens to
// partitions is in `PartitionRules`.

import FlockWire

/// The function `f` of the register.
struct ControlRules: Sendable {
    let rules: Rules
    let learnersPerMember: Int
    let movesPerMember: Int
    private var placement: Placement

    init(rules: Rules, times: ControlTimes) {
        self.rules = rules
        placement = Placement(relieves: rules.relievesDrained)
        learnersPerMember = times.learnersPerMember
        movesPerMember = times.movesPerMember
    }

    /// The first state of a cluster, with those that asked to be admitted; nil if nobody did.
    mutating func first(_ configuration: ControlConfiguration, _ reasons: ControlReasons) -> ControlState? {
        let empty = ControlState(
            version: 0, clusterID: configuration.clusterID, minimumProtocol: 1, replicationFactor: 1,
            minimumInSync: 1, durablePartitions: configuration.durablePartitions, voters: configuration.voters,
            nextVoters: nil,
            exchange: nil, formerVoters: [], members: [], nextMember: 1, retired: [],
            partitions: Array(
                repeating: PartitionSeats(epoch: 0, primary: nil, inSync: []), count: configuration.partitions),
            isReplicationSet: false, commands: [], suspended: [])
        return next(empty, reasons, isAgreed: true)
    }

    /// The state that the reasons, and `state` itself, call for; nil if it may stay as it is. `isAgreed`: `state` is
    /// known to have been chosen, not only accepted by somebody.
    mutating func next(_ state: ControlState, _ reasons: ControlReasons, isAgreed: Bool) -> ControlState? {
        var new = state
        var given: [PartitionID] = []
        for command in reasons.commands where new.member(command.id.issuer) != nil {
            let last = new.lastCommand(of: command.id.issuer)
            guard command.id.number == last + 1 else { continue }
            // As every step of a change of voters: see `changeVoters`.
            if case .removeVoter = command.command, !isAgreed { continue }
            let voting = rules.asksRemainingVoters ? reasons.voting : state.voters
            given += command.command.carryOut(in: &new, voting: voting)
            new.commands.removeAll { $0.issuer == command.id.issuer }
            let place = new.commands.firstIndex { $0.issuer > command.id.issuer } ?? new.commands.count
            new.commands.insert(command.id, at: place)
        }
        let successors = removeAndAdmit(reasons, in: &new)
        let numbers = new.members.map(\.number)
        new.commands.removeAll { !numbers.contains($0.issuer) }
        for number in reasons.suspected { change(number, in: &new) { $0.isSuspected = true } }
        for number in reasons.trusted { change(number, in: &new) { $0.isSuspected = false } }
        for number in reasons.leaving { change(number, in: &new) { $0.phase = .leaving } }
        changeVoters(reasons, isAgreed: isAgreed, in: &new)
        growReplication(in: &new)
        var partitions = PartitionRules(
            rules: rules, owners: placement.owners(in: new), reasons: reasons, successors: successors,
            givenUp: given, learnersPerMember: learnersPerMember, movesPerMember: movesPerMember)
        partitions.apply(to: &new)
        raiseMinimum(in: &new)
        settleMembers(in: &new)
        guard new != state else { return nil }
        new.version = state.version + 1
        return new
    }

    private func change(_ number: MemberNumber, in state: inout ControlState, _ body: (inout Member) -> Void) {
        guard let place = state.place(of: number) else { return }
        body(&state.members[place])
    }

    // MARK: Members

    /// Removes who is gone for good, admits who asks. Returns who takes over the disk of whom.
    private func removeAndAdmit(
        _ reasons: ControlReasons, in state: inout ControlState
    ) -> [(old: MemberNumber, new: MemberNumber)] {
        var gone = reasons.resets
        for number in reasons.drained where state.member(number)?.phase == .leaving {
            if !rules.handsOverBeforeLeaving || !state.hasSeat(number) { gone.append(number) }
        }
        for number in reasons.expired where state.member(number)?.isSuspected == true {
            if !state.partitions.contains(where: { $0.inSync.contains(number) }) { gone.append(number) }
        }
        var admitted: [(Candidate, replaced: Member?)] = []
        for join in reasons.joins where join.isOpen(in: state) {
            let candidate = join.candidate
            let old = state.member(on: candidate.node)
            if candidate.protocolVersion < state.minimumProtocol { continue }
            // It says so itself, and goes.
            if state.isDurable && candidate.disk == 0 { continue }
            if admitted.contains(where: { $0.0.node == candidate.node }) { continue }
            admitted.append((candidate, old))
            if let old { gone.append(old.number) }
        }
        for number in gone.sorted() {
            if let place = state.place(of: number) { state.retire(at: place) }
        }
        var successors: [(old: MemberNumber, new: MemberNumber)] = []
        for (candidate, old) in admitted {
            let number = MemberNumber(rawValue: state.nextMember)
            state.nextMember += 1
            state.members.append(candidate.admitted(as: number))
            if let old, state.isDurable, old.disk != 0, old.disk == candidate.disk {
                successors.append((old.number, number))
            }
        }
        return successors
    }

    /// A member that is in sync with something has joined.
    private func settleMembers(in state: inout ControlState) {
        guard state.members.contains(where: { $0.phase == .joining }) else { return }
        for place in state.members.indices where state.members[place].phase == .joining {
            let number = state.members[place].number
            if state.partitions.contains(where: { $0.inSync.contains(number) }) { state.members[place].phase = .up }
        }
    }

    // MARK: Voters and replication

    /// A step of an exchange of voters starts from a state that is known to be agreed. One that starts from an accepted
    /// state, which then is not chosen, could let two disjoint majorities decide.
    private func changeVoters(_ reasons: ControlReasons, isAgreed: Bool, in state: inout ControlState) {
        guard isAgreed else { return }
        if let next = state.nextVoters {
            state.formerVoters += state.voters.filter { !next.contains($0) }
            state.voters = next
            state.nextVoters = nil
            state.exchange = nil
            return
        }
        guard let exchange = state.exchange else { return }
        if state.member(exchange.member) == nil {
            state.exchange = nil  // It died before it had a record: nothing happened yet.
        } else if reasons.enrolled.contains(exchange.member) {
            state.nextVoters = (state.voters.filter { $0 != exchange.leaving } + [exchange.joining]).sorted()
        }
    }

    /// One, two and three nodes have so many copies. They only grow: with fewer nodes later, the missing copies are
    /// missing, not unwanted.
    private func growReplication(in state: inout ControlState) {
        guard !state.isReplicationSet else { return }
        let present = state.members.count { $0.takesWork }
        state.replicationFactor = max(state.replicationFactor, min(present, 3))
    }

    /// Raised only once every partition has the copies, or none was ever used: growth must not stop what works.
    private func raiseMinimum(in state: inout ControlState) {
        guard !state.isReplicationSet, state.replicationFactor >= 3, state.minimumInSync < 2 else { return }
        if state.partitions.allSatisfy({ $0.inSync.count >= 2 }) { state.minimumInSync = 2 }
    }
}

extension ControlState {
    /// Whether a member has a copy of something, or is to get one.
    func hasSeat(_ number: MemberNumber) -> Bool { partitions.contains { $0.holds(number) } }
}
