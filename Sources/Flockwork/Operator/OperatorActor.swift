// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// What an operator calls. It is an actor of a system of its own, whose only listener is a socket in the file system:
// nothing of it can be reached over the listener that nodes and clients use, whatever they say they are.

distributed actor OperatorActor {
    typealias ActorSystem = FlockSystem

    /// The loop of the node's own system.
    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }

    private let inbox: InboxActor

    init(inbox: InboxActor, actorSystem: FlockSystem) {
        self.inbox = inbox
        self.actorSystem = actorSystem
    }

    static let name = "operator"
    /// What the handshake calls the cluster of this listener: a client of a node's that comes here by mistake is told.
    static let clusterID = "flockwork operator"
    /// In a data folder.
    static let socketName = "admin.sock"
    /// For another node's answer.
    private static let statusTime = Duration.seconds(1)

    /// What this node and those that it is connected to are doing, by name.
    distributed func status() async -> [NodeStatus] {
        let system = inbox.actorSystem
        let own = await inbox.whenLocal { $0.currentStatus() }
        let others = system.peers.keys.filter { !$0.rawValue.hasPrefix(Guest.prefix) }
        return await withTaskGroup(of: NodeStatus?.self) { group in
            for node in others { group.addTask { await Self.status(of: node, system) } }
            let all = await group.reduce(into: own.map { [$0] } ?? []) { all, one in
                if let one { all.append(one) }
            }
            return all.sorted { $0.node < $1.node }
        }
    }

    /// Nil where it does not answer: who reads the table sees a member without a line.
    private static func status(of node: NodeID, _ system: FlockSystem) async -> NodeStatus? {
        do {
            let inbox = try InboxActor.resolve(
                id: ActorAddress(named: InboxMethods.actorName, on: node), using: system)
            return try await FlockSystem.$deadline.withValue(statusTime) { try await inbox.status() }
        } catch {
            return nil
        }
    }

    /// Returns when it is done.
    distributed func carryOut(_ order: OperatorOrder) async throws {
        switch order {
        case .suspend(let pipeline): try await inbox.whenLocal { try await $0.suspend(pipeline) }
        case .resume(let pipeline): try await inbox.whenLocal { try await $0.resume(pipeline) }
        case .drain(let node): try await inbox.whenLocal { try await $0.drainMember(node) }
        case .undrain(let node): try await inbox.whenLocal { try await $0.order(.undrain(node)) }
        case .leave(let node): try await inbox.whenLocal { try await $0.leave(node) }
        case .addVoter(let node): try await inbox.whenLocal { try await $0.order(.addVoter(node)) }
        case .removeVoter(let node): try await inbox.whenLocal { try await $0.removeVoter(node) }
        case .replaceVoter(let old, let new):
            try await inbox.whenLocal { try await $0.order(.replaceVoter(old, by: new)) }
        }
    }

    /// Gives up what partitions held of which no copy can be reached: those named, or all. Returns which they were.
    distributed func acceptLoss(of partitions: [PartitionID]?) async throws -> [PartitionID] {
        try await inbox.whenLocal { try await $0.acceptLoss(of: partitions) } ?? []
    }
}

/// What an operator wants.
enum OperatorOrder: Codable, Sendable, Equatable {
    case suspend(String)
    case resume(String)
    case drain(NodeID)
    case undrain(NodeID)
    case leave(NodeID)
    case addVoter(NodeID)
    case removeVoter(NodeID)
    case replaceVoter(NodeID, NodeID)
}
