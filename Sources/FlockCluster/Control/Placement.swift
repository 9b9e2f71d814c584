// Flockwork · Apache-2.0 · see LICENSE

// Who should have each partition: weighted rendezvous hashing with a bound on the load, for primaries and for copies.
// A proposer computes it and the register stores it, seat by seat; nobody else ever works out an owner. Scores come
// from the node's name, so that a restarted node wants back what it had.

import FlockWire

/// The owners that each partition should have, remembered until the members that take work change.
struct Placement: Sendable {
    /// What the owners depend on.
    private struct Taker: Sendable, Equatable {
        var number: MemberNumber
        var weight: Int
        var zone: String
    }

    /// Whether drained members are left out: see `Rules.relievesDrained`.
    private let relieves: Bool
    private var takers: [Taker] = []
    private var spare: [MemberNumber] = []
    private var copies = 0
    private var owners: [[MemberNumber]] = []

    init(relieves: Bool = true) { self.relieves = relieves }

    /// For each partition the members that should hold it, the primary first; as many as there should be copies, or as
    /// there are members that take work. Any order of scores that two processes compute is the same.
    mutating func owners(in state: ControlState) -> [[MemberNumber]] {
        let present = state.members.filter { $0.takesWork || (!relieves && $0.phase == .draining && !$0.isSuspected) }
        let takers = present.map { Taker(number: $0.number, weight: $0.weight, zone: $0.zone) }
        let copies = state.replicationFactor
        // A member that is drained has a copy where there are not enough others, and leads nowhere.
        let spare = relieves ? state.members.filter { $0.phase == .draining && !$0.isSuspected }.map(\.number) : []
        if takers != self.takers || copies != self.copies || spare != self.spare
            || owners.count != state.partitions.count
        {
            self.takers = takers
            self.copies = copies
            self.spare = spare
            owners = Self.owners(of: state.partitions.count, copies: copies, among: present)
            if !present.isEmpty, present.count < copies, !spare.isEmpty {
                for partition in owners.indices { owners[partition] += spare.prefix(copies - present.count) }
            }
        }
        return owners
    }

    /// The same, computed.
    static func owners(of partitions: Int, copies: Int, among members: [Member]) -> [[MemberNumber]] {
        guard !members.isEmpty else { return Array(repeating: [], count: partitions) }
        let rendezvous = Rendezvous()
        let primaries = rendezvous.owners(
            of: partitions, among: members.map { Rendezvous.Member(id: $0.node, weight: $0.weight) })
        let wanted = min(copies, members.count)
        guard wanted > 1 else { return primaries.map { [members[$0].number] } }
        var choice = CopyChoice(members: members, partitions: partitions, copies: wanted)
        for place in primaries { choice.room[place] -= 1 }
        return primaries.indices.map { partition in
            choice.owners(of: partition, primary: primaries[partition]).map { members[$0].number }
        }
    }
}

/// The choice of backups, partition by partition.
private struct CopyChoice {
    let members: [Member]
    let seeds: [UInt64]
    let zones: Int
    let copies: Int
    /// Copies that a member may still get before it has more than 1.1 times its share.
    var room: [Int]

    init(members: [Member], partitions: Int, copies: Int) {
        self.members = members
        self.copies = copies
        seeds = members.map { StableHash(of: $0.node.rawValue).value }
        var names: [String] = []
        for member in members where !names.contains(member.zone) { names.append(member.zone) }
        zones = names.count
        let total = members.reduce(0) { $0 + $1.weight }
        room = members.map { member in
            let share = partitions * copies * member.weight * Rendezvous().boundPercent
            return min((share + total * 100 - 1) / (total * 100), partitions)
        }
    }

    /// Places in `members`: the primary, then the best with room, each in a zone of its own as long as there are
    /// unused ones. The zone counts more than the bound, and a missing copy is worse than either.
    mutating func owners(of partition: Int, primary: Int) -> [Int] {
        var ranked: [(place: Int, score: UInt64)] = []
        for place in members.indices where place != primary {
            let weight = members[place].weight
            ranked.append((place, Rendezvous.score(UInt64(partition), seed: seeds[place], weight: weight)))
        }
        ranked.sort { left, right in
            left.score == right.score
                ? members[left.place].node < members[right.place].node : left.score > right.score
        }
        var chosen = [primary]
        while chosen.count < copies {
            let newZone = chosen.count < zones
            guard
                let next = pick(ranked, chosen, newZone: newZone, room: true)
                    ?? pick(ranked, chosen, newZone: newZone, room: false)
                    ?? pick(ranked, chosen, newZone: false, room: true)
                    ?? pick(ranked, chosen, newZone: false, room: false)
            else { break }
            chosen.append(next)
            room[next] -= 1
        }
        return chosen
    }

    private func pick(
        _ ranked: [(place: Int, score: UInt64)], _ chosen: [Int], newZone: Bool, room needsRoom: Bool
    ) -> Int? {
        for (place, _) in ranked where !chosen.contains(place) {
            if needsRoom && room[place] <= 0 { continue }
            if newZone && chosen.contains(where: { members[$0].zone == members[place].zone }) { continue }
            return place
        }
        return nil
    }
}
