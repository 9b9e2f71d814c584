// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// The parts of a started node, and the order in which they come and go: models before instances, instances before the
// listener, so that a node that can be reached can answer; and back in the opposite order.

struct RunningNode: Sendable {
    let system: FlockSystem
    let inbox: InboxActor
    let port: Int
    private let runners: [LaneRunner]
    private let context: NodeContext
    private let configuration: NodeConfiguration

    static func start(pipelines: [PipelineDefinition], configuration: NodeConfiguration) async throws -> RunningNode {
        try check(pipelines)
        let loop = try EventLoop(name: "flock-\(configuration.id)", busyPoll: configuration.busyPoll)
        do {
            return try await start(pipelines, configuration, loop)
        } catch {
            await loop.stop()
            throw error
        }
    }

    private static func check(_ pipelines: [PipelineDefinition]) throws(FlockError) {
        guard !pipelines.isEmpty else { throw FlockError(.invalidInput, "A node needs at least one pipeline.") }
        guard Set(pipelines.map(\.name)).count == pipelines.count else {
            throw FlockError(.invalidInput, "Two pipelines of a node have the same name.")
        }
    }

    /// The view that the configuration describes: this node must be one of the members.
    private static func view(_ configuration: NodeConfiguration) throws(FlockError) -> View {
        let limits = configuration.limits
        guard !configuration.members.isEmpty else {
            // Alone: the port in the list is only what clients are told, who know it already.
            let alone = try Member(
                id: configuration.id, host: configuration.host, port: max(configuration.port, 1))
            return try View(members: [alone], partitions: limits.partitions)
        }
        let view = try View(members: configuration.members, partitions: limits.partitions)
        guard let own = view.member(configuration.id) else {
            throw FlockError(
                .invalidInput,
                "The node \(configuration.id) is not in its own member list; add \(configuration.id)=host:port.")
        }
        guard configuration.port == 0 || own.port == configuration.port else {
            throw FlockError(
                .invalidInput,
                "The member list gives \(configuration.id) port \(own.port), but it is told to listen on "
                    + "\(configuration.port)."
            )
        }
        return view
    }

    private static func start(
        _ pipelines: [PipelineDefinition], _ configuration: NodeConfiguration, _ loop: EventLoop
    ) async throws -> RunningNode {
        let limits = configuration.limits
        let view = try view(configuration)
        let members = view.members.map(\.id)
        let counts = pipelines.map { pipeline in
            pipeline.lanes.enumerated().map { lane, definition in
                definition.shape.instances.count(
                    on: configuration.id, of: members, cores: configuration.coreCount,
                    stage: "\(pipeline.name)/\(lane)")
            }
        }
        let announcement = Announcement(
            pipelines: zip(pipelines, counts).map { pipeline, counts in
                .init(pipeline: pipeline.name, fingerprint: pipeline.fingerprint, instances: counts)
            })
        let identity = Identity(
            clusterID: configuration.clusterID, node: configuration.id, role: .node,
            membersHash: configuration.members.isEmpty ? 0 : view.membersHash,
            token: try configuration.tokenFile.map { try Token(file: $0) })
        let system = FlockSystem(
            identity: identity, loop: loop, limits: limits, log: configuration.logger,
            announcement: try announcement.encoded(limits: limits))
        InboxActor.registerDirect(in: system, limits: limits)
        StageHost.registerDirect(in: system, limits: limits)
        do {
            return try await start(pipelines, counts, view, configuration, system)
        } catch {
            await system.stop()
            throw error
        }
    }

    private static func start(
        _ pipelines: [PipelineDefinition], _ counts: [[Int]], _ view: View, _ configuration: NodeConfiguration,
        _ system: FlockSystem
    ) async throws -> RunningNode {
        let limits = configuration.limits
        let inbox = await system.named(InboxMethods.actorName, exportedTo: .clients) {
            InboxActor(
                view: view, generation: .random(in: 1 ... .max), limits: limits, log: configuration.logger,
                actorSystem: system)
        }
        var runners: [LaneRunner] = []
        let context = NodeContext(
            node: configuration.id, limits: limits, log: configuration.logger, cores: configuration.coreCount)
        do {
            let hosted = try await host(pipelines, counts, view, context, inbox, runners: &runners)
            let metrics = NodeMetrics(node: configuration.id, pipelines: pipelines, instances: counts)
            await inbox.whenLocal { inbox in
                inbox.context = context
                inbox.start(hosted)
                inbox.report(to: metrics)
            }
            let port = try await system.listen(
                host: configuration.host, port: configuration.port, insecure: configuration.insecure)
            for member in view.members where member.id != configuration.id {
                system.link(to: member.id, host: member.host, port: member.port)
            }
            configuration.logger.info(
                "node started",
                metadata: [
                    "node": "\(configuration.id)", "port": "\(port)", "members": "\(view.members.count)",
                    // One copy of each partition: what this node holds dies with it.
                    "survives": "0 node failures",
                ])
            return RunningNode(
                system: system, inbox: inbox, port: port, runners: runners, context: context,
                configuration: configuration)
        } catch {
            // Instances wait at their mailboxes for ever, and hold their models, unless they are told to end.
            for runner in runners { await runner.stop() }
            await context.end()
            await inbox.whenLocal { $0.stop() }
            throw error
        }
    }

    /// Makes the instances that run on this node, and begins to listen at their mailboxes.
    ///
    /// `runners` gets those that were started, also if a later one cannot be made.
    private static func host(
        _ pipelines: [PipelineDefinition], _ counts: [[Int]], _ view: View, _ context: NodeContext,
        _ inbox: InboxActor, runners: inout [LaneRunner]
    ) async throws -> [HostedPipeline] {
        let system = inbox.actorSystem
        var hosted: [HostedPipeline] = []
        for (index, pipeline) in pipelines.enumerated() {
            var lanes: [LaneRunner?] = []
            for (lane, definition) in pipeline.lanes.enumerated() {
                guard counts[index][lane] > 0 else {
                    lanes.append(nil)
                    continue
                }
                let instance = InstanceContext(system: system, node: context, instances: counts[index][lane])
                var steps: [EncodedStep] = []
                for _ in 0..<counts[index][lane] * definition.shape.window {
                    steps.append(try await definition.makeStep(instance))
                }
                let runner = LaneRunner(
                    definition.shape, instances: steps.count, limits: context.limits, loop: system.loop,
                    log: context.log, makeStep: { try await definition.makeStep(instance) }
                ) { batch in
                    system.loop.execute { inbox.assumeIsolated { $0.finished(batch, pipeline: index, lane: lane) } }
                }
                runner.observation.begin(pipeline: pipeline.name, stage: runner.name, node: context.node)
                runner.start(steps)
                lanes.append(runner)
                runners.append(runner)
                _ = await system.named(StageHost.name(pipeline: pipeline, lane: lane), exportedTo: .nodes) {
                    StageHost(runner: runner, check: definition.check, actorSystem: system)
                }
            }
            hosted.append(
                HostedPipeline(
                    pipeline, runners: lanes, seed: UInt64(index) &+ view.membersHash, limits: context.limits))
        }
        return hosted
    }

    func shutDown() async {
        let drainTime = configuration.limits.drainTime
        let isDrained = await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                await inbox.whenLocal { await $0.drain() }
                return true
            }
            group.addTask {
                do { try await Task.sleep(for: drainTime) } catch { return true }
                // Whoever still waits for the drain is let go.
                await inbox.whenLocal { $0.abandonDrain() }
                return false
            }
            let first = await group.next() ?? true
            group.cancelAll()
            return first
        }
        if !isDrained {
            configuration.logger.warning("node stopped before all accepted requests had an outcome")
        }
        for runner in runners { await runner.stop() }
        await context.end()
        await inbox.whenLocal { $0.stop() }
        await system.stop()
        await system.loop.stop()
    }
}
