// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockTransport
internal import FlockWire

/// Reaches the inbox of this process's own node: the same messages, without frames.
final class LocalPort: SessionPort {
    let node: NodeID
    let loop: EventLoop
    let limits: Limits
    private let inbox: InboxActor

    init(inbox: InboxActor, system: FlockSystem, limits: Limits) {
        self.inbox = inbox
        node = system.node
        loop = system.loop
        self.limits = limits
    }

    var isConnected: Bool { true }

    func open(_ request: OpenRequest) async throws -> SessionToken { try await inbox.open(request) }
    func close(_ token: SessionToken) async throws { try await inbox.close(token) }

    func attach(
        _ token: SessionToken, onPart: @escaping @Sendable (StreamPart) -> Void,
        onEnd: @escaping @Sendable (FlockError) -> Void
    ) -> @Sendable () -> Void {
        let number = inbox.assumeIsolated { $0.attach(token.key, to: .local(onPart: onPart, onEnd: onEnd)) }
        return { [inbox] in inbox.assumeIsolated { $0.detach(number) } }
    }

    func submit(_ message: SubmitMessage) { inbox.assumeIsolated { $0.submitted(message) } }
    func cancel(_ message: CancelMessage) { inbox.assumeIsolated { $0.cancelled(message) } }
    func onConnected(_ body: @escaping @Sendable () -> Void) { loop.execute(body) }
}
