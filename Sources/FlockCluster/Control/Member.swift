// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A process that was admitted to the cluster. Numbers are given in order of admission and never twice, so that one
/// names a node *and* its incarnation: a process that restarts without its memory is another member.
public struct MemberNumber: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// From 1.
    public let rawValue: UInt32
    /// The member of that number.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// In order of admission.
    public static func < (left: MemberNumber, right: MemberNumber) -> Bool { left.rawValue < right.rawValue }
    /// `m` and the number.
    public var description: String { "m\(rawValue)" }
}

/// A member of the cluster, as the control state holds it.
public struct Member: Sendable, Hashable {
    /// What a member is about to do.
    public enum Phase: UInt8, Sendable, Hashable {
        /// It gets replicas to learn, and no primaries before it is in sync with some.
        case joining
        /// It takes its share.
        case up
        /// It hands over what it has and then goes.
        case leaving
    }

    /// Its number, for ever.
    public let number: MemberNumber
    /// The node's stable name.
    public let node: NodeID
    /// Drawn at random when the process started.
    public let incarnation: UInt64
    /// Where it listens.
    public var host: String
    /// The port that it listens on.
    public var port: Int
    /// Share of the partitions relative to other members, 1 to 64.
    public var weight: Int
    /// Copies of a partition go to different zones where there are several; empty for none.
    public var zone: String
    /// Where it stands.
    public var phase: Phase

    /// A member as admitted.
    public init(
        number: MemberNumber, node: NodeID, incarnation: UInt64, host: String = "", port: Int = 0, weight: Int = 1,
        zone: String = "", phase: Phase = .joining
    ) {
        self.number = number
        self.node = node
        self.incarnation = incarnation
        self.host = host
        self.port = port
        self.weight = weight
        self.zone = zone
        self.phase = phase
    }
}
