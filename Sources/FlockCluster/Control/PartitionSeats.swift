// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// Who holds a partition. Any change of it, learners included, has a new epoch.
public struct PartitionSeats: Sendable, Hashable {
    /// Grows with every change; 0 before anybody was given the partition.
    public var epoch: UInt64
    /// The only member that may commit in this epoch; nil while no member in sync can be reached.
    public var primary: MemberNumber?
    /// The members that must have an entry before it is committed, ascending.
    public var inSync: [MemberNumber]
    /// Members that copy the partition and do not count yet, ascending.
    public var learners: [MemberNumber]
    /// Of those in sync: the ones that restarted with their disk and did not say yet what is on it. None of them
    /// becomes primary before that. Ascending.
    public var recovering: [MemberNumber]
    /// How often everything in the partition was lost; session ids carry it.
    public var generation: UInt16

    /// Seats in an epoch.
    public init(
        epoch: UInt64, primary: MemberNumber?, inSync: [MemberNumber], learners: [MemberNumber] = [],
        generation: UInt16 = 0, recovering: [MemberNumber] = []
    ) {
        self.epoch = epoch
        self.primary = primary
        self.inSync = inSync
        self.learners = learners
        self.recovering = recovering
        self.generation = generation
    }

    /// Whether that member has a copy, or is to get one.
    public func holds(_ member: MemberNumber) -> Bool { inSync.contains(member) || learners.contains(member) }
}

/// What a replica tells the voters, who may change its seats for it. A report counts only for the epoch that it names.
public enum PartitionReport: Sendable, Hashable {
    /// The learner has everything that the primary has; from this report on the primary waits for it (rule R3).
    case caughtUp(PartitionID, epoch: UInt64, MemberNumber)
    /// A member in sync is so far behind, or so long out of reach, that commits wait for it.
    case lagging(PartitionID, epoch: UInt64, MemberNumber)
    /// After a restart with its disk: what the member's log holds.
    case rejoined(PartitionID, MemberNumber, lastEpoch: UInt64, lastIndex: UInt64)
    /// The member cannot keep its copy (its disk failed).
    case failed(PartitionID, epoch: UInt64, MemberNumber)

    /// Which partition it is about.
    public var partition: PartitionID {
        switch self {
        case .caughtUp(let partition, _, _), .lagging(let partition, _, _), .rejoined(let partition, _, _, _),
            .failed(let partition, _, _):
            partition
        }
    }
}
