// Flockwork · Apache-2.0 · see LICENSE

// What a node does about new versions: for operators of its own machine everything, for other nodes two steps that it
// takes when a member asks. The files come from that member, over the link to it, and are what their hash says.

internal import Distributed
internal import FlockActors
internal import FlockWire
internal import Flockwork
internal import Logging

/// Takes versions of models from other nodes. Clients cannot call it.
distributed actor ModelUpdates {
    typealias ActorSystem = FlockSystem

    /// Every node's is called like this.
    static let name = "model updates"
    private let versions: ModelVersions
    private let starting: StartingNode

    init(_ versions: ModelVersions, on node: StartingNode) {
        self.versions = versions
        starting = node
        actorSystem = node.system
    }

    /// Lets other nodes, and operators, call.
    static func serve(_ versions: ModelVersions, on node: StartingNode) async {
        _ = await node.system.named(name, exportedTo: .nodes) { ModelUpdates(versions, on: node) }
        guard let operators = node.operators else { return }
        // That system has no listener but the admin socket.
        _ = await operators.named(ModelOperator.name, exportedTo: .clients) {
            ModelOperator(versions, on: node, actorSystem: operators)
        }
    }

    /// Fetches and checks a version from a member, and makes its environment. What runs goes on.
    distributed func prepare(_ version: ModelVersion, from member: NodeID) async throws {
        // Without one, whoever can connect could have this node run what he likes.
        guard starting.hasToken else {
            throw FlockError(
                .unauthenticated,
                "\(actorSystem.node) takes versions from other nodes only where the cluster has a token: start all "
                    + "nodes with --token-file")
        }
        guard member != actorSystem.node, try await starting.members().contains(member) else {
            throw FlockError(.invalidInput, "\(member) is no other member, as \(actorSystem.node) sees it.")
        }
        starting.log.notice(
            "another node brings a new version of a model",
            metadata: ["model": "\(version.model)", "bundle": "\(version.bundle)", "from": "\(member)"])
        for bundle in [version.bundle, version.wheels].compactMap({ $0 }) {
            _ = try await versions.store.fetch(bundle, from: [member], over: actorSystem)
        }
        try await versions.prepare(version, log: starting.log)
    }

    /// Has a version take over that was prepared. What goes wrong here is in the answer, so that an error means that
    /// there was none.
    distributed func adopt(_ version: ModelVersion) async -> ModelUpdate.Node {
        await versions.adopt(version, on: actorSystem.node)
    }
}

/// What operators call. It is an actor of the admin socket's system.
distributed actor ModelOperator {
    typealias ActorSystem = FlockSystem

    static let name = "models"
    private let versions: ModelVersions
    private let node: StartingNode

    init(_ versions: ModelVersions, on node: StartingNode, actorSystem: FlockSystem) {
        self.versions = versions
        self.node = node
        self.actorSystem = actorSystem
    }

    /// Has all members serve a folder of this machine. What was begun is finished, also when nobody waits any more.
    distributed func update(_ model: String, to folder: String, wheelhouse: String?) async throws -> ModelUpdate {
        let update = ClusterUpdate(versions: versions, node: node)
        return try await Task { try await update.run(model, to: folder, wheelhouse: wheelhouse) }.value
    }
}
