// Flockwork · Apache-2.0 · see LICENSE

// A view changes little at a time: a few seats, a member. Members get the difference to the version before, which all
// of them have; who missed one pulls.

public import FlockWire

/// What differs between two versions of the agreed state.
public struct ControlDelta: Sendable, Equatable {
    /// The version that it applies to.
    public var base: UInt64
    /// The version that it makes.
    public var version: UInt64
    /// Members that are new or changed, by number.
    var members: [Member]
    /// Members that are none any more, by number.
    var gone: [MemberNumber]
    /// What `retired` grew by. Not to be had from `gone`: between two versions that are not neighbours, members come
    /// and go unseen.
    var retired: [UInt64]
    /// The number of the next member.
    var nextMember: UInt32
    /// Partitions whose seats changed, by id.
    var seats: [Seat]
    /// The few other fields, if one of them changed.
    var rest: Rest?

    /// A partition's new seats.
    struct Seat: Sendable, Equatable {
        var partition: PartitionID
        var seats: PartitionSeats
    }

    /// What is not a member or a partition.
    struct Rest: Sendable, Equatable {
        var clusterID: UInt64
        var minimumProtocol: UInt16
        var replicationFactor: Int
        var minimumInSync: Int
        var durablePartitions: Int
        var voters: [NodeID]
        var nextVoters: [NodeID]?
        var exchange: VoterExchange?
        var formerVoters: [NodeID]
        var isReplicationSet: Bool
        var commands: [CommandID]
        var suspended: [String]

        init(_ state: ControlState) {
            clusterID = state.clusterID
            minimumProtocol = state.minimumProtocol
            replicationFactor = state.replicationFactor
            minimumInSync = state.minimumInSync
            durablePartitions = state.durablePartitions
            voters = state.voters
            nextVoters = state.nextVoters
            exchange = state.exchange
            formerVoters = state.formerVoters
            isReplicationSet = state.isReplicationSet
            commands = state.commands
            suspended = state.suspended
        }
    }

    init(
        base: UInt64, version: UInt64, members: [Member], gone: [MemberNumber], retired: [UInt64],
        nextMember: UInt32, seats: [Seat], rest: Rest?
    ) {
        self.base = base
        self.version = version
        self.members = members
        self.gone = gone
        self.retired = retired
        self.nextMember = nextMember
        self.seats = seats
        self.rest = rest
    }

    /// From `old` to `new`, which must have as many partitions.
    public init(from old: ControlState, to new: ControlState) {
        precondition(old.partitions.count == new.partitions.count, "partitions do not change in number")
        base = old.version
        version = new.version
        members = []
        gone = []
        var place = 0
        for member in new.members {
            while place < old.members.count, old.members[place].number < member.number {
                gone.append(old.members[place].number)
                place += 1
            }
            if place < old.members.count, old.members[place].number == member.number {
                if old.members[place] != member { members.append(member) }
                place += 1
            } else {
                members.append(member)
            }
        }
        while place < old.members.count {
            gone.append(old.members[place].number)
            place += 1
        }
        let known = old.retired.last.flatMap { new.retired.lastIndex(of: $0) }
        retired = Array(new.retired[(known.map { $0 + 1 } ?? 0)...])
        nextMember = new.nextMember
        seats = []
        for index in new.partitions.indices where new.partitions[index] != old.partitions[index] {
            seats.append(Seat(partition: PartitionID(index), seats: new.partitions[index]))
        }
        let rest = Rest(new)
        self.rest = rest == Rest(old) ? nil : rest
    }

    /// Partitions whose seats it changes, ascending.
    public var partitions: [PartitionID] { seats.map(\.partition) }

    /// Changes `state`, which must be of version `base`. False, and nothing changed, for a delta that cannot be of
    /// this state.
    public func apply(to state: inout ControlState) -> Bool {
        guard state.version == base, seats.allSatisfy({ Int($0.partition.rawValue) < state.partitions.count }) else {
            return false
        }
        state.version = version
        for number in gone {
            if let place = state.place(of: number) { state.members.remove(at: place) }
        }
        state.retire(retired)
        state.nextMember = nextMember
        for member in members {
            if let place = state.place(of: member.number) {
                state.members[place] = member
            } else {
                let place = state.members.firstIndex { $0.number > member.number } ?? state.members.count
                state.members.insert(member, at: place)
            }
        }
        for seat in seats { state.partitions[Int(seat.partition.rawValue)] = seat.seats }
        if let rest {
            state.clusterID = rest.clusterID
            state.minimumProtocol = rest.minimumProtocol
            state.replicationFactor = rest.replicationFactor
            state.minimumInSync = rest.minimumInSync
            state.durablePartitions = min(rest.durablePartitions, state.partitions.count)
            state.voters = rest.voters
            state.nextVoters = rest.nextVoters
            state.exchange = rest.exchange
            state.formerVoters = rest.formerVoters
            state.isReplicationSet = rest.isReplicationSet
            state.commands = rest.commands
            state.suspended = rest.suspended
        }
        return true
    }
}

extension ControlState {
    /// Remembers processes that were members.
    mutating func retire(_ marks: [UInt64]) {
        guard !marks.isEmpty else { return }
        retired += marks
        if retired.count > Self.retiredCount { retired.removeFirst(retired.count - Self.retiredCount) }
    }

    /// Removes a member for ever.
    mutating func retire(at place: Int) {
        let member = members.remove(at: place)
        retire([Self.mark(member.node, incarnation: member.incarnation)])
    }
}
