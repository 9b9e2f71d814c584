// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A version of the cluster's agreed state: who is a member and which member owns which partition.
///
/// For now it is made from a static list, by every member for itself; the hash, compared in the handshake, proves that
/// all were given the same list and the same number of partitions.
public struct View: Sendable, Equatable {
    /// Grows with every change; 1 for the static list.
    public let version: UInt64
    /// By id.
    public let members: [MemberSpec]
    /// The owner of each partition, as places in `members`.
    private let owners: [Int]
    /// Over members and partitions; never 0, which stands for "no member list" on the wire.
    public let membersHash: UInt64

    /// The view of a member list. Throws `invalidInput` for an empty list, an id or address twice, or no partitions.
    public init(version: UInt64 = 1, members: [MemberSpec], partitions: Int) throws(FlockError) {
        guard !members.isEmpty else { throw FlockError(.invalidInput, "a cluster needs at least one member") }
        guard (1...65_536).contains(partitions) else {
            throw FlockError(.invalidInput, "\(partitions) partitions are not between 1 and 65536")
        }
        self.version = version
        self.members = try MemberSpec.sorted(members)
        owners = Rendezvous().owners(
            of: partitions, among: self.members.map { Rendezvous.Member(id: $0.id, weight: $0.weight) })
        var hash = StableHash()
        for member in self.members {
            hash.combine(member.id.rawValue)
            hash.combine(member.host)
            hash.combine(UInt64(member.port))
            hash.combine(UInt64(member.weight))
        }
        hash.combine(UInt64(partitions))
        membersHash = max(hash.value, 1)
    }

    /// Partitions of the cluster.
    public var partitionCount: Int { owners.count }

    /// The node that owns `partition`, which must exist: check numbers from the wire against `partitionCount`.
    public func owner(of partition: PartitionID) -> NodeID {
        let number = Int(partition.rawValue)
        precondition(number < owners.count, "\(partition) of \(owners.count)")
        return members[owners[number]].id
    }

    /// The partitions of `node`, ascending; none if it is no member.
    public func partitions(ownedBy node: NodeID) -> [PartitionID] {
        guard let place = members.firstIndex(where: { $0.id == node }) else { return [] }
        return owners.indices.filter { owners[$0] == place }.map { PartitionID($0) }
    }

    /// The member of that name.
    public func member(_ node: NodeID) -> MemberSpec? { members.first { $0.id == node } }
}
