// Flockwork · Apache-2.0 · see LICENSE

package import Distributed
package import FlockActors
internal import FlockTransport
public import FlockWire
internal import Foundation
internal import Logging

/// An operator's way to a node, and through it to its cluster: what `flockwork status`, `drain`, `leave` … use.
///
///     let admin = try await Operator.connect(to: "/var/lib/flockwork/a")
///     try await admin.drain("b")
///
/// It connects to the admin socket of a node on this machine. Who may open that file is an operator; there is nothing
/// else to prove, and no other way in.
public final class Operator: Sendable {
    private let system: FlockSystem
    private let loop: EventLoop
    private let actor: OperatorActor

    /// For an order: a node that leaves has `Limits.drainTime`, and voters need a moment.
    private static let orderTime = Duration.seconds(60)

    private init(system: FlockSystem, loop: EventLoop, actor: OperatorActor) {
        self.system = system
        self.loop = loop
        self.actor = actor
    }

    /// Connects to the admin socket at `path`, or to the one in the data folder `path`.
    ///
    /// - Throws: `FlockError`: `unavailable` where no node listens, `unauthenticated` where this user may not connect.
    public static func connect(to path: String) async throws -> Operator {
        var isFolder: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        let socket = isThere && isFolder.boolValue ? path + "/" + OperatorActor.socketName : path
        let loop = try EventLoop(name: "flock-operator")
        let identity = Identity(
            clusterID: OperatorActor.clusterID, node: NodeID("operator-\(getpid())"), role: .client)
        let system = FlockSystem(
            identity: identity, loop: loop, limits: Limits(), log: Logger(label: "flockwork.operator"))
        do {
            let peer = try await system.connect(path: socket)
            let actor = try OperatorActor.resolve(
                id: ActorAddress(named: OperatorActor.name, on: peer.identity.node), using: system)
            return Operator(system: system, loop: loop, actor: actor)
        } catch {
            await system.stop()
            await loop.stop()
            throw explained(FlockError.ofStage(error), socket, isThere)
        }
    }

    private static func explained(_ error: FlockError, _ socket: String, _ isThere: Bool) -> FlockError {
        var error = error
        switch error.code {
        case .unauthenticated:
            error.message = "\(socket) may only be opened by the user that the node runs as, and by root"
        case .unavailable where !FileManager.default.fileExists(atPath: socket):
            error.message =
                "there is no admin socket at \(socket): a node makes one in its data folder (--data-folder), or where "
                + "--admin says"
        case .unavailable: error.message = "no node listens at \(socket) any more: it has ended"
        default: break
        }
        return error
    }

    /// What else the asked node has for operators.
    package func resolve<A: DistributedActor>(_ type: A.Type, named name: String) throws -> A
    where A.ActorSystem == FlockSystem {
        try A.resolve(id: ActorAddress(named: name, on: node), using: system)
    }

    /// The node that is asked.
    public var node: NodeID { actor.id.node }

    /// What all nodes are doing that the asked one is connected to, and itself; by name.
    public func status() async throws -> [NodeStatus] { try await actor.status() }

    /// A pipeline accepts nothing new, on all nodes; callers hear `suspended`. What was accepted is finished.
    public func suspend(_ pipeline: String) async throws { try await carryOut(.suspend(pipeline)) }

    /// A suspended pipeline accepts again.
    public func resume(_ pipeline: String) async throws { try await carryOut(.resume(pipeline)) }

    /// A node leads nothing and gets no work any more, and stays a member. Returns when it leads nothing.
    public func drain(_ node: NodeID) async throws { try await carryOut(.drain(node)) }

    /// A drained node takes its share again.
    public func undrain(_ node: NodeID) async throws { try await carryOut(.undrain(node)) }

    /// A node hands over what it has, and ends, as after SIGTERM. Returns when it is no member any more.
    public func leave(_ node: NodeID) async throws { try await carryOut(.leave(node)) }

    /// A member votes besides those that do.
    public func addVoter(_ node: NodeID) async throws { try await carryOut(.addVoter(node)) }

    /// A voter votes no more, and never again under its name; it may be a member. A majority of the others has to vote.
    public func removeVoter(_ node: NodeID) async throws { try await carryOut(.removeVoter(node)) }

    /// A member votes in the place of another node, which never votes again under its name.
    public func replaceVoter(_ old: NodeID, by new: NodeID) async throws {
        try await carryOut(.replaceVoter(old, new))
    }

    /// Gives up what partitions held of which no copy can be reached, though one may come back: those named, or (nil)
    /// all. **What was accepted there is gone**, and its callers hear `lost`; the partitions begin empty. Returns them.
    ///
    /// - Throws: `FlockError`: `invalidInput` where a copy can be reached, `unavailable` without a majority of the
    ///   voters.
    @discardableResult
    public func acceptLoss(of partitions: [PartitionID]?) async throws -> [PartitionID] {
        try await FlockSystem.$deadline.withValue(Self.orderTime) { try await actor.acceptLoss(of: partitions) }
    }

    private func carryOut(_ order: OperatorOrder) async throws {
        try await FlockSystem.$deadline.withValue(Self.orderTime) { try await actor.carryOut(order) }
    }

    /// Ends the connection.
    public func close() async {
        await system.stop()
        await loop.stop()
    }
}
