// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
package import FlockTransport
public import FlockWire
internal import Foundation
internal import Logging
public import ServiceLifecycle
internal import Synchronization

/// A running process of the cluster: partitions of the inbox, and instances of the stages.
///
///     let node = Node(pipelines: sentiment, churn)
///     try await node.run()
///
/// Everything that it starts, it ends: after `shutDown` no thread, task, socket or timer of it is left.
public final class Node: Service, Sendable {
    private let pipelines: [any ServablePipeline]
    private let configuration: NodeConfiguration
    private let running = Mutex<RunningNode?>(nil)

    /// A node that is not started yet.
    public init(pipelines: any ServablePipeline..., configuration: NodeConfiguration = NodeConfiguration()) {
        self.pipelines = pipelines
        self.configuration = configuration
    }

    /// A node that is not started yet.
    public init(pipelines: [any ServablePipeline], configuration: NodeConfiguration = NodeConfiguration()) {
        self.pipelines = pipelines
        self.configuration = configuration
    }

    /// The node's name.
    public var id: NodeID { configuration.id }

    /// The port that it listens on; nil before the start.
    public var port: Int? { running.withLock { $0?.port } }

    /// Loads the models, starts the instances, listens, and connects to the other members.
    ///
    /// - Throws: `FlockError`: a model that cannot be loaded, a port in use, a member list without this node, …
    public func start() async throws {
        precondition(running.withLock { $0 == nil }, "the node \(configuration.id) was started twice")
        let node = try await RunningNode.start(pipelines: pipelines.map(\.definition), configuration: configuration)
        running.withLock { $0 = node }
    }

    /// Starts, runs until the task is cancelled, a graceful shutdown begins or an operator asks the node to leave; then
    /// drains and stops.
    public func run() async throws {
        if running.withLock({ $0 == nil }) { try await start() }
        await withTaskGroup(of: Void.self) { group in
            // It throws when the task is cancelled, which ends the node in the same way.
            group.addTask { try? await gracefulShutdown() }
            group.addTask { await self.askedToLeave() }
            await group.next()
            // Whoever waits for an order to leave waits until the node ends.
            group.cancelAll()
            await shutDown()
        }
    }

    /// Returns when an operator has asked this node to leave (`flockwork leave`), or when it ends. Shut it down then;
    /// `run` does.
    public func askedToLeave() async {
        await running.withLock { $0 }?.inbox.whenLocal { await $0.waitForOrderToLeave() }
    }

    /// Takes nothing new, finishes what is held (at most `Limits.drainTime`), stops.
    public func shutDown() async {
        guard
            let node = running.withLock({ running in
                defer { running = nil }
                return running
            })
        else { return }
        await node.shutDown()
    }

    /// Ends as a crash would: nothing is finished, handed over or said. For tests.
    package func abandon() async {
        let node = running.withLock { running in
            defer { running = nil }
            return running
        }
        await node?.abandon()
    }

    /// What can go wrong with its connections, where `NodeConfiguration.faultSeed` is given. For tests.
    package var faults: LinkFaults? { running.withLock { $0?.system.loop.faults } }

    /// Returns once the node is a member of its cluster; at once if it is alone or has a static member list.
    ///
    /// - Throws: `FlockError`: why the cluster does not take it, or `shuttingDown`.
    public func joined() async throws {
        guard let node = running.withLock({ $0 }) else {
            throw FlockError(.unavailable, "The node \(configuration.id) is not started.")
        }
        try await node.inbox.whenLocal { try await $0.waitForAdmission() }
    }

    /// Returns why the node is no part of its cluster any more (its disk failed, or it is configured otherwise), once
    /// that is so; nil when it is stopped. Nothing but `shutDown` is left to do then.
    public func exclusion() async -> FlockError? {
        guard let node = running.withLock({ $0 }) else { return nil }
        return await node.inbox.whenLocal { await $0.waitForExclusion() } ?? nil
    }

    /// The inbox of a pipeline, without a socket. `priority` is that of all its requests.
    public func inbox<Input, Output>(
        of pipeline: Pipeline<Input, Output>, window: Int = 16_384, priority: RequestPriority = .normal
    ) async throws -> Inbox<Input, Output> where Input: Codable, Output: Codable {
        guard let node = running.withLock({ $0 }) else {
            throw FlockError(.unavailable, "The node \(configuration.id) is not started.")
        }
        let port = LocalPort(inbox: node.inbox, system: node.system, limits: configuration.limits)
        let core = InboxCore(
            pipeline: pipeline.name, fingerprint: pipeline.fingerprint, layout: pipeline.inputCodec.layout ?? .variable,
            window: window, priority: priority, ports: { [port] },
            routes: { [configuration] in
                configuration.isClustered ? node.routes(configuration.limits, own: port) : nil
            })
        try await core.open()
        return Inbox(core: core, input: pipeline.inputCodec, output: pipeline.outputCodec)
    }

    /// What the node is doing.
    public func status() async throws -> NodeStatus {
        guard let node = running.withLock({ $0 }) else {
            throw FlockError(.unavailable, "The node \(configuration.id) is not started.")
        }
        return try await node.inbox.status()
    }
}
