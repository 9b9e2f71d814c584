// Flockwork · Apache-2.0 · see LICENSE

// Where the instances of a lane run. Pure, and the same on every node: each works out its own share from the view that
// it has and from what it runs, which all nodes run. It needs no agreement, as nothing depends on there being exactly
// so many instances at each moment: one too many costs memory, one too few costs time.

public import FlockWire

/// How many instances of a lane run, and on which nodes.
public struct StagePlacement: Sendable, Hashable {
    /// Decides which nodes have the instances that cannot be shared out evenly.
    public var name: String
    /// How many.
    public var instances: InstanceCount
    /// A node has instances only if it has all of these labels, ascending; empty for any node.
    public var labels: [String]

    /// Instances of a lane.
    public init(name: String, instances: InstanceCount = .perCore, labels: [String] = []) {
        self.name = name
        self.instances = instances
        self.labels = labels
    }

    /// Whether a node of these labels may have instances.
    public func isAllowed(on nodeLabels: [String]) -> Bool { labels.allSatisfy(nodeLabels.contains) }

    /// Instances on `node`, which has `cores` cores; zero if it is no member or has not all the labels.
    ///
    /// A number for the whole cluster is shared out over the members that have the labels and take work. Where there
    /// are none of these, over those that are drained; then over those that leave; then over those that are suspected.
    public func count(on node: NodeID, of members: [Member], cores: Int) -> Int {
        guard let own = members.first(where: { $0.node == node }), isAllowed(on: own.labels) else { return 0 }
        guard case .total = instances else {
            return instances.count(on: node, of: [node], cores: cores, stage: name)
        }
        let allowed = members.filter { isAllowed(on: $0.labels) }
        let best = allowed.reduce(Int.max) { min($0, Self.rank($1)) }
        let takers = allowed.filter { Self.rank($0) == best }.map(\.node)
        return instances.count(on: node, of: takers, cores: cores, stage: name)
    }

    /// Who comes first to share instances; the lowest.
    private static func rank(_ member: Member) -> Int {
        let phase =
            switch member.phase {
            case .joining, .up: 0
            case .draining: 1
            case .leaving: 2
            }
        return phase + (member.isSuspected ? 3 : 0)
    }
}

/// What a process runs. Stages and pipelines are the same on all nodes of a cluster, in the same order.
public struct StagePlan: Sendable {
    /// Each set of instances.
    public var stages: [StagePlacement]
    /// By pipeline: its lanes, as places in `stages`. Several may share one.
    public var pipelines: [[Int]]
    /// Cores of this node, for `.perCore`.
    public var cores: Int

    /// A plan; each pipeline has at least one lane.
    public init(stages: [StagePlacement], pipelines: [[Int]], cores: Int) {
        precondition(
            pipelines.allSatisfy { !$0.isEmpty && $0.allSatisfy(stages.indices.contains) }, "lanes without a stage")
        self.stages = stages
        self.pipelines = pipelines
        self.cores = cores
    }

    /// So many pipelines of one lane each, on every node.
    package static func everywhere(_ pipelines: Int) -> StagePlan {
        StagePlan(
            stages: (0..<pipelines).map { StagePlacement(name: "\($0)", instances: .perNode(1)) },
            pipelines: (0..<pipelines).map { [$0] }, cores: 1)
    }
}

/// What nodes have and stages may ask for.
public enum NodeLabels {
    /// Labels of one node, and of one stage, at most.
    public static let count = 16

    /// The labels in the order in which they are compared, each once. Throws `invalidInput`.
    public static func checked(_ labels: [String]) throws(FlockError) -> [String] {
        for label in labels {
            let isPlain = label.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && $0 != 0x2C && $0 != 0x3D }
            guard !label.isEmpty, label.utf8.count <= 255, isPlain else {
                throw FlockError(
                    .invalidInput, "label \"\(label)\": 1 to 255 bytes without space, comma or equals sign")
            }
        }
        let sorted = Set(labels).sorted()
        guard sorted.count <= count else {
            throw FlockError(.invalidInput, "\(sorted.count) labels; a node and a stage have at most \(count)")
        }
        return sorted
    }
}
