// Flockwork · Apache-2.0 · see LICENSE

// What a live process asks of its node beside stepping it. Nothing here changes anything; what is `mutating` is so that
// it works in place, since a copy of a node would cost more than the question.

package import FlockWire

extension ClusterNode {
    /// The number that a session was opened with; nil if this node is not its partition's primary, does not know the
    /// session, or this is not its secret.
    package mutating func pipeline(
        of session: SessionID, in partition: PartitionID, secret: SessionSecret
    ) -> UInt32? {
        let place = Int(partition.rawValue)
        guard place < replicas.count, seats[place]?.primary == member, member != nil else { return nil }
        return replicas[place]?.pipeline(of: session, secret: secret)
    }

    /// Requests of a pipeline and priority that its partitions have given to stages, or are about to.
    package mutating func heldItems(of priority: RequestPriority, pipeline: Int) -> Int {
        pipeline < dispatchers.count ? dispatchers[pipeline].heldItems(of: priority) : 0
    }

    /// Whether a session of a partition that it leads never submitted `sequence` or one behind it.
    package mutating func isNew(_ sequence: UInt64, of session: SessionID, in partition: PartitionID) -> Bool {
        leads(partition) && replicas[Int(partition.rawValue)]?.isNew(sequence, of: session) ?? false
    }

    /// Partitions of a group that this node leads and can answer for.
    package mutating func serving(isDurable: Bool) -> [PartitionID] {
        guard let view = control.view, !isDurable || !isDiskFailed else { return [] }
        return replicas.indices.filter { replicas[$0]?.isServing == true && view.isDurable($0) == isDurable }
            .map { PartitionID($0) }
    }

    /// Whether this node is the primary of a partition in its view.
    package mutating func leads(_ partition: PartitionID) -> Bool {
        let place = Int(partition.rawValue)
        return member != nil && place < seats.count && seats[place]?.primary == member
    }

    /// What its copies hold: sessions and requests of partitions that it leads, bytes of all.
    package mutating func load() -> (sessions: Int, openItems: Int, bytes: Int) {
        var load = (sessions: 0, openItems: 0, bytes: budget.open + budget.unread)
        for replica in replicas {
            guard let replica, replica.role == .primary else { continue }
            load.sessions += replica.sessionCount
            load.openItems += replica.openItems
        }
        return load
    }
}

extension ControlConfiguration {
    /// The number of a cluster of that name; never 0, which takes any.
    package static func clusterID(named name: String) -> UInt64 { max(StableHash(of: name).value, 1) }
}
