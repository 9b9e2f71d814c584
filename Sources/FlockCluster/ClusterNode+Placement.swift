// Flockwork · Apache-2.0 · see LICENSE

// Which stages have instances where. A node works out its own share from its view and its plan, and tells the others
// which stages it has instances of, once it has them: to load a model takes its time, and may fail. Runs go to members
// that have said so, and to nobody else. A node whose share has become zero goes on until another one has instances.

package import FlockWire

extension ClusterNode {
    // MARK: This node's instances

    /// Stages that this node has instances of, by number.
    private var stagesHere: [UInt32] {
        // Who has said that only its seats keep it begins nothing any more.
        isDrained ? [] : hosted.indices.filter { hosted[$0] > 0 }.map(UInt32.init)
    }

    /// The shell has so many instances of each stage now.
    mutating func hosts(_ counts: [Int], out: inout [NodeDirective]) {
        precondition(counts.count == plan.stages.count, "\(counts.count) counts for \(plan.stages.count) stages")
        let before = stagesHere
        hosted = counts
        if stagesHere != before { tellHosted() }
        hostsChanged(out: &out)
    }

    /// Everybody hears which stages have instances here.
    mutating func tellHosted() {
        for peer in links.map(\.peer) { send(.hosts(stagesHere), to: peer) }
    }

    /// The same for a member that is new. Who hears nothing takes it for none.
    mutating func tellHosted(_ peer: MemberNumber) {
        if !stagesHere.isEmpty { send(.hosts(stagesHere), to: peer) }
    }

    /// A member has instances of these stages, and of no others.
    mutating func heard(_ stages: [UInt32], hostedBy peer: MemberNumber, out: inout [NodeDirective]) {
        guard let place = place(of: peer) else { return }
        links[place].hosted = stages.map { Int($0) }.filter { $0 < plan.stages.count }
        hostsChanged(out: &out)
    }

    /// Members, their links or their instances are others than before.
    mutating func hostsChanged(out: inout [NodeDirective]) {
        updateHosts(out: &out)
        place(out: &out)
    }

    /// Says which instances this node is to have, if they are others than it has been told last.
    private mutating func place(out: inout [NodeDirective]) {
        guard let view = control.view, member != nil else { return }
        let wanted = plan.stages.indices.map { stage in
            let share = plan.stages[stage].count(on: node, of: view.members, cores: plan.cores)
            guard share == 0, hosted[stage] > 0 else { return share }
            let isMissed = !hasTaker(of: stage, besides: member, view)
            return isMissed || !rules.followsPlacement ? placed?[stage] ?? hosted[stage] : 0
        }
        guard wanted != placed else { return }
        placed = wanted
        out.append(.place(wanted))
    }

    // MARK: Hosts of the dispatchers

    /// Whether a member has instances of a stage, as far as is known here.
    private func isHosted(_ stage: Int, by number: MemberNumber) -> Bool {
        if number == member { return hosted[stage] > 0 && !isDrained }
        return links.contains { $0.peer == number && !$0.isStalled && $0.hosted.contains(stage) }
    }

    /// Whether another member that takes work has instances of a stage.
    private func hasTaker(of stage: Int, besides host: MemberNumber?, _ view: ControlState) -> Bool {
        view.members.contains { $0.number != host && $0.takesWork && isHosted(stage, by: $0.number) }
    }

    /// Whether a member gets no new runs of a stage that it has instances of. One that is drained does where nobody
    /// else has any; so does one that leaves, while there is somebody who will have some.
    private func isRelieved(_ host: Member, of stage: Int, _ view: ControlState) -> Bool {
        guard host.phase.isRelieved else { return false }
        if hasTaker(of: stage, besides: host.number, view) { return true }
        guard host.phase == .leaving else { return false }
        return !view.members.contains { $0.takesWork && plan.stages[stage].isAllowed(on: $0.labels) }
    }

    /// Opens and closes the hosts of each dispatcher. Those of a pipeline are open only while each of its later lanes
    /// has instances somewhere: else what is sent would be executed in vain.
    private mutating func updateHosts(out: inout [NodeDirective]) {
        guard let view = control.view, let member else { return }
        for lane in dispatchers.indices {
            let stages = plan.pipelines[lane]
            let isWhole = stages.dropFirst().allSatisfy { stage in
                hosted[stage] > 0 || links.contains { !$0.isStalled && $0.hosted.contains(stage) }
            }
            for host in view.members {
                let isOpen =
                    isWhole && isHosted(stages[0], by: host.number) && !isRelieved(host, of: stages[0], view)
                if let place = place(of: host.number) {
                    guard links[place].isOpen[lane] != isOpen else { continue }
                    links[place].isOpen[lane] = isOpen
                } else {
                    guard host.number == member, isOpenHere[lane] != isOpen else { continue }
                    isOpenHere[lane] = isOpen
                }
                stepDispatcher(lane, isOpen ? up(host.number) : .hostClosing(Self.host(host.number)), out: &out)
                if isOpen { dispatcherIsDue = true }
            }
        }
    }

    /// A member is known to all dispatchers; open to those whose stages it has instances of.
    mutating func hostUp(_ number: MemberNumber, out: inout [NodeDirective]) {
        for lane in dispatchers.indices { stepDispatcher(lane, up(number), out: &out) }
        let all = Array(repeating: true, count: dispatchers.count)
        if let place = place(of: number) { links[place].isOpen = all } else { isOpenHere = all }
        hostsChanged(out: &out)
        dispatcherIsDue = true
    }

    private func up(_ number: MemberNumber) -> DispatcherEvent {
        .hostUp(
            Self.host(number), isLocal: number == member, creditItems: limits.creditItems,
            creditBytes: limits.creditBytes)
    }

    /// A member, as dispatchers know it.
    private static func host(_ number: MemberNumber) -> HostID { HostID(rawValue: UInt64(number.rawValue)) }
}

// What a shell asks.

extension ClusterNode {
    /// Nodes that have instances of a stage, those that take work first; in order of admission.
    package func nodes(hosting stage: Int) -> [NodeID] {
        let members = (control.view?.members ?? []).filter { isHosted(stage, by: $0.number) }
        let takers = members.filter(\.takesWork)
        return (takers.isEmpty ? members : takers).map(\.node)
    }

    /// Whether this node has a run's first lane, and is not told to have none of it.
    func hasInstances(lane: UInt32) -> Bool {
        // A lane that this program does not have is the shell's business.
        guard Int(lane) < plan.pipelines.count else { return true }
        return hosted[plan.pipelines[Int(lane)][0]] > 0
    }

    /// Stages that no member has the labels for.
    package var unplaceable: [Int] {
        guard let view = control.view, !view.members.isEmpty else { return [] }
        return plan.stages.indices.filter { stage in
            !view.members.contains { plan.stages[stage].isAllowed(on: $0.labels) }
        }
    }
}
