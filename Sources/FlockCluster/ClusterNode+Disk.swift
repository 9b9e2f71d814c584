// Flockwork · Apache-2.0 · see LICENSE

// Copies of durable partitions. What they have is given to the node's log as they get it, and counts when the log says
// that it is on the disk. A process that starts with the disk of a member takes that member's seats over; only then is
// what it finds there of any use: everything else on the disk is of another past, and is dropped.

internal import FlockWire

extension ClusterNode {
    func isDurable(_ partition: PartitionID) -> Bool { control.view?.isDurable(partition) ?? false }

    /// The copy is there, from the disk or empty, before it hears of its seats.
    mutating func installDurable(
        _ partition: PartitionID, _ new: PartitionSeats, before: PartitionSeats?, _ member: MemberNumber,
        out: inout [NodeDirective]
    ) {
        let number = Int(partition.rawValue)
        let found = takeRecovered(partition)
        if replicas[number] != nil {
            // Everything in it was declared lost: it begins anew.
            if !new.holds(member) || before?.generation != new.generation {
                out.append(.dropCopy(partition, generation: new.generation))
            }
        } else if new.holds(member) {
            replicas[number] = PartitionReplica(
                partition: partition, node: node, member: member, limits: limits, isDurable: true, rules: rules,
                history: history)
            let isSuccessor = new.recovering.contains(member)
            let own = isSuccessor && found?.generation == new.generation ? found : nil
            if own == nil && (found != nil || new.generation > 0) {
                out.append(.dropCopy(partition, generation: new.generation))
            }
            if isSuccessor { recover(partition, own, new, out: &out) }
        } else if found != nil {
            out.append(.dropCopy(partition, generation: 0))
        }
        if isDiskFailed && new.holds(member) { reportFailed(partition, new, member, out: &out) }
    }

    private mutating func recover(
        _ partition: PartitionID, _ found: RecoveredCopy?, _ new: PartitionSeats, out: inout [NodeDirective]
    ) {
        var directives: [PartitionDirective] = []
        replicas[Int(partition.rawValue)]?.recover(
            found?.snapshot ?? [], found?.entries ?? [], generation: new.generation, budget: &budget, out: &directives)
        for case .report(let report) in directives { stepControl(.report(report), out: &out) }
    }

    private mutating func takeRecovered(_ partition: PartitionID) -> RecoveredCopy? {
        guard let place = recovered.firstIndex(where: { $0.partition == partition }) else { return nil }
        return recovered.remove(at: place)
    }

    /// The first view was asked for all partitions: what is left is of none of the durable ones.
    mutating func dropRecovered(out: inout [NodeDirective]) {
        for copy in recovered { out.append(.dropCopy(copy.partition, generation: 0)) }
        recovered = []
    }

    // MARK: The log

    /// A snapshot that another copy sent is this copy's state now.
    mutating func keep(_ parts: [SnapshotPart], of partition: PartitionID, out: inout [NodeDirective]) {
        guard let head = parts.first else { preconditionFailure("a snapshot of \(partition) without parts") }
        let snapshot = WALSnapshot(
            through: head.index, epoch: head.entryEpoch, generation: generation(of: partition),
            state: SnapshotPart.encoded(parts, limits: limits))
        out.append(.keepSnapshot(partition, snapshot))
    }

    /// All that the copy has, so that older records of it can go.
    mutating func keepSnapshot(of partition: PartitionID, out: inout [NodeDirective]) {
        let number = Int(partition.rawValue)
        guard number < replicas.count, hasCopy(number), let replica = replicas[number] else {
            return out.append(.dropCopy(partition, generation: 0))
        }
        let (parts, tail) = replica.snapshot()
        guard let head = parts.first else { preconditionFailure("a snapshot of \(partition) without parts") }
        let snapshot = WALSnapshot(
            through: head.index, epoch: head.entryEpoch, generation: generation(of: partition),
            state: SnapshotPart.encoded(parts, limits: limits), tail: tail)
        out.append(.keepSnapshot(partition, snapshot))
    }

    private func generation(of partition: PartitionID) -> UInt16 {
        seats[Int(partition.rawValue)]?.generation ?? 0
    }

    // MARK: A disk that fails

    /// Nothing more can be acknowledged here: others take the seats over, as far as enough copies are left, and the
    /// process goes. Where that cannot be, its partitions wait, and clients hear that they are unavailable.
    mutating func diskFailed(out: inout [NodeDirective]) {
        guard !isDiskFailed else { return }
        isDiskFailed = true
        guard let member, let view = control.view else {
            return refuse(FlockError(.system, "the disk under the node's log failed", node: node), out: &out)
        }
        for number in replicas.indices where view.isDurable(number) {
            guard let own = seats[number], own.holds(member) else { continue }
            reportFailed(PartitionID(number), own, member, out: &out)
        }
        isLeaving = true
        stepControl(.leave, out: &out)
    }

    private mutating func reportFailed(
        _ partition: PartitionID, _ seats: PartitionSeats, _ member: MemberNumber, out: inout [NodeDirective]
    ) {
        stepControl(.report(.failed(partition, epoch: seats.epoch, member)), out: &out)
    }
}
