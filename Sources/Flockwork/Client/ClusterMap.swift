// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Synchronization

// Which node leads which partition, as far as a caller knows: from views that nodes describe, and from what a node
// said that is asked for a partition of another one.

/// A caller's knowledge of a cluster whose views change.
final class ClusterMap: Sendable {
    private struct State {
        var version: UInt64 = 0
        var primaries: [NodeID?] = []
    }
    private let state = Mutex(State())

    /// True if it is newer than what was known. What single nodes said in between is forgotten also if it is not.
    func learn(_ description: ClusterDescription) -> Bool {
        state.withLock { state in
            guard description.isCluster, description.version > 0, description.version >= state.version else {
                return false
            }
            let isNewer = description.version > state.version
            state.version = description.version
            state.primaries = description.primaries.map { place in
                description.members.indices.contains(Int(place)) ? description.members[Int(place)].node : nil
            }
            return isNewer
        }
    }

    /// A node says that another one leads a partition. The next view says it better.
    func learn(_ partition: PartitionID, at node: NodeID) {
        state.withLock { state in
            guard Int(partition.rawValue) < state.primaries.count else { return }
            state.primaries[Int(partition.rawValue)] = node
        }
    }

    /// There is a view.
    var isKnown: Bool { state.withLock { $0.version > 0 } }

    func primary(of partition: PartitionID) -> NodeID? {
        state.withLock { state in
            Int(partition.rawValue) < state.primaries.count ? state.primaries[Int(partition.rawValue)] : nil
        }
    }
}

/// What a session in a cluster needs to find its partition's node.
struct SessionRoutes: Sendable {
    let map: ClusterMap
    /// The way to a node, if there is a connection.
    let port: @Sendable (NodeID) -> (any SessionPort)?
    /// How long a new inbox waits for a node that takes its sessions.
    let connectTime: Duration
    /// Asks for a newer view, and connects to the node that is looked for. From any thread, as often as one likes.
    let refresh: @Sendable (NodeID?) -> Void
    /// This process is a node, and asks itself.
    var isOwnView = false
}

/// Reaches the inbox of whichever node leads a partition. Of the loop, but for `open` and `close`.
final class RoutedPort: SessionPort {
    let partition: PartitionID
    let loop: EventLoop
    let limits: Limits
    private let routes: SessionRoutes
    /// Where the session was opened.
    private let first: NodeID
    /// Where it is attached.
    private let place: LoopConfined<NodeID?>

    private static let pause = Duration.milliseconds(10)

    init(_ partition: PartitionID, openedAt first: any SessionPort, routes: SessionRoutes) {
        self.partition = partition
        self.first = first.node
        self.routes = routes
        loop = first.loop
        limits = first.limits
        place = LoopConfined(nil, on: first.loop)
    }

    var node: NodeID { routes.map.primary(of: partition) ?? first }
    private var port: (any SessionPort)? { routes.port(node) }
    var isConnected: Bool { port?.isConnected ?? false }
    var isRouted: Bool { true }

    func open(_ request: OpenRequest) async throws -> SessionToken {
        guard let port else { throw FlockError(.unavailable, "The node \(node) is not connected.") }
        return try await port.open(request)
    }

    func close(_ token: SessionToken) async throws {
        guard let port else { throw FlockError(.unavailable, "The node \(node) is not connected.") }
        try await port.close(token)
    }

    func attach(
        _ token: SessionToken, onPart: @escaping @Sendable (StreamPart) -> Void,
        onEnd: @escaping @Sendable (FlockError) -> Void
    ) -> @Sendable () -> Void {
        guard let port else {
            onEnd(FlockError(.unavailable, "The node \(node) is not connected."))
            return {}
        }
        place.with { $0 = port.node }
        return port.attach(token, onPart: onPart, onEnd: onEnd)
    }

    /// To where the session is attached: a node without its stream drops what it says, and cannot say so.
    func submit(_ message: SubmitMessage) { attached?.submit(message) }
    func cancel(_ message: CancelMessage) { attached?.cancel(message) }

    private var attached: (any SessionPort)? { place.with { $0 }.flatMap(routes.port) }

    /// Looks for the partition's node until one is connected; not for longer than its session lives without.
    func onConnected(_ body: @escaping @Sendable () -> Void) { look(body, attempt: 0) }

    private func look(_ body: @escaping @Sendable () -> Void, attempt: Int) {
        routes.refresh(node)
        let pause = Self.pause * min(attempt + 1, 5)
        _ = loop.schedule(after: pause) { [self] in
            if isConnected { return body() }
            if pause * attempt <= limits.recoveryTime { look(body, attempt: attempt + 1) }
        }
    }

    func moved(to node: NodeID) { routes.map.learn(partition, at: node) }

    var isElsewhere: Bool { place.with { $0 != nil && $0 != node } }

    func lookAfter() {
        if routes.isOwnView { routes.refresh(nil) } else { attached?.lookAfter() }
    }
}
