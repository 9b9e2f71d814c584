// Flockwork · Apache-2.0 · see LICENSE

// What a checker may look at. Nothing here changes a node.

package import FlockWire

/// Where a copy stands.
package struct ReplicaMark: Sendable {
    package var epoch: UInt64
    package var last: UInt64
    package var committed: UInt64
    package var isPrimary: Bool
    package var isInSync: Bool
    package var isServing: Bool
    /// Running hash of the committed entries, if it is kept.
    package var hash: UInt64
    /// What went against an invariant, with some rule left out.
    package var violation: String?
}

extension ClusterNode {
    /// The version of the view that it has; 0 for none.
    package var viewVersion: UInt64 { control.view?.version ?? 0 }

    /// Where this node's copy of a partition stands; nil if it has none.
    package func mark(of partition: PartitionID) -> ReplicaMark? {
        let number = Int(partition.rawValue)
        guard number < replicas.count, let member, let seats = seats[number], replicas[number] != nil else { return nil }
        return ReplicaMark(
            epoch: seats.epoch, last: replicas[number]!.log.last, committed: replicas[number]!.log.committed,
            isPrimary: seats.primary == member, isInSync: seats.inSync.contains(member),
            isServing: replicas[number]!.isServing, hash: replicas[number]!.history.hash,
            violation: replicas[number]!.violation)
    }

    /// An entry of its log; nil if it was trimmed, or is not there.
    package func entry(_ index: UInt64, of partition: PartitionID) -> LogEntry? {
        let number = Int(partition.rawValue)
        guard number < replicas.count, replicas[number] != nil else { return nil }
        guard index > replicas[number]!.log.start, index <= replicas[number]!.log.last else { return nil }
        return replicas[number]!.log.entry(at: index)
    }

    /// What its dispatchers and stages hold, for a person.
    package var work: String {
        let held = dispatchers.reduce((0, 0)) { ($0.0 + $1.queuedItems, $0.1 + $1.sentItems) }
        let stalled = links.filter(\.isStalled).map { "\($0.peer)" }
        return "queued \(held.0) sent \(held.1) jobs \(jobs.jobs.count) inquiries \(inquiries.count) stalled \(stalled)"
    }
}
