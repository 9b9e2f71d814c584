// Flockwork · Apache-2.0 · see LICENSE

// What a new view means for this node: copies come and go, members join the hosts of its dispatchers or are lost.

internal import FlockWire

extension ClusterNode {
    mutating func installAll(out: inout [NodeDirective]) {
        install((control.view?.partitions.indices ?? 0..<0).map { PartitionID($0) }, out: &out)
    }

    /// Why a process with copies in memory alone has no place among durable ones: its acknowledgement would say that an
    /// entry is on a disk.
    static func needsDisks(_ node: NodeID) -> FlockError {
        FlockError(
            .unavailable, "the cluster's partitions are durable, and this process keeps its copies in memory only",
            node: node)
    }

    /// Stops for good.
    mutating func refuse(_ error: FlockError, out: inout [NodeDirective]) {
        guard refusal == nil else { return }
        refusal = error
        out.append(.refused(error))
    }

    /// Seats of these partitions have changed, and members may have.
    mutating func install(_ changed: [PartitionID], out: inout [NodeDirective]) {
        guard let view = control.view else { return }
        if view.isDurable && !hasDisk { return refuse(Self.needsDisks(node), out: &out) }
        guard let member else { return }
        if replicas.isEmpty {
            // As many as the cluster has, whatever this process was configured with.
            replicas = Array(repeating: nil, count: view.partitions.count)
            seats = Array(repeating: nil, count: view.partitions.count)
            formers = Array(repeating: nil, count: view.partitions.count)
        }
        installMembers(view, member, out: &out)
        let isNewMinimum = minimumInSync != view.minimumInSync
        minimumInSync = view.minimumInSync
        suspend(view.suspended)
        for partition in changed {
            let number = Int(partition.rawValue)
            guard number < replicas.count, number < view.partitions.count else { continue }
            let new = view.partitions[number]
            guard seats[number] != new || isNewMinimum else { continue }
            let before = seats[number]
            seats[number] = new
            if let before, before.primary != new.primary { formers[number] = before.primary ?? formers[number] }
            if view.isDurable(number) {
                installDurable(partition, new, before: before, member, out: &out)
            } else if new.holds(member) && replicas[number] == nil {
                replicas[number] = PartitionReplica(
                    partition: partition, node: node, member: member, limits: limits, isDurable: false, rules: rules,
                    history: history)
                replicas[number]?.suspended = suspended
            }
            if replicas[number] != nil {
                stepReplica(partition, .seats(new, minimumInSync: view.minimumInSync), out: &out)
            }
            if !new.holds(member) { replicas[number] = nil }
            if before?.primary != new.primary { primaryChanged(partition) }
        }
        if !recovered.isEmpty { dropRecovered(out: &out) }
    }

    /// Every copy is told, as any may lead from the next view on.
    private mutating func suspend(_ pipelines: [String]) {
        guard !pipelines.isEmpty || !suspended.isEmpty else { return }
        let lanes = control.configuration.pipelines.indices.filter {
            pipelines.contains(control.configuration.pipelines[$0])
        }
        guard lanes != suspended else { return }
        suspended = lanes
        for number in replicas.indices where replicas[number] != nil { replicas[number]?.suspended = lanes }
    }

    private mutating func installMembers(_ view: ControlState, _ member: MemberNumber, out: inout [NodeDirective]) {
        var place = 0
        while place < links.count {
            let peer = links[place].peer
            guard !view.members.contains(where: { $0.number == peer }) else {
                place += 1
                continue
            }
            links.remove(at: place)
            inquiryLost(peer, out: &out)
            for lane in dispatchers.indices {
                stepDispatcher(lane, .hostLost(HostID(rawValue: UInt64(peer.rawValue))), out: &out)
            }
            dispatcherIsDue = true
        }
        for other in view.members where other.number != member {
            guard self.place(of: other.number) == nil else { continue }
            let link = WorkLink(peer: other.number, node: other.node, lanes: dispatchers.count)
            links.insert(link, at: links.firstIndex { $0.peer > other.number } ?? links.count)
            tellHosted(other.number)
            hostUp(other.number, out: &out)
        }
        followSuspicion(view, out: &out)
        if !isHostItself {
            isHostItself = true
            hostUp(member, out: &out)
        }
        hostsChanged(out: &out)
    }

    /// Who is suspected is not waited for: a majority has not heard it for a while, or its connection was reset.
    private mutating func followSuspicion(_ view: ControlState, out: inout [NodeDirective]) {
        for place in links.indices {
            let isSuspected = view.member(links[place].peer)?.isSuspected ?? false
            guard isSuspected != links[place].isSuspected else { continue }
            links[place].isSuspected = isSuspected
            if isSuspected && !links[place].isStalled {
                stall(place, out: &out)
            } else if !isSuspected && links[place].isStalled && links[place].waitingSince == nil {
                // Nothing is out whose arrival would show that the link moves.
                links[place].isStalled = false
                hostUp(links[place].peer, out: &out)
            }
        }
    }

    /// The place of a member's link; few members, so a search by halves would not be faster.
    func place(of member: MemberNumber) -> Int? { links.firstIndex { $0.peer == member } }
}
