// Flockwork · Apache-2.0 · see LICENSE

// The bodies of handshake frames. They come from strangers: fixed fields, two bounded names, nothing else is decoded.
// Bytes after the known fields of hello and challenge are ignored, so that a later version may add some; the proofs
// cover them all the same.

internal import FlockWire

/// The dialer's first frame.
struct Hello: Equatable {
    static let magic: UInt32 = 0x4B43_4C46  // "FLCK"
    static let nonceBytes = 32

    var protocolRange: ClosedRange<UInt16>
    var role: PeerRole
    var hasToken: Bool
    var membersHash: UInt64
    var nonce: [UInt8]
    var clusterID: String
    var node: NodeID

    func encoded() -> Bytes {
        var writer = ByteWriter()
        writer.write(Self.magic)
        writer.write(protocolRange.lowerBound)
        writer.write(protocolRange.upperBound)
        writer.write(role.rawValue)
        writer.write(hasToken ? 1 : 0 as UInt8)
        writer.write(0 as UInt16)
        writer.write(membersHash)
        nonce.withUnsafeBytes { writer.write($0) }
        writer.writeText(clusterID)
        writer.writeText(node.rawValue)
        return writer.finish()
    }

    init(
        protocolRange: ClosedRange<UInt16>, role: PeerRole, hasToken: Bool, membersHash: UInt64, nonce: [UInt8],
        clusterID: String, node: NodeID
    ) {
        self.protocolRange = protocolRange
        self.role = role
        self.hasToken = hasToken
        self.membersHash = membersHash
        self.nonce = nonce
        self.clusterID = clusterID
        self.node = node
    }

    init(_ body: Bytes, limits: Limits) throws(WireError) {
        var reader = ByteReader(body)
        guard try reader.read(UInt32.self) == Self.magic else { throw .malformed("hello") }
        protocolRange = try reader.readRange()
        role = try reader.readRole()
        hasToken = try reader.read(UInt8.self) & 1 == 1
        _ = try reader.read(UInt16.self)
        membersHash = try reader.read()
        nonce = try reader.readBytes(Self.nonceBytes).array
        clusterID = try reader.readText(of: "cluster id", limit: limits.nameBytes, named: .nameBytes)
        node = try reader.readNode(limits: limits)
    }
}

/// The listener's answer.
struct Challenge: Equatable {
    /// The version chosen.
    var version: UInt16
    var protocolRange: ClosedRange<UInt16>
    var role: PeerRole
    var hasToken: Bool
    var nonce: [UInt8]
    var node: NodeID

    func encoded() -> Bytes {
        var writer = ByteWriter()
        writer.write(version)
        writer.write(protocolRange.lowerBound)
        writer.write(protocolRange.upperBound)
        writer.write(role.rawValue)
        writer.write(hasToken ? 1 : 0 as UInt8)
        nonce.withUnsafeBytes { writer.write($0) }
        writer.writeText(node.rawValue)
        return writer.finish()
    }

    init(
        version: UInt16, protocolRange: ClosedRange<UInt16>, role: PeerRole, hasToken: Bool, nonce: [UInt8],
        node: NodeID
    ) {
        self.version = version
        self.protocolRange = protocolRange
        self.role = role
        self.hasToken = hasToken
        self.nonce = nonce
        self.node = node
    }

    init(_ body: Bytes, limits: Limits) throws(WireError) {
        var reader = ByteReader(body)
        version = try reader.read()
        protocolRange = try reader.readRange()
        role = try reader.readRole()
        hasToken = try reader.read(UInt8.self) & 1 == 1
        nonce = try reader.readBytes(Hello.nonceBytes).array
        node = try reader.readNode(limits: limits)
    }
}

/// What a peer says when it will not go on.
enum Refusal {
    static func encoded(_ error: FlockError, limits: Limits) -> Bytes {
        var writer = ByteWriter()
        error.write(to: &writer, limits: limits)
        return writer.finish()
    }

    /// The peer is a stranger: only codes that a handshake can give, only printable text.
    static func decoded(_ body: Bytes, limits: Limits) throws(WireError) -> FlockError {
        var reader = ByteReader(body)
        let error = try FlockError(from: &reader, limits: limits)
        let allowed: [FlockError.Code] = [
            .unauthenticated, .incompatibleNode, .overloaded, .shuttingDown, .deadlineExceeded,
        ]
        let text = String(String.UnicodeScalarView(error.message.unicodeScalars.map { $0.isPrintable ? $0 : "?" }))
        return FlockError(
            allowed.contains(error.code) ? error.code : .protocolViolation, "refused by the peer: \(text)",
            retryAfter: error.code == .overloaded ? error.retryAfter : nil, limit: error.limit)
    }
}

extension Unicode.Scalar {
    fileprivate var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: false
        default: true
        }
    }
}

extension ByteReader {
    fileprivate mutating func readRange() throws(WireError) -> ClosedRange<UInt16> {
        let low: UInt16 = try read()
        let high: UInt16 = try read()
        guard low <= high else { throw .malformed("protocol range") }
        return low...high
    }

    fileprivate mutating func readRole() throws(WireError) -> PeerRole {
        guard let role = PeerRole(rawValue: try read()) else { throw .malformed("role") }
        return role
    }

    fileprivate mutating func readNode(limits: Limits) throws(WireError) -> NodeID {
        let name = try readText(of: "node id", limit: limits.nameBytes, named: .nameBytes)
        guard !name.isEmpty, name.unicodeScalars.allSatisfy(\.isPrintable) else { throw .malformed("node id") }
        return NodeID(name)
    }
}
