// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// How many instances of a stage run, and where. Declared with the pipeline; every node works out its own part.
public enum InstanceCount: Sendable, Hashable {
    /// One for each core that a node gives to Flockwork.
    case perCore
    /// So many on every node.
    case perNode(Int)
    /// So many in the whole cluster, spread evenly.
    case total(Int)

    /// Instances of `stage` on `node`, which has `cores` cores, in a cluster of `members`.
    ///
    /// With `.total`, every node gets the same whole share; which nodes get one more is drawn by the stage's name, so
    /// that the single instances of many stages do not all run on one node. Zero if the node is no member.
    public func count(on node: NodeID, of members: [NodeID], cores: Int, stage: String) -> Int {
        guard members.contains(node) else { return 0 }
        switch self {
        case .perCore: return max(cores, 1)
        case .perNode(let count): return max(count, 0)
        case .total(let count):
            let share = max(count, 0) / members.count
            let name = StableHash(of: stage).value
            let ranked = members.sorted { left, right in
                let leftScore = StableHash.mix(name ^ StableHash(of: left.rawValue).value)
                let rightScore = StableHash.mix(name ^ StableHash(of: right.rawValue).value)
                return leftScore == rightScore ? left < right : leftScore > rightScore
            }
            let isLucky = ranked.prefix(max(count, 0) % members.count).contains(node)
            return share + (isLucky ? 1 : 0)
        }
    }
}
