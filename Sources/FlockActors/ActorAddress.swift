// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// Where a distributed actor lives. A named actor's address can be made by anybody who knows its name.
public struct ActorAddress: Hashable, Sendable, Codable, CustomStringConvertible {
    public let node: NodeID
    /// The actor's key on that node: the top bit is set for named actors.
    public let key: UInt64

    public init(node: NodeID, key: UInt64) {
        self.node = node
        self.key = key
    }

    /// The address of the actor that was registered under `name` on `node`.
    public init(named name: String, on node: NodeID) {
        self.init(node: node, key: Self.key(named: name))
    }

    /// FNV-1a (64 bits) of the UTF-8, with the top bit set.
    public static func key(named name: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash | 1 << 63
    }

    public var description: String { "\(node)/\(String(key, radix: 16))" }
}

/// Who may call an actor from another process.
public enum Export: UInt8, Sendable, Comparable {
    /// Only this process.
    case nobody = 0
    /// Nodes of the cluster.
    case nodes = 1
    /// Clients and nodes.
    case clients = 2

    public static func < (left: Export, right: Export) -> Bool { left.rawValue < right.rawValue }
}
