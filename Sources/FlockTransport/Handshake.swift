// Flockwork · Apache-2.0 · see LICENSE

// Carries out a handshake machine's directives on a fresh stream, under a time limit.

internal import FlockWire

/// A handshake under way. The stream's handlers keep it alive until it ends.
// Unchecked: of the loop's thread only.
final class Handshake: @unchecked Sendable {
    private let stream: FrameStream
    private let address: String
    private var machine: HandshakeMachine
    private var timer: LoopTimer?
    /// A test lets the peer be unreachable.
    private var isUnheard = false
    private var completion: ((Result<Connection, FlockError>) -> Void)?

    /// Begins. `completion` is called once, on the loop; after a failure the stream is closed.
    @discardableResult
    init(
        on stream: FrameStream, side: HandshakeMachine.Side, identity: Identity, address: String,
        completion: @escaping (Result<Connection, FlockError>) -> Void
    ) {
        self.stream = stream
        self.address = address
        self.completion = completion
        machine = HandshakeMachine(side: side, identity: identity, nonce: makeNonce(), limits: stream.limits)
        timer = stream.loop.schedule(after: stream.limits.handshakeTime) { [weak self] in self?.timedOut() }
        stream.onFrame = { [self] in step(.frame($0)) }
        stream.onClose = { [self] in end(.failure($0)) }
        step(.start)
    }

    private func timedOut() {
        guard isUnheard else { return step(.timedOut) }
        stream.close(FlockError(.deadlineExceeded, "the handshake took longer than \(stream.limits.handshakeTime)"))
    }

    private func step(_ event: HandshakeMachine.Event) {
        for directive in machine.step(event) {
            switch directive {
            case .send(let type, let body):
                _ = stream.send(type, flags: 0, payload: .empty) { $0.write(body) }
            case .succeed(let node, let role, let version):
                stream.reader.pointee.bodyLimit = stream.limits.frameBytes
                stream.bodyLimitName = .frameBytes
                guard stream.loop.faults?[node]?.isHalfOpen != true else {
                    // As if its last step had not come: the time limit ends it.
                    stream.onFrame = { _ in }
                    isUnheard = true
                    return
                }
                // Frames that came with the last step wait in the reader until the connection has a handler.
                stream.onFrame = nil
                stream.onClose = nil
                let peer = PeerIdentity(node: node, role: role, protocolVersion: version, address: address)
                end(.success(Connection(stream: stream, peer: peer)))
            case .reached(let limit): stream.loop.limitsReached.reached(limit)
            case .fail(let error):
                stream.close(error)
            }
        }
    }

    private func end(_ result: Result<Connection, FlockError>) {
        timer?.cancel()
        timer = nil
        completion.take()?(
            result.mapError { error in
                var error = error
                error.message = "\(address): \(error.message)"
                return error
            })
    }
}
