// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

// Operators drain nodes, suspend the pipeline and add voters, and what must be true of it.

extension Simulation {
    /// The name of what all nodes run.
    static let pipeline = "p"

    /// Something that an operator asks of some node, of the ones that run.
    func order(_ kind: FaultKind, by node: Int, of other: Int) {
        guard let view = processes[node].node?.view else { return }
        switch kind {
        case .drain:
            // One at a time, so that the others can bear the faults.
            if let drained = view.members.first(where: { $0.phase == .draining }) {
                step(node, .command(.undrain(drained.node)))
            } else {
                step(node, .command(.drain(processes[other].name)))
            }
        case .suspend:
            let isSuspended = view.suspended.contains(Self.pipeline)
            step(
                node,
                .command(isSuspended ? .resume(pipeline: Self.pipeline) : .suspend(pipeline: Self.pipeline)))
        case .addVoter:
            if view.voters.count < 5 { step(node, .command(.addVoter(processes[other].name))) }
        case .removeVoter:
            // Whichever it is: that the others vote is the register's concern. Two are left.
            let voter = view.voters[faults.random.below(view.voters.count)]
            guard view.voters.count > 2 else { return }
            faults.removals.append((node, processes[node].run))
            step(node, .command(.removeVoter(voter)))
        default: return
        }
    }

    /// The operator ends what he began. Several say it, as one of them may not be a member yet; and he looks again, as
    /// a command that a cut node took is repeated until a view has it, so that a suspension may come after its end. By
    /// the time when answers begin to count there are views again.
    func endSuspension() {
        guard profile.suspend > 0, now < healedAt + 2 * Virtual.second else { return }
        queue.push(.fault(.check(.resumption)), at: now + 100 * Virtual.millisecond)
        guard now == healedAt || god.latest?.suspended.isEmpty == false else { return }
        for place in processes.indices where processes[place].node?.member != nil {
            step(place, .command(.resume(pipeline: Self.pipeline)))
        }
    }

    /// S7: a node that knows that the pipeline is suspended appends nothing for it that was not there before.
    func handle(call: ClientCall, connection: UInt64, number: UInt64, at place: Int) {
        guard case .submit = call, let node = processes[place].node, node.view?.suspended.isEmpty == false else {
            return step(place, .call(connection: connection, number: number, call))
        }
        let last = node.mark(of: call.partition)?.last ?? 0
        step(place, .call(connection: connection, number: number, call))
        guard let after = node.mark(of: call.partition)?.last, after > last else { return }
        for index in last + 1...after {
            guard let entry = node.entry(index, of: call.partition), case .accept = entry.operation else { continue }
            violated("S7", "n\(place) accepted for \(call.partition) what is suspended")
        }
    }

    /// L7: who is drained leads nothing, if anybody else can.
    func checkDrained() {
        guard let latest = god.latest, god.latestAt + 500 * Virtual.millisecond < now else { return }
        for member in latest.members where member.phase == .draining {
            guard latest.members.contains(where: \.takesWork) else { continue }
            let led = latest.partitions.count { $0.primary == member.number }
            if led > 0 { violated("L7", "\(member.number) is drained and leads \(led) partitions") }
        }
    }
}
