// Flockwork · Apache-2.0 · see LICENSE

// A new version on all nodes of a cluster. First all have it and find nothing wrong; then the node that was asked takes
// it, and when that went well the others do, all at once. A node that fails keeps what it has.

internal import Distributed
internal import FlockActors
public import FlockWire
public import Flockwork
internal import Foundation
internal import Logging

/// What became of an update.
public struct ModelUpdate: Codable, Sendable, Hashable {
    /// How it ended on a node.
    public enum Outcome: String, Codable, Sendable {
        /// All that it answers from now on is of the new version.
        case updated
        /// It had that version.
        case unchanged
        /// It has the version that it had.
        case kept
        /// It did not answer: it has one of the two.
        case unknown
    }

    /// A node of the cluster.
    public struct Node: Codable, Sendable, Hashable {
        public var node: NodeID
        /// What it serves now.
        public var outcome: Outcome
        /// Why, for one that failed; nil for those that were spared.
        public var code: FlockError.Code?
        public var error: String?
    }

    /// What the model is called.
    public var model: String
    /// The hash of the new version's files.
    public var version: ContentHash
    /// All that were members, by name.
    public var nodes: [Node]

    /// Whether all serve the new version.
    public var isDone: Bool { nodes.allSatisfy { $0.outcome == .updated || $0.outcome == .unchanged } }
}

/// How a node makes its cluster take a version.
struct ClusterUpdate: Sendable {
    let versions: ModelVersions
    let node: StartingNode

    /// For fetching, and for making an environment.
    static let prepareTime = Duration.seconds(3 * 3600)
    /// For `init.sh`, and for loading the model.
    static let adoptTime = Duration.seconds(3600)

    func run(_ model: String, to folder: String, wheelhouse: String?) async throws -> ModelUpdate {
        let members = try await node.members()
        let version = try await versions.add(model, from: folder, wheelhouse: wheelhouse)
        node.log.notice(
            "an operator brings a new version of a model",
            metadata: ["model": "\(model)", "bundle": "\(version.bundle)", "nodes": "\(members)"])
        let own = node.system.node
        let prepared = await all(members) { member in
            do {
                try await prepare(version, on: member)
                return ModelUpdate.Node(node: member, outcome: .kept)
            } catch {
                return ModelUpdate.Node(member, .kept, error)
            }
        }
        guard prepared.allSatisfy({ $0.error == nil }) else {
            return ModelUpdate(model: model, version: version.bundle, nodes: prepared)
        }
        // A handler that cannot be loaded is found out by one node, and the others need not try.
        let first = await versions.adopt(version, on: own)
        var nodes = prepared.filter { $0.node != own }
        if first.error == nil {
            nodes = await all(nodes.map(\.node)) { member in
                do {
                    return try await FlockSystem.$deadline.withValue(Self.adoptTime) {
                        try await updates(of: member).adopt(version)
                    }
                } catch {
                    return ModelUpdate.Node(member, .unknown, error)
                }
            }
        }
        return ModelUpdate(
            model: model, version: version.bundle, nodes: ([first] + nodes).sorted { $0.node < $1.node })
    }

    private func prepare(_ version: ModelVersion, on member: NodeID) async throws {
        let own = node.system.node
        guard member != own else { return try await versions.prepare(version, log: node.log) }
        try await FlockSystem.$deadline.withValue(Self.prepareTime) {
            try await updates(of: member).prepare(version, from: own)
        }
    }

    private func updates(of member: NodeID) throws -> ModelUpdates {
        try ModelUpdates.resolve(id: ActorAddress(named: ModelUpdates.name, on: member), using: node.system)
    }

    /// By name.
    private func all(
        _ members: [NodeID], _ body: @escaping @Sendable (NodeID) async -> ModelUpdate.Node
    ) async -> [ModelUpdate.Node] {
        await withTaskGroup(of: ModelUpdate.Node.self) { group in
            for member in members { group.addTask { await body(member) } }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.node < $1.node }
        }
    }
}

extension ModelVersions {
    /// The same with what went wrong as a part of what became of it.
    func adopt(_ version: ModelVersion, on node: NodeID) async -> ModelUpdate.Node {
        do {
            return ModelUpdate.Node(node: node, outcome: try await adopt(version) ? .updated : .unchanged)
        } catch {
            return ModelUpdate.Node(node, .kept, error)
        }
    }
}

extension ModelUpdate.Node {
    /// A node that does not serve the new version, or may not.
    init(_ node: NodeID, _ outcome: ModelUpdate.Outcome, _ error: any Error) {
        let error = (error as? FlockError) ?? FlockError(.callFailed, "\(error)")
        let lines = error.message.split(whereSeparator: \.isNewline)
        var text = String(lines.first ?? "")
        // Between them is a traceback, or the output of a tool: the node's log has it.
        if let last = lines.last, !text.contains(last) { text += " … \(last)" }
        self.init(node: node, outcome: outcome, code: error.code, error: text.cut(to: 1000))
    }
}

extension Operator {
    /// Has all nodes of the cluster serve a model's folder of this machine, without a restart and without a failed
    /// request. All fetch and check it before any takes it; a node that fails then keeps what it has.
    ///
    /// Its form, its handler and its options stay as they are. Nodes that were started with a folder of their own go
    /// back to that at their next start.
    /// - Parameter wheelhouse: Wheels for a folder with a `requirements.txt` and no `wheels` of its own; nil: those of
    ///   the version before.
    /// - Returns: What became of it on each node: `isDone` if all went well.
    /// - Throws: `notFound` for no such model; `invalidInput` for a folder that is none, or says another form;
    ///   `unavailable`, …: nothing has changed then.
    public func update(_ model: String, to folder: String, wheelhouse: String? = nil) async throws -> ModelUpdate {
        let path = URL(fileURLWithPath: folder).standardizedFileURL.path
        let wheels = wheelhouse.map { URL(fileURLWithPath: $0).standardizedFileURL.path }
        do {
            return try await FlockSystem.$deadline.withValue(ClusterUpdate.prepareTime + ClusterUpdate.adoptTime * 2) {
                try await resolve(ModelOperator.self, named: ModelOperator.name)
                    .update(model, to: path, wheelhouse: wheels)
            }
        } catch let error as FlockError where error.code == .notFound && error.message.hasSuffix("for this caller") {
            // No such actor, or no such method.
            throw FlockError(.notFound, "\(node) serves no folders that can be updated: it is no `flockwork serve`.")
        }
    }
}
