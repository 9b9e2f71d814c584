// Flockwork · Apache-2.0 · see LICENSE

// What operators decide, carried out in the agreed state. Whoever takes a command from a person asks first what speaks
// against it, in the view that it has; the register asks again in the state that it changes.

package import FlockWire

extension OperatorCommand {
    /// Why the command would do nothing in this state, and what to do instead; nil if it may be carried out.
    package func objection(in state: ControlState) -> String? {
        switch self {
        case .acceptLoss(let partition):
            guard Int(partition.rawValue) < state.partitions.count else {
                return "there is no \(partition): the cluster has \(state.partitions.count) partitions"
            }
            let seats = state.seats(partition)
            let whole = state.copiesInReach(of: partition).filter { !seats.recovering.contains($0) }
            let nodes = whole.compactMap { state.member($0)?.node }
            return nodes.isEmpty ? nil : "nothing of \(partition) is lost: \(Self.list(nodes)) has a whole copy"
        case .replication(let factor, let minimum):
            return (1...7).contains(factor) && (1...factor).contains(minimum)
                ? nil : "1 to 7 copies, and of these at least one in sync; not \(factor) and \(minimum)"
        case .replaceVoter(let old, let new):
            guard state.voters.contains(old) else {
                return "\(old) is no voter; the voters are \(Self.list(state.voters))"
            }
            if state.formerVoters.count >= ControlLimits.formerVoters { return "too many voters were replaced already" }
            return objection(toVoter: new, in: state)
        case .addVoter(let node):
            if state.voters.count >= ControlLimits.votersByCommand {
                return "there are \(state.voters.count) voters, and more only cost time: replace one of them"
            }
            return objection(toVoter: node, in: state)
        case .removeVoter(let node): return objection(toRemoving: node, in: state)
        case .drain(let node):
            guard let member = state.member(on: node) else { return Self.unknown(node, in: state) }
            if member.phase == .leaving { return "\(node) is leaving: it hands over all that it has anyway" }
            if state.members.contains(where: { $0.takesWork && $0.node != node }) { return nil }
            return "nobody else takes work: undrain another node, or start one, before \(node) is drained"
        case .undrain(let node):
            guard let member = state.member(on: node) else { return Self.unknown(node, in: state) }
            return member.phase == .leaving ? "\(node) is leaving, and comes back when it is started again" : nil
        case .suspend(let pipeline):
            if pipeline.utf8.count > ControlLimits.text || pipeline.isEmpty { return "that is no pipeline's name" }
            return state.suspended.count < ControlLimits.pipelines || state.suspended.contains(pipeline)
                ? nil : "too many pipelines are suspended"
        case .resume, .forceNewControl: return nil
        }
    }

    private func objection(toVoter node: NodeID, in state: ControlState) -> String? {
        if state.voters.contains(node) { return "\(node) is a voter already" }
        if state.formerVoters.contains(node) {
            return "\(node) was a voter and was replaced: it never votes again under this name, as its old votes may "
                + "still be on a disk; start it under another name"
        }
        if let objection = Self.pending(in: state) { return objection }
        guard let member = state.member(on: node) else { return Self.unknown(node, in: state) }
        return member.isSuspected || member.phase == .leaving
            ? "\(node) cannot be reached, or leaves: a voter must be there to stay" : nil
    }

    private func objection(toRemoving node: NodeID, in state: ControlState) -> String? {
        guard state.voters.contains(node) else {
            return "\(node) is no voter; the voters are \(Self.list(state.voters))"
        }
        if state.formerVoters.count >= ControlLimits.formerVoters { return "too many voters were replaced already" }
        if let objection = Self.pending(in: state) { return objection }
        let others = state.voters(without: node)
        if others.isEmpty { return "\(node) is the only voter: add another one first" }
        let away = others.filter { state.member(on: $0)?.isSuspected ?? true }
        return away.count * 2 < others.count
            ? nil
            : "\(Self.list(away)) cannot be reached, so that no majority of the other voters is there: replace voters "
                + "that are gone, or remove those first"
    }

    private static func pending(in state: ControlState) -> String? {
        if let exchange = state.exchange { return "\(exchange.joining) is becoming a voter: wait until it is one" }
        return state.nextVoters == nil ? nil : "a voter is being removed: wait until it is none"
    }

    private static func unknown(_ node: NodeID, in state: ControlState) -> String {
        "\(node) is no member; the members are \(list(state.members.map(\.node)))"
    }

    private static func list(_ nodes: [NodeID]) -> String { nodes.map(\.rawValue).sorted().joined(separator: ", ") }

    /// Whether the state has what the command is for; false for those whose effect cannot be seen in one state.
    package func isDone(in state: ControlState) -> Bool {
        switch self {
        case .acceptLoss, .forceNewControl: false
        case .replication(let factor, let minimum):
            state.isReplicationSet && state.replicationFactor == factor && state.minimumInSync == minimum
        case .replaceVoter(let old, let new):
            state.exchange == nil && state.voters.contains(new) && !state.voters.contains(old)
        case .addVoter(let node): state.exchange == nil && state.voters.contains(node)
        case .removeVoter(let node): state.nextVoters == nil && !state.voters.contains(node)
        case .drain(let node): state.member(on: node)?.phase == .draining
        case .undrain(let node): state.member(on: node).map { $0.phase != .draining } ?? false
        case .suspend(let pipeline): state.suspended.contains(pipeline)
        case .resume(let pipeline): !state.suspended.contains(pipeline)
        }
    }

    /// Changes the state, unless something speaks against it. Returns the partitions that are given up. A voter is
    /// removed only if a majority of the others are `voting`: they are known to have a record.
    func carryOut(in state: inout ControlState, voting: [NodeID] = []) -> [PartitionID] {
        guard objection(in: state) == nil else { return [] }
        switch self {
        case .acceptLoss(let partition): return [partition]
        case .replication(let factor, let minimum):
            state.replicationFactor = factor
            state.minimumInSync = minimum
            state.isReplicationSet = true
        case .replaceVoter(let old, let new): state.beginExchange(of: old, for: new)
        case .addVoter(let node): state.beginExchange(of: nil, for: node)
        case .removeVoter(let node):
            let others = state.voters(without: node)
            if Electorate(voters: others).isMajority(voting) { state.nextVoters = others }
        case .drain(let node): state.setPhase(.draining, of: node)
        case .undrain(let node):
            // Up again at once if it kept a copy: see `settleMembers`.
            if state.member(on: node)?.phase == .draining { state.setPhase(.joining, of: node) }
        case .suspend(let pipeline):
            if !state.suspended.contains(pipeline) { state.suspended = (state.suspended + [pipeline]).sorted() }
        case .resume(let pipeline): state.suspended.removeAll { $0 == pipeline }
        case .forceNewControl:
            break  // Not a change of the agreed state but a new one: see `ControlNode`.
        }
        return []
    }
}

extension ControlState {
    /// The members in sync with a partition that are not suspected; after a restart some may have to look at their
    /// disks first (`recovering`).
    package func copiesInReach(of partition: PartitionID) -> [MemberNumber] {
        seats(partition).inSync.filter { member($0).map { !$0.isSuspected } ?? false }
    }

    /// Who votes when that node does not.
    func voters(without node: NodeID) -> [NodeID] { voters.filter { $0 != node } }

    fileprivate mutating func beginExchange(of leaving: NodeID?, for joining: NodeID) {
        guard let member = member(on: joining) else { return }
        exchange = VoterExchange(leaving: leaving, joining: joining, member: member.number)
    }

    fileprivate mutating func setPhase(_ phase: Member.Phase, of node: NodeID) {
        guard let place = members.firstIndex(where: { $0.node == node }) else { return }
        members[place].phase = phase
    }
}
