// Flockwork · Apache-2.0 · see LICENSE

// What a checker may look at. Nothing here changes a node; what is `mutating` is so that it works in place, since a
// checker looks after every step and a copy of a node would cost more than the step.

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

    /// Whether a command that this process was told has not been answered by a view yet.
    package var awaitsCommands: Bool { !control.outgoing.commands.isEmpty }

    /// Whether suspect runs of its partitions wait for their turn, or have it.
    package mutating func holdsSuspects() -> Bool {
        !charges.isEmpty || dispatchers.contains { !$0.suspects.isEmpty || $0.suspectItems > 0 }
    }

    /// Where this node's copy of a partition stands; nil if it has none.
    package mutating func mark(of partition: PartitionID) -> ReplicaMark? {
        let number = Int(partition.rawValue)
        guard number < replicas.count else { return nil }
        return replicas[number]?.mark()
    }

    /// The epoch that its copy has installed; nil if it has none.
    package mutating func epoch(of partition: PartitionID) -> UInt64? {
        let number = Int(partition.rawValue)
        guard number < replicas.count else { return nil }
        return replicas[number]?.installedEpoch()
    }

    /// An entry of its log; nil if it was trimmed, or is not there.
    package mutating func entry(_ index: UInt64, of partition: PartitionID) -> LogEntry? {
        let number = Int(partition.rawValue)
        guard number < replicas.count else { return nil }
        return replicas[number]?.kept(index)
    }

    /// A hash of the state that its copy's committed entries made.
    package mutating func digest(of partition: PartitionID) -> UInt64? {
        let number = Int(partition.rawValue)
        guard number < replicas.count else { return nil }
        return replicas[number]?.digest()
    }

    /// Where its copy of a partition stands, for a person.
    package func describe(_ partition: PartitionID) -> String {
        guard let replica = replicas[Int(partition.rawValue)] else { return "-" }
        let peers = replica.peers.map {
            "\($0.member): acked \($0.acked) base \($0.base) sent \($0.sent) committed \($0.committed) told \($0.told) "
                + "resend \($0.resendAt) reported \($0.isReported) transfer \($0.transfer?.received ?? -1)"
        }
        return "\(replica.role) serving \(replica.isServing) epoch \(replica.epoch) start \(replica.log.start) last "
            + "\(replica.log.last) committed \(replica.log.committed) matched \(replica.matched) due "
            + "\(replica.nextDeadline) now \(replica.local) peers \(peers)"
    }

    /// What is asked for after each step.
    package mutating func state() -> (member: MemberNumber?, viewVersion: UInt64, nextDeadline: Tick) {
        (member, viewVersion, nextDeadline)
    }

    /// Partitions whose replica was given an event in the last step.
    package mutating func lastTouched() -> [PartitionID] { touched }

    /// What its dispatchers and stages hold, for a person.
    package var work: String {
        let held = dispatchers.reduce((0, 0)) { ($0.0 + $1.queuedItems, $0.1 + $1.sentItems) }
        let stalled = links.filter(\.isStalled).map { "\($0.peer)" }
        return "queued \(held.0) sent \(held.1) jobs \(jobs.jobs.count) unconfirmed \(jobs.parts.count) "
            + "inquiries \(inquiries.count) charges \(charges.count) stalled \(stalled)"
    }
}

extension PartitionReplica {
    fileprivate mutating func mark() -> ReplicaMark {
        ReplicaMark(
            epoch: seats.epoch, last: log.last, committed: log.committed, isPrimary: role == .primary,
            isInSync: role == .primary || role == .backup, isServing: isServing, hash: history.hash,
            violation: violation)
    }

    fileprivate mutating func installedEpoch() -> UInt64 { seats.epoch }

    fileprivate mutating func digest() -> UInt64 { stateDigest }

    fileprivate mutating func kept(_ index: UInt64) -> LogEntry? {
        index > log.start && index <= log.last ? log.entry(at: index) : nil
    }
}
