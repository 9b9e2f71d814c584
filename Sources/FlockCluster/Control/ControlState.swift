// Flockwork · Apache-2.0 · see LICENSE

// All that the cluster agrees on, in one value of a few kilobytes. A voter's accepted state is not agreed yet; what a
// process has as its view is.

public import FlockWire

/// A version of the agreed state of the cluster.
public struct ControlState: Sendable, Equatable {
    /// Grows by one with every change; one state per version, ever (invariant C1).
    public internal(set) var version: UInt64
    /// As the bootstrap voters were configured. A state of another cluster is never installed.
    public internal(set) var clusterID: UInt64
    /// No member that speaks only older versions is admitted.
    public internal(set) var minimumProtocol: UInt16
    /// Copies that each partition should have. Grows to 3 with the members; lowered only by an operator.
    public internal(set) var replicationFactor: Int
    /// In-sync copies below which a partition accepts nothing. Grows to 2; lowered only by an operator.
    public internal(set) var minimumInSync: Int
    /// So many partitions, the last ones, are the durable group: their copies are on disks, so that a seat is a disk's
    /// and survives a restart of its node.
    public internal(set) var durablePartitions: Int
    /// The nodes whose majority decides, ascending. A seat is a node's and outlives its processes.
    public internal(set) var voters: [NodeID]
    /// In the second half of an exchange: the coming voters, whose majority must agree as well.
    public internal(set) var nextVoters: [NodeID]?
    /// The voter that goes and the one that comes, while that lasts.
    public internal(set) var exchange: VoterExchange?
    /// Nodes that voted once. None of them ever votes again: it might have lost its record.
    public internal(set) var formerVoters: [NodeID]
    /// By number.
    public internal(set) var members: [Member]
    /// The number of the next member to be admitted.
    public internal(set) var nextMember: UInt32
    /// Processes that were members, newest last: a late request to join of one of them is void. Bounded.
    public internal(set) var retired: [UInt64]
    /// The seats of each partition, by its id.
    public internal(set) var partitions: [PartitionSeats]
    /// Whether an operator set `replicationFactor` and `minimumInSync`: then they do not grow by themselves.
    public internal(set) var isReplicationSet: Bool
    /// The newest command that was carried out or refused of each member that ever gave one, by number. A member's
    /// commands come in order and each counts once; who is no member any more can give none.
    public internal(set) var commands: [CommandID]
    /// Pipelines that accept nothing new, by name, ascending. What they accepted before is finished.
    public internal(set) var suspended: [String]

    /// Processes that `retired` remembers.
    static let retiredCount = 256

    /// The member of that number, unless it left or was replaced by a later incarnation (is *dead*).
    public func member(_ number: MemberNumber) -> Member? {
        place(of: number).map { members[$0] }
    }

    /// The member that runs on that node.
    public func member(on node: NodeID) -> Member? { members.first { $0.node == node } }

    /// Whether there is a durable group: then every member needs a disk.
    public var isDurable: Bool { durablePartitions > 0 }

    /// Whether the copies of a partition are on disks.
    public func isDurable(_ partition: PartitionID) -> Bool { isDurable(Int(partition.rawValue)) }

    func isDurable(_ index: Int) -> Bool { index >= partitions.count - durablePartitions }

    /// The seats of a partition, which must exist.
    public func seats(_ partition: PartitionID) -> PartitionSeats { partitions[Int(partition.rawValue)] }

    /// Failures that each partition survives between two complete replications.
    public var toleratedFailures: Int { max(minimumInSync - 1, 0) }

    /// Voters that may fail while views still change.
    public var toleratedVoterFailures: Int { (voters.count - 1) / 2 }

    /// The newest command of a member that was answered; 0 for none.
    func lastCommand(of issuer: MemberNumber) -> UInt64 { commands.first { $0.issuer == issuer }?.number ?? 0 }

    /// Where a member stands in `members`: they are few, and ascending.
    func place(of number: MemberNumber) -> Int? {
        var low = 0
        var high = members.count
        while low < high {
            let middle = (low + high) / 2
            if members[middle].number < number { low = middle + 1 } else { high = middle }
        }
        return low < members.count && members[low].number == number ? low : nil
    }

    /// Whether a process was a member once and is none any more.
    func isRetired(_ node: NodeID, incarnation: UInt64) -> Bool {
        retired.contains(Self.mark(node, incarnation: incarnation))
    }

    /// A process in eight bytes.
    static func mark(_ node: NodeID, incarnation: UInt64) -> UInt64 {
        var hash = StableHash(of: node.rawValue)
        hash.combine(incarnation)
        return hash.value
    }
}

/// Which command of which member: a member numbers its own, from 1.
public struct CommandID: Sendable, Hashable {
    /// The member whose shell took the command.
    public var issuer: MemberNumber
    /// Its how manieth.
    public var number: UInt64

    /// A member's command.
    public init(issuer: MemberNumber, number: UInt64) {
        self.issuer = issuer
        self.number = number
    }

    /// Whether it may still be carried out.
    func isOpen(in view: ControlState) -> Bool {
        view.member(issuer) != nil && number > view.lastCommand(of: issuer)
    }
}

/// A voter is exchanged for another, or one is added, in three views. The first names the coming one, which then
/// begins an empty record on its disk and says so. From the second on, majorities of the old and of the new voters are
/// needed: nobody who knows only one set can miss what the other decides. The third, only made from an agreed second,
/// has the new voters alone.
public struct VoterExchange: Sendable, Hashable {
    /// The voter that goes; nil if one comes besides those there are.
    public var leaving: NodeID?
    /// The node that comes.
    public var joining: NodeID
    /// Its process. A later process of the node does not begin a record: if there was one, it is lost.
    public var member: MemberNumber
}
