// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire

/// How a session reaches its inbox: over a connection, or directly when both live in one process.
///
/// All but `open` and `close` are called on `loop`, and call back on it.
protocol SessionPort: Sendable {
    /// The node whose inbox this reaches.
    var node: NodeID { get }
    var loop: EventLoop { get }
    var limits: Limits { get }
    /// The inbox can be reached now.
    var isConnected: Bool { get }
    func open(_ request: OpenRequest) async throws -> SessionToken
    func close(_ token: SessionToken) async throws
    /// Streams acceptance and outcomes of a session, until `onEnd`, or until the returned closure is called.
    func attach(
        _ token: SessionToken, onPart: @escaping @Sendable (StreamPart) -> Void,
        onEnd: @escaping @Sendable (FlockError) -> Void
    ) -> @Sendable () -> Void
    func submit(_ message: SubmitMessage)
    func cancel(_ message: CancelMessage)
    /// Calls back when the inbox can be reached again.
    func onConnected(_ body: @escaping @Sendable () -> Void)
    /// Another node may take over what this reaches, with all that was accepted: a session outlives its node.
    var isRouted: Bool { get }
    /// A node said that this one leads the session's partition now.
    func moved(to node: NodeID)
    /// Another node leads the partition than the one where the session is attached.
    var isElsewhere: Bool { get }
    /// Something is awaited from there for a while now: is it there at all?
    func lookAfter()
}

extension SessionPort {
    var isRouted: Bool { false }
    func moved(to node: NodeID) {}
    var isElsewhere: Bool { false }
    func lookAfter() {}
}
