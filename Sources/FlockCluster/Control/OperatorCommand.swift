// Flockwork · Apache-2.0 · see LICENSE

// What operators decide, carried out in the agreed state. Whoever takes a command from a person asks first what speaks
// against it, in the view that it has; the register asks again in the state that it changes.

internal import FlockWire

extension OperatorCommand {
    /// Why the command would do nothing in this state, and what to do instead; nil if it may be carried out.
    package func objection(in state: ControlState) -> String? {
        switch self {
        case .acceptLoss(let partition):
            return Int(partition.rawValue) < state.partitions.count
                ? nil : "there is no \(partition): the cluster has \(state.partitions.count) partitions"
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
            return state.suspended.count < ControlLimits.deployments || state.suspended.contains(pipeline)
                ? nil : "too many pipelines are suspended"
        case .deploy, .withdraw, .resume, .forceNewControl: return nil
        }
    }

    private func objection(toVoter node: NodeID, in state: ControlState) -> String? {
        if state.voters.contains(node) { return "\(node) is a voter already" }
        if state.formerVoters.contains(node) {
            return "\(node) was a voter and was replaced: it never votes again under this name, as its old votes may "
                + "still be on a disk; start it under another name"
        }
        if let exchange = state.exchange {
            return "\(exchange.joining) is becoming a voter: wait until it is one"
        }
        guard let member = state.member(on: node) else { return Self.unknown(node, in: state) }
        return member.isSuspected || member.phase == .leaving
            ? "\(node) cannot be reached, or leaves: a voter must be there to stay" : nil
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
        case .drain(let node): state.member(on: node)?.phase == .draining
        case .undrain(let node): state.member(on: node).map { $0.phase != .draining } ?? false
        case .suspend(let pipeline): state.suspended.contains(pipeline)
        case .resume(let pipeline): !state.suspended.contains(pipeline)
        case .deploy(let deployment): state.deployments.contains(deployment)
        case .withdraw(let pipeline): !state.deployments.contains { $0.pipeline == pipeline }
        }
    }

    /// Changes the state, unless something speaks against it. Returns the partitions that are given up.
    func carryOut(in state: inout ControlState) -> [PartitionID] {
        guard objection(in: state) == nil else { return [] }
        switch self {
        case .acceptLoss(let partition): return [partition]
        case .replication(let factor, let minimum):
            state.replicationFactor = factor
            state.minimumInSync = minimum
            state.isReplicationSet = true
        case .replaceVoter(let old, let new): state.beginExchange(of: old, for: new)
        case .addVoter(let node): state.beginExchange(of: nil, for: node)
        case .drain(let node): state.setPhase(.draining, of: node)
        case .undrain(let node):
            // Up again at once if it kept a copy: see `settleMembers`.
            if state.member(on: node)?.phase == .draining { state.setPhase(.joining, of: node) }
        case .suspend(let pipeline):
            if !state.suspended.contains(pipeline) { state.suspended = (state.suspended + [pipeline]).sorted() }
        case .resume(let pipeline): state.suspended.removeAll { $0 == pipeline }
        case .deploy(let deployment):
            state.deployments.removeAll { $0.pipeline == deployment.pipeline }
            state.deployments.append(deployment)
            state.deployments.sort { $0.pipeline < $1.pipeline }
        case .withdraw(let pipeline):
            state.deployments.removeAll { $0.pipeline == pipeline }
        case .forceNewControl:
            break  // Not a change of the agreed state but a new one: see `ControlNode`.
        }
        return []
    }
}

extension ControlState {
    fileprivate mutating func beginExchange(of leaving: NodeID?, for joining: NodeID) {
        guard let member = member(on: joining) else { return }
        exchange = VoterExchange(leaving: leaving, joining: joining, member: member.number)
    }

    fileprivate mutating func setPhase(_ phase: Member.Phase, of node: NodeID) {
        guard let place = members.firstIndex(where: { $0.node == node }) else { return }
        members[place].phase = phase
    }
}
