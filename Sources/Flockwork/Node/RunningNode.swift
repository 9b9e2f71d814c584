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
    /// The way to the first view, where there is one.
    private let localMap = ClusterMap()
    private var formation: Task<Void, Never>?
    private let configuration: NodeConfiguration
    /// Where operators come in; nil without an admin socket.
    private var admin: FlockSystem?

    static func start(pipelines: [PipelineDefinition], configuration: NodeConfiguration) async throws -> RunningNode {
        try check(pipelines, configuration)
        try configuration.checkCluster()
        let loop = try EventLoop(name: "flock-\(configuration.id)", busyPoll: configuration.busyPoll)
        if let seed = configuration.faultSeed {
            // Nothing is on the loop yet.
            loop.faults = LinkFaults(on: loop, seed: seed)
        }
        do {
            return try await start(pipelines, configuration, loop)
        } catch {
            await loop.stop()
            throw error
        }
    }

    private static func check(
        _ pipelines: [PipelineDefinition], _ configuration: NodeConfiguration
    ) throws(FlockError) {
        guard !pipelines.isEmpty else { throw FlockError(.invalidInput, "A node needs at least one pipeline.") }
        guard Set(pipelines.map(\.name)).count == pipelines.count else {
            throw FlockError(.invalidInput, "Two pipelines of a node have the same name.")
        }
        guard let durable = pipelines.first(where: { $0.group == .durable }) else { return }
        guard configuration.isClustered, configuration.dataFolder != nil else {
            throw FlockError(
                .invalidInput,
                "The pipeline \(durable.name) is durable: its nodes need a data folder each, and bootstrap or join (a "
                    + "bootstrap of 1 is enough).")
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
        // Numbers of pipelines go into logs that several nodes have.
        let pipelines = configuration.isClustered ? pipelines.sorted { $0.name < $1.name } : pipelines
        let view = try view(configuration)
        let members = view.members.map(\.id)
        let plans = try LanePlan.all(pipelines) { shape, place in
            shape.instances.count(
                on: configuration.id, of: members, cores: configuration.coreCount, stage: place)
        }
        if configuration.isClustered { try checkPlaces(plans) }
        var counts = pipelines.map { $0.lanes.map { _ in 0 } }
        for plan in plans {
            for user in plan.users { counts[user.pipeline][user.lane] = plan.instances }
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
        MemberActor.registerDirect(in: system)
        do {
            return try await start(pipelines, plans, counts, view, configuration, system)
        } catch {
            await system.stop()
            throw error
        }
    }

    /// Each node of a cluster has instances of all lanes: which nodes there will be is not known.
    private static func checkPlaces(_ plans: [LanePlan]) throws(FlockError) {
        for plan in plans {
            guard case .total = plan.shape.instances else { continue }
            throw FlockError(
                .invalidInput,
                "The stage \(plan.shape.name) asks for a number of instances in the whole cluster, which nodes that "
                    + "come and go cannot share out yet; use perCore or perNode.")
        }
    }

    private static func start(
        _ pipelines: [PipelineDefinition], _ plans: [LanePlan], _ counts: [[Int]], _ view: View,
        _ configuration: NodeConfiguration, _ system: FlockSystem
    ) async throws -> RunningNode {
        let limits = configuration.limits
        let inbox = await system.named(InboxMethods.actorName, exportedTo: .clients) {
            InboxActor(
                view: view, generation: .random(in: 1 ... .max), isClustered: configuration.isClustered,
                limits: limits, log: configuration.logger, actorSystem: system)
        }
        var runners: [LaneRunner] = []
        var admin: FlockSystem?
        let context = NodeContext(
            node: configuration.id, limits: limits, log: configuration.logger, cores: configuration.coreCount)
        do {
            let hosted = try await host(pipelines, plans, view, configuration, context, inbox, runners: &runners)
            let metrics = NodeMetrics(node: configuration.id, pipelines: pipelines, instances: counts)
            await inbox.whenLocal { inbox in
                inbox.context = context
                inbox.start(hosted)
                inbox.report(to: metrics)
            }
            let durablePartitions = try pipelines.durablePartitions(of: limits.partitions)
            var disk = NodeDisk()
            if configuration.isClustered, let path = configuration.dataFolder {
                disk = try await InboxActor.open(
                    try DataFolder(path: path, on: system.loop), isDurable: durablePartitions > 0, for: inbox,
                    limits: limits, log: configuration.logger)
            }
            admin = try await Self.admin(inbox, configuration)
            _ = await system.named(MemberActor.name, exportedTo: .nodes) {
                MemberActor(inbox: inbox, actorSystem: system)
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
                    "survives": configuration.isClustered ? "as the view says" : "0 node failures",
                ])
            var node = RunningNode(
                system: system, inbox: inbox, port: port, runners: runners, context: context,
                configuration: configuration)
            node.admin = admin
            if configuration.isClustered {
                let formation = Formation(
                    configuration: configuration, port: port, inbox: inbox,
                    pipelines: pipelines.map { Greeting.Pipeline($0) }, durablePartitions: durablePartitions, disk: disk
                )
                node.formation = Task { await formation.run() }
            }
            return node
        } catch {
            // Instances wait at their mailboxes for ever, and hold their models, unless they are told to end.
            for runner in runners { await runner.stop() }
            await context.end()
            await admin?.stop()
            await inbox.whenLocal { $0.stop() }
            throw error
        }
    }

    /// A system of its own, so that what operators call is not to be found where nodes and clients come in.
    private static func admin(_ inbox: InboxActor, _ configuration: NodeConfiguration) async throws -> FlockSystem? {
        guard let path = configuration.adminPath else { return nil }
        let identity = Identity(clusterID: OperatorActor.clusterID, node: configuration.id, role: .node)
        var limits = configuration.limits
        limits.connections = min(limits.connections, 16)
        let system = FlockSystem(
            identity: identity, loop: inbox.actorSystem.loop, limits: limits, log: configuration.logger)
        _ = await system.named(OperatorActor.name, exportedTo: .clients) {
            OperatorActor(inbox: inbox, actorSystem: system)
        }
        do {
            try await system.listen(path: path)
            return system
        } catch {
            await system.stop()
            throw error
        }
    }

    /// Makes the instances that run on this node, and begins to listen at their mailboxes.
    ///
    /// `runners` gets those that were started, also if a later one cannot be made.
    private static func host(
        _ pipelines: [PipelineDefinition], _ plans: [LanePlan], _ view: View, _ configuration: NodeConfiguration,
        _ node: NodeContext, _ inbox: InboxActor, runners: inout [LaneRunner]
    ) async throws -> [HostedPipeline] {
        let system = inbox.actorSystem
        var lanes: [[LaneFlow?]] = pipelines.map { $0.lanes.map { _ in nil } }
        for plan in plans where plan.instances > 0 {
            let makeInstance = plan.instanceFactory(of: pipelines, system: system, node: node)
            var made: [LaneInstance] = []
            for _ in 0..<plan.instances * plan.shape.window { made.append(try await makeInstance()) }
            let runner = runner(plan, of: pipelines, makeInstance, configuration, inbox)
            runners.append(runner)
            try runner.start(made)
            for (flow, user) in plan.users.enumerated() {
                let pipeline = pipelines[user.pipeline]
                let lane = LaneFlow(runner: runner, flow: flow)
                lanes[user.pipeline][user.lane] = lane
                _ = await system.named(StageHost.name(pipeline: pipeline, lane: user.lane), exportedTo: .nodes) {
                    StageHost(lane: lane, check: pipeline.lanes[user.lane].check, actorSystem: system)
                }
            }
        }
        return pipelines.indices.map { index in
            HostedPipeline(
                pipelines[index], runners: lanes[index], seed: UInt64(index) &+ view.membersHash,
                limits: configuration.limits)
        }
    }

    private static func runner(
        _ plan: LanePlan, of pipelines: [PipelineDefinition], _ makeInstance: @escaping LaneRunner.InstanceFactory,
        _ configuration: NodeConfiguration, _ inbox: InboxActor
    ) -> LaneRunner {
        let loop = inbox.actorSystem.loop
        let users = plan.users
        let runner = LaneRunner(
            plan.shape, instances: plan.instances * plan.shape.window, weights: plan.weights,
            limits: configuration.limits, loop: loop,
            log: configuration.logger, makeInstance: makeInstance
        ) { batch in
            let user = users[batch.flow]
            let tell: @Sendable () -> Void = {
                inbox.assumeIsolated { $0.finished(batch, pipeline: user.pipeline, lane: user.lane) }
            }
            // A small batch is sent on by this thread if the loop sleeps; a large one is worth a wake-up.
            if batch.isSmall { loop.perform(tell) } else { loop.execute(tell) }
        }
        for (observation, user) in zip(runner.observations, users) {
            observation.begin(pipeline: pipelines[user.pipeline].name, stage: runner.name, node: configuration.id)
        }
        return runner
    }

    /// How sessions of callers in this process find their partitions' nodes.
    func routes(_ limits: Limits, own: LocalPort) -> SessionRoutes {
        let (inbox, system, map) = (inbox, system, localMap)
        return SessionRoutes(
            map: map,
            port: { node in
                if node == own.node { return own }
                return PeerPort(node: node, system: system, limits: limits)
            },
            connectTime: limits.connectTime,
            refresh: { _ in system.loop.execute { inbox.assumeIsolated { _ = map.learn($0.clusterDescription()) } } },
            isOwnView: true)
    }

    /// Ends this node as a crash would: nothing is finished, handed over or said.
    func abandon() async {
        formation?.cancel()
        await admin?.stop()
        await system.stop()
        await inbox.whenLocal { $0.stop() }
        for runner in runners { await runner.stop() }
        await context.end()
        await system.loop.stop()
    }

    func shutDown() async {
        formation?.cancel()
        let drainTime = configuration.limits.drainTime
        let isDrained = await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                await inbox.whenLocal { inbox in
                    await inbox.leaveCluster()
                    await inbox.drain()
                }
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
            system.loop.limitsReached.reached(.drainTime)
            configuration.logger.warning("node stopped before all accepted requests had an outcome")
        }
        for runner in runners { await runner.stop() }
        await context.end()
        await inbox.whenLocal { $0.stop() }
        await admin?.stop()
        await system.stop()
        await system.loop.stop()
    }
}
