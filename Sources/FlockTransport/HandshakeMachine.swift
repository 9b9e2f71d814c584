// Flockwork · Apache-2.0 · see LICENSE

// Two strangers find out whether they belong together:
//
//   dialer → hello      range, role, node, cluster, hash of the member list, nonce
//   listener → challenge    version, range, role, node, nonce
//   dialer → proof      HMAC(token, "dialer" label + hello + challenge)
//   listener → welcome      HMAC(token, "listener" label + hello + challenge)
//
// The token is that of the dialer's role: who has only the clients' cannot prove to be a node.
// The proofs cover both frames as they were sent, so nothing in them can be changed on the way (a version cannot be
// pushed down); both nonces are in it, so no proof can be replayed; the labels differ, so none can be reflected. The
// dialer proves first: a stranger who connects gets no HMAC to guess tokens with. Whoever finds a fault sends a
// refusal and closes.

internal import FlockWire

/// One side of one handshake. Pure: the nonce comes in, frames come in, directives go out; used once.
struct HandshakeMachine {
    enum Side: Equatable { case dialer(expecting: NodeID?), listener }

    enum Event {
        case start
        case frame(Frame)
        case timedOut
    }

    enum Directive: Equatable {
        case send(FrameType, Bytes)
        /// The peer is who it says; its address is not known here.
        case succeed(node: NodeID, role: PeerRole, version: UInt16)
        /// One of this side's own bounds was met.
        case reached(Limit)
        /// To be closed, after what was to be sent before.
        case fail(FlockError)
    }

    private enum State {
        case idle
        case awaitingHello
        case awaitingChallenge(hello: Bytes)
        case awaitingProof(Hello, version: UInt16, transcript: Bytes)
        case awaitingWelcome(Challenge, transcript: Bytes)
        case ended
    }

    private let side: Side
    private let identity: Identity
    private let nonce: [UInt8]
    private let limits: Limits
    private var state = State.idle

    /// - Parameter nonce: 32 random bytes, never used before.
    init(side: Side, identity: Identity, nonce: [UInt8], limits: Limits) {
        precondition(nonce.count == Hello.nonceBytes, "nonce of \(nonce.count) bytes")
        self.side = side
        self.identity = identity
        self.nonce = nonce
        self.limits = limits
    }

    mutating func step(_ event: Event) -> [Directive] {
        if case .ended = state { return [] }
        do {
            switch event {
            case .start: return start()
            case .timedOut:
                let text = "no complete handshake within \(limits.handshakeTime)"
                return refuse(FlockError(.deadlineExceeded, text, limit: .handshakeTime))
            case .frame(let frame): return try receive(frame)
            }
        } catch let error as FlockError {
            return refuse(error)
        } catch {
            return refuse(FlockError(.protocolViolation, "handshake frame: \(error)", limit: Limit(of: error)))
        }
    }

    private mutating func start() -> [Directive] {
        guard case .idle = state else { return [] }
        guard case .dialer = side else {
            state = .awaitingHello
            return []
        }
        let hello = Hello(
            protocolRange: identity.protocolRange, role: identity.role, hasToken: identity.token != nil,
            membersHash: identity.membersHash, nonce: nonce, clusterID: identity.clusterID, node: identity.node
        ).encoded()
        state = .awaitingChallenge(hello: hello)
        return [.send(.hello, hello)]
    }

    private mutating func receive(_ frame: Frame) throws -> [Directive] {
        if frame.type == .refusal {
            state = .ended
            return [.fail(try Refusal.decoded(frame.body, limits: limits))]
        }
        switch (state, frame.type) {
        case (.awaitingHello, .hello): return try receiveHello(frame.body)
        case (.awaitingChallenge(let hello), .challenge): return try receiveChallenge(frame.body, hello: hello)
        case (.awaitingProof(let hello, let version, let transcript), .proof):
            return try receiveProof(frame.body, from: hello, version: version, transcript: transcript)
        case (.awaitingWelcome(let challenge, let transcript), .welcome):
            return try receiveWelcome(frame.body, from: challenge, transcript: transcript)
        default:
            throw FlockError(.protocolViolation, "a frame of type \(frame.type) at this point of the handshake")
        }
    }

    private mutating func refuse(_ error: FlockError) -> [Directive] {
        state = .ended
        let refusal: [Directive] = [.send(.refusal, Refusal.encoded(error, limits: limits)), .fail(error)]
        return (error.limit.map { [.reached($0)] } ?? []) + refusal
    }

    // MARK: Listener

    private mutating func receiveHello(_ body: Bytes) throws -> [Directive] {
        let hello = try Hello(body, limits: limits)
        guard let version = Self.version(of: hello.protocolRange, and: identity.protocolRange) else {
            throw FlockError(
                .incompatibleNode,
                "protocol versions \(Self.text(hello.protocolRange)) were offered, this node speaks "
                    + Self.text(identity.protocolRange))
        }
        // The dialer's own word only: a stranger does not learn the cluster's name.
        guard hello.clusterID == identity.clusterID else {
            throw FlockError(.incompatibleNode, "this node does not belong to cluster \"\(hello.clusterID)\"")
        }
        try checkTokens(peerHasToken: hello.hasToken, of: hello.role)
        guard hello.nonce != nonce, hello.role == .client || hello.node != identity.node else {
            throw FlockError(.incompatibleNode, "the peer uses this node's own id \(identity.node)")
        }
        let challenge = Challenge(
            version: version, protocolRange: identity.protocolRange,
            role: hello.role == .control && identity.role == .node ? .control : identity.role,
            hasToken: identity.token(of: hello.role) != nil, nonce: nonce, node: identity.node
        ).encoded()
        state = .awaitingProof(hello, version: version, transcript: Self.transcript(body, challenge))
        return [.send(.challenge, challenge)]
    }

    private mutating func receiveProof(
        _ body: Bytes, from hello: Hello, version: UInt16, transcript: Bytes
    ) throws -> [Directive] {
        try check(body, proves: .dialer, as: hello.role, transcript)
        let bothNodes = hello.role != .client && identity.role == .node
        guard !bothNodes || hello.membersHash == identity.membersHash else {
            throw FlockError(
                .incompatibleNode,
                "node \(hello.node) was started with another list of members than node \(identity.node)")
        }
        state = .ended
        return [
            .send(.welcome, proof(of: .listener, to: hello.role, transcript)),
            .succeed(node: hello.node, role: hello.role, version: version),
        ]
    }

    // MARK: Dialer

    private mutating func receiveChallenge(_ body: Bytes, hello: Bytes) throws -> [Directive] {
        let challenge = try Challenge(body, limits: limits)
        let best = Self.version(of: challenge.protocolRange, and: identity.protocolRange)
        guard challenge.version == best else {
            throw FlockError(
                .incompatibleNode,
                "protocol version \(challenge.version) was chosen out of \(Self.text(challenge.protocolRange)) and "
                    + Self.text(identity.protocolRange))
        }
        try checkTokens(peerHasToken: challenge.hasToken, of: identity.role)
        if case .dialer(let expected?) = side, expected != challenge.node {
            throw FlockError(.incompatibleNode, "node \(challenge.node) answers where \(expected) was expected")
        }
        guard challenge.nonce != nonce, identity.role == .client || challenge.node != identity.node else {
            throw FlockError(.incompatibleNode, "the peer uses this node's own id \(identity.node)")
        }
        guard (identity.role == .control) == (challenge.role == .control) else {
            throw FlockError(
                .protocolViolation, "a connection of a \(identity.role) was answered as one of a \(challenge.role)")
        }
        let transcript = Self.transcript(hello, body)
        state = .awaitingWelcome(challenge, transcript: transcript)
        return [.send(.proof, proof(of: .dialer, to: identity.role, transcript))]
    }

    private mutating func receiveWelcome(
        _ body: Bytes, from challenge: Challenge, transcript: Bytes
    ) throws -> [Directive] {
        try check(body, proves: .listener, as: identity.role, transcript)
        state = .ended
        return [.succeed(node: challenge.node, role: challenge.role, version: challenge.version)]
    }

    // MARK: Proofs

    private enum Label: String {
        case dialer = "flockwork handshake 1 dialer"
        case listener = "flockwork handshake 1 listener"
    }

    private func checkTokens(peerHasToken: Bool, of dialer: PeerRole) throws(FlockError) {
        switch (identity.token(of: dialer) != nil, peerHasToken) {
        case (true, false):
            throw FlockError(.unauthenticated, "node \(identity.node) asks for the cluster's token; give a token file")
        case (false, true):
            throw FlockError(.unauthenticated, "\(identity.role) \(identity.node) runs without the cluster's token")
        default: return
        }
    }

    private func check(
        _ body: Bytes, proves label: Label, as dialer: PeerRole, _ transcript: Bytes
    ) throws(FlockError) {
        guard !equalInConstantTime(body.array, proof(of: label, to: dialer, transcript).array) else { return }
        let whose = dialer == .client ? "clients" : "nodes"
        let which = identity.clientToken == nil ? "" : " for \(whose); nodes and clients have different ones"
        throw FlockError(
            .unauthenticated, "the peer has another token than \(identity.role) \(identity.node)\(which)")
    }

    /// With the token of the dialer's role; empty without one.
    private func proof(of label: Label, to dialer: PeerRole, _ transcript: Bytes) -> Bytes {
        guard let token = identity.token(of: dialer) else { return .empty }
        var writer = ByteWriter(capacity: 1024)
        writer.writeText(label.rawValue)
        writer.write(transcript)
        return Bytes(token.authenticate(writer.finish()))
    }

    private static func transcript(_ hello: Bytes, _ challenge: Bytes) -> Bytes {
        var writer = ByteWriter(capacity: 1024)
        writer.writeBlock(hello)
        writer.writeBlock(challenge)
        return writer.finish()
    }

    private static func version(of left: ClosedRange<UInt16>, and right: ClosedRange<UInt16>) -> UInt16? {
        let highest = min(left.upperBound, right.upperBound)
        return highest >= max(left.lowerBound, right.lowerBound) ? highest : nil
    }

    private static func text(_ range: ClosedRange<UInt16>) -> String {
        range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
    }
}
