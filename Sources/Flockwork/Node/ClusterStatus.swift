// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
public import FlockWire

/// The view of a node: who is a member, and who holds what.
public struct ClusterStatus: Codable, Sendable {
    /// A process of the cluster.
    public struct Member: Codable, Sendable {
        public var node: NodeID
        /// Given once, and never again: it names the process.
        public var number: UInt32
        /// Where it listens.
        public var host: String
        public var port: Int
        /// `joining`, `up`, `leaving` or `draining`.
        public var phase: String
        /// A majority of the voters cannot reach it.
        public var isSuspected: Bool
        public var isVoter: Bool
        /// What it has that stages may ask for.
        public var labels: [String] = []
    }

    /// Who holds a partition.
    public struct Partition: Codable, Sendable {
        /// How often its holders changed.
        public var epoch: UInt64
        /// Nil while nobody leads it.
        public var primary: NodeID?
        /// Whose copies count, the primary's among them.
        public var inSync: [NodeID]
        /// Who copies and does not count yet.
        public var learners: [NodeID]
    }

    /// Of the view; it grows.
    public var version: UInt64
    /// This node's number; nil before it is a member.
    public var member: UInt32?
    public var members: [Member]
    public var partitions: [Partition]
    /// The nodes whose majority decides, members or not.
    public var voters: [NodeID]
    /// The node that is becoming a voter.
    public var comingVoter: NodeID?
    /// Pipelines that accept nothing new.
    public var suspended: [String]
    /// Copies that each partition should have, with so many members.
    public var copies: Int
    /// Failures that each partition survives between two complete replications.
    public var toleratedFailures: Int
    /// Voters that may fail while views still change.
    public var toleratedVoterFailures: Int

    /// Every partition is led and has all the copies that its members can hold, and no member is about to come or go.
    public var isWhole: Bool {
        let wanted = min(copies, members.count)
        return members.allSatisfy { !$0.isSuspected && ($0.phase == "up" || $0.phase == "draining") }
            && partitions.allSatisfy { $0.primary != nil && $0.inSync.count >= wanted && $0.learners.isEmpty }
    }

    init(_ view: ControlState, member: MemberNumber?) {
        version = view.version
        self.member = member?.rawValue
        members = view.members.map { member in
            Member(
                node: member.node, number: member.number.rawValue, host: member.host, port: member.port,
                phase: "\(member.phase)", isSuspected: member.isSuspected,
                isVoter: view.voters.contains(member.node), labels: member.labels)
        }
        func names(_ numbers: [MemberNumber]) -> [NodeID] { numbers.compactMap { view.member($0)?.node } }
        partitions = view.partitions.map { seats in
            Partition(
                epoch: seats.epoch, primary: seats.primary.flatMap { view.member($0)?.node },
                inSync: names(seats.inSync), learners: names(seats.learners))
        }
        voters = view.voters
        copies = view.replicationFactor
        comingVoter = view.exchange?.joining
        suspended = view.suspended
        toleratedFailures = view.toleratedFailures
        toleratedVoterFailures = view.toleratedVoterFailures
    }
}
