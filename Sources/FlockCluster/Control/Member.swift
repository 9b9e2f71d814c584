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
        /// An operator wants it idle: it leads nothing and gets no work, and keeps copies only where others are short
        /// of them. It stays until it is told otherwise.
        case draining

        /// Whether it leads nothing for longer than it must, and gets no work.
        public var isRelieved: Bool { self == .leaving || self == .draining }
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
    /// What it has that stages may ask for, ascending.
    public var labels: [String]
    /// The disk that its durable replicas are on; 0 for a process that has only its memory.
    public var disk: UInt64
    /// The newest version of the protocol that it speaks.
    public var protocolVersion: UInt16
    /// Where it stands.
    public var phase: Phase
    /// A majority of the voters cannot reach it. It is still a member, and its copies count until it is dead: nobody
    /// gives it anything new, and its partitions go to others as far as rule R4 allows.
    public var isSuspected: Bool

    /// A member as admitted.
    public init(
        number: MemberNumber, node: NodeID, incarnation: UInt64, host: String = "", port: Int = 0, weight: Int = 1,
        zone: String = "", labels: [String] = [], disk: UInt64 = 0, protocolVersion: UInt16 = 1,
        phase: Phase = .joining, isSuspected: Bool = false
    ) {
        self.number = number
        self.node = node
        self.incarnation = incarnation
        self.host = host
        self.port = port
        self.weight = weight
        self.zone = zone
        self.labels = labels
        self.disk = disk
        self.protocolVersion = protocolVersion
        self.phase = phase
        self.isSuspected = isSuspected
    }

    /// Whether it may be given partitions and stages.
    public var takesWork: Bool { !isSuspected && !phase.isRelieved }
}

/// A process that asks to be admitted.
public struct Candidate: Sendable, Hashable {
    /// The node's stable name.
    public var node: NodeID
    /// Drawn at random when the process started; never used twice by one node.
    public var incarnation: UInt64
    /// Where it listens.
    public var host: String
    /// The port that it listens on.
    public var port: Int
    /// Share of the partitions relative to other members, 1 to 64.
    public var weight: Int
    /// Copies of a partition go to different zones where there are several; empty for none.
    public var zone: String
    /// What it has that stages may ask for, ascending.
    public var labels: [String]
    /// The disk that its durable replicas are on; 0 for a process that has only its memory.
    public var disk: UInt64
    /// The newest version of the protocol that it speaks.
    public var protocolVersion: UInt16

    /// A process as its configuration describes it.
    public init(
        node: NodeID, incarnation: UInt64, host: String = "", port: Int = 0, weight: Int = 1, zone: String = "",
        labels: [String] = [], disk: UInt64 = 0, protocolVersion: UInt16 = 1
    ) {
        precondition((1...64).contains(weight), "weight \(weight) of \(node)")
        self.node = node
        self.incarnation = incarnation
        self.host = host
        self.port = port
        self.weight = weight
        self.zone = zone
        self.labels = labels
        self.disk = disk
        self.protocolVersion = protocolVersion
    }

    /// The member that it becomes.
    func admitted(as number: MemberNumber) -> Member {
        Member(
            number: number, node: node, incarnation: incarnation, host: host, port: port, weight: weight, zone: zone,
            labels: labels, disk: disk, protocolVersion: protocolVersion)
    }
}
