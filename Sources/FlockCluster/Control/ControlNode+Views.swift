// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

extension ControlNode {
    /// Versions of which the differences are kept for those who missed them.
    private static let historyCount = 32

    // MARK: Publishing

    /// A state was chosen in a turn of this process: install it and tell all whom it concerns, those who are no longer
    /// members too, so that they know.
    mutating func publish(_ state: ControlState, _ now: Tick, _ out: inout [ControlDirective]) {
        guard state.version > view?.version ?? 0 else { return arm(now) }
        let old = view
        lead = own
        let delta = old.map { ControlDelta(from: $0, to: state) }
        install(state, deltas: delta.map { [$0] } ?? [], now, &out)
        var told = [own]
        for member in state.members where !told.contains(member.node) {
            told.append(member.node)
            let isNew = member.number.rawValue >= old?.nextMember ?? 0
            send(member.node, delta.flatMap { isNew ? nil : .deltas([$0]) } ?? .view(state), &out)
        }
        let rest = Electorate(state).all + (old?.members.map(\.node) ?? [])
        for node in rest where !told.contains(node) {
            told.append(node)
            send(node, delta.map { .deltas([$0]) } ?? .view(state), &out)
        }
    }

    /// What a process with that version is missing; nil for nothing.
    func news(since version: UInt64) -> ControlMessage? {
        guard let view, view.version > version else { return nil }
        if let place = history.firstIndex(where: { $0.base == version }) { return .deltas(Array(history[place...])) }
        return .view(view)
    }

    // MARK: Installing

    /// A whole agreed state.
    mutating func receiveView(_ state: ControlState, from node: NodeID, _ now: Tick, _ out: inout [ControlDirective]) {
        guard isOurs(state.clusterID), state.version > view?.version ?? 0 else { return }
        if let view, view.partitions.count != state.partitions.count { return }
        if view == nil, !isOut, configuration.isBootstrap, let error = partitionMismatch(state) {
            isOut = true
            detector.stop()
            return out.append(.refused(error))
        }
        if state.voters.contains(node) { lead = node }
        install(state, deltas: view.map { [ControlDelta(from: $0, to: state)] } ?? [], now, &out)
    }

    /// Agreed changes; those that do not follow on what is here are asked for.
    mutating func receiveDeltas(
        _ deltas: [ControlDelta], from node: NodeID, _ now: Tick, _ out: inout [ControlDirective]
    ) {
        guard let last = deltas.last, last.version > view?.version ?? 0 else { return }
        if var state = view {
            var applied: [ControlDelta] = []
            for delta in deltas where delta.base == state.version && delta.version > delta.base {
                guard delta.apply(to: &state) else { break }
                applied.append(delta)
            }
            if !applied.isEmpty, isOurs(state.clusterID) {
                if state.voters.contains(node) { lead = node }
                install(state, deltas: applied, now, &out)
            }
        }
        hint(last.version, from: node, now, &out)
    }

    /// Whoever names the voters of a cluster also names its partitions. A process that only joins takes what there is.
    private func partitionMismatch(_ state: ControlState) -> FlockError? {
        guard state.partitions.count == configuration.partitions else {
            return FlockError(
                .unavailable,
                "the cluster has \(state.partitions.count) partitions, this voter is configured with "
                    + "\(configuration.partitions)", node: own)
        }
        guard state.durablePartitions == configuration.durablePartitions else {
            return FlockError(
                .unavailable,
                "of the cluster's partitions \(state.durablePartitions) are durable, this voter is configured with "
                    + "\(configuration.durablePartitions)", node: own)
        }
        return nil
    }

    private func isOurs(_ cluster: UInt64) -> Bool {
        configuration.clusterID == 0 || configuration.clusterID == cluster
    }

    /// Somebody has that version: a newer one is worth asking for.
    mutating func hint(_ version: UInt64, from node: NodeID, _ now: Tick, _ out: inout [ControlDirective]) {
        guard version > view?.version ?? 0, now >= pullAfter else { return }
        pullAfter = now + .milliseconds(20)
        send(node, .pull(have: view?.version ?? 0), &out)
    }

    /// A process that no voter probes may have been evicted without hearing of it.
    mutating func askForNews(_ now: Tick, _ out: inout [ControlDirective]) {
        orphanAt = .never
        guard member != nil, !isOut else { return }
        orphanAt = now + times.orphanInterval
        let voters = electorate.all.filter { $0 != own }
        guard !voters.isEmpty else { return }
        let place = Int(randomNumber() % UInt64(voters.count))
        send(voters[place], .pull(have: view?.version ?? 0), &out)
    }

    /// The one place where a view changes: upwards.
    private mutating func install(
        _ state: ControlState, deltas: [ControlDelta], _ now: Tick, _ out: inout [ControlDirective]
    ) {
        precondition(state.version > view?.version ?? 0, "version \(state.version) after \(view?.version ?? 0)")
        let old = view
        view = state
        history += deltas
        if history.count > Self.historyCount { history.removeFirst(history.count - Self.historyCount) }
        settleMembership(state, &out)
        let changed = changedPartitions(from: old, to: state, deltas)
        out.append(.install(changed: changed))
        if let old {
            let lost = changed.filter { state.seats($0).generation != old.seats($0).generation }
            if !lost.isEmpty { out.append(.lost(lost)) }
        }
        outgoing.prune(state, member: member)
        outgoing.resets = []
        enrol(now, &out)
        guard isVoter, !isOut else {
            detector.stop()
            proposeAt = .never
            placeAt = .never
            return
        }
        detector.watch(state, now: now)
        if !isUnplaced(state) {
            placeAt = .never
        } else if old == nil {
            placeAt = now + times.bootstrapGrace
        }
        proposeAt = .never
        arm(now)
    }

    /// Partitions of which replicas have to hear: their seats are others, or the copies that each of them needs.
    private func changedPartitions(
        from old: ControlState?, to state: ControlState, _ deltas: [ControlDelta]
    ) -> [PartitionID] {
        guard old?.minimumInSync == state.minimumInSync else { return state.partitions.indices.map { PartitionID($0) } }
        if deltas.count == 1 { return deltas[0].partitions }
        return state.partitions.indices.filter { state.partitions[$0].epoch > old?.partitions[$0].epoch ?? 0 }
            .map { PartitionID($0) }
    }

    /// Whether partitions were never given to anybody.
    func isUnplaced(_ state: ControlState) -> Bool { state.partitions.contains { $0.epoch == 0 } }

    private mutating func settleMembership(_ state: ControlState, _ out: inout [ControlDirective]) {
        guard !isOut else { return }
        let candidate = configuration.candidate
        if let member {
            guard state.member(member) == nil else { return }
            isOut = true
            out.append(outgoing.isLeaving ? .left : .evicted)
        } else if let found = state.member(on: own), found.incarnation == candidate.incarnation {
            member = found.number
            orphanAt = .zero
            out.append(.admitted(found.number))
        } else if state.isRetired(own, incarnation: candidate.incarnation) {
            isOut = true
            out.append(.evicted)
        } else {
            outgoing.resendAt = .zero  // It may be a member in place of an earlier process, which it now can name.
        }
    }
}
