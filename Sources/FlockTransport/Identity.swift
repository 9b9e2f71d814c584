// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What a process is to its peers on a connection. Raw values are part of the wire format.
public enum PeerRole: UInt8, Sendable, CaseIterable {
    case node = 1
    case client = 2
    /// A node, on a second connection for what must not wait behind bulk.
    case control = 3
}

/// Who this process says it is, and how it proves it.
public struct Identity: Sendable {
    /// Peers of another cluster are refused.
    public var clusterID: String
    public var node: NodeID
    public var role: PeerRole
    /// The hash of the member list that a node was started with; nodes refuse one with another. 0 = no list.
    public var membersHash: UInt64
    /// Both ends have the same, or both have none.
    public var token: Token?
    /// Of a node: what clients prove that they have; nil if they have the nodes' own.
    public var clientToken: Token?
    /// Versions of the protocol that this process speaks; the highest common one is used.
    public var protocolRange: ClosedRange<UInt16>

    public init(
        clusterID: String, node: NodeID, role: PeerRole, membersHash: UInt64 = 0, token: Token? = nil,
        protocolRange: ClosedRange<UInt16> = 1...1
    ) {
        self.clusterID = clusterID
        self.node = node
        self.role = role
        self.membersHash = membersHash
        self.token = token
        self.protocolRange = protocolRange
    }

    /// What a dialer of that role proves to have.
    func token(of dialer: PeerRole) -> Token? {
        switch dialer {
        case .node, .control: token
        case .client: clientToken ?? token
        }
    }
}

/// Who is at the other end of a connection, after the handshake.
public struct PeerIdentity: Sendable, Equatable {
    public let node: NodeID
    public let role: PeerRole
    /// The version that both speak on this connection.
    public let protocolVersion: UInt16
    /// Its numeric address, `host:port`.
    public let address: String

    public init(node: NodeID, role: PeerRole, protocolVersion: UInt16, address: String) {
        self.node = node
        self.role = role
        self.protocolVersion = protocolVersion
        self.address = address
    }
}
