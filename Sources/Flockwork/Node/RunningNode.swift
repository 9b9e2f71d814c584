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
        let plans = try LanePlan.all(pipelines) { configuration.instances(of: $0, members: members) }
        try checkPlaces(plans, configuration)
        var counts = pipelines.map { $0.lanes.map { _ in 0 } }
        for plan in plans {
            for user in plan.users { counts[user.pipeline][user.lane] = plan.instances }
        }
        let announcement = Announcement(
            pipelines: zip(pipelines, counts).map { pipeline, counts in
                .init(pipeline: pipeline.name, fingerprint: pipeline.fingerprint, instances: counts)
            })
        let tokens = try configuration.tokens()
        var identity = Identity(
            clusterID: configuration.clusterID, node: configuration.id, role: .node,
            membersHash: configuration.members.isEmpty ? 0 : view.membersHash, token: tokens.nodes)
        identity.clientToken = tokens.clients
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

    /// A static list says nothing of the others' labels.
    private static func checkPlaces(_ plans: [LanePlan], _ configuration: NodeConfiguration) throws(FlockError) {
        for plan in plans where !plan.placement.labels.isEmpty && configuration.members.count > 1 {
            guard case .total = plan.shape.instances else { continue }
            throw FlockError(
                .invalidInput,
                "The stage \(plan.shape.name) asks for labels and for a number of instances in the whole cluster: "
                    + "nodes with a member list do not know each other's labels; use join and bootstrap, or perNode.")
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
        var admin: FlockSystem?
        let factory = LaneFactory(pipelines: pipelines, configuration: configuration, inbox: inbox)
        await inbox.whenLocal { $0.laneFactory = factory }
        do {
            let hosted = try await host(plans, view, factory)
            // Lanes that have no instances here may have some later.
            let measured = configuration.isClustered ? pipelines.map { $0.lanes.map { _ in 1 } } : counts
            let metrics = NodeMetrics(node: configuration.id, pipelines: pipelines, instances: measured)
            await inbox.whenLocal { inbox in
                inbox.crashPoint = configuration.crashPoint
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
            admin = await Self.admin(inbox, configuration)
            _ = await system.named(MemberActor.name, exportedTo: .nodes) {
                MemberActor(inbox: inbox, actorSystem: system)
            }
            try await finish(system, admin, inbox, configuration)
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
                system: system, inbox: inbox, port: port, configuration: configuration)
            node.admin = admin
            if configuration.isClustered {
                let formation = Formation(
                    configuration: configuration, port: port, inbox: inbox,
                    pipelines: pipelines.map { Greeting.Pipeline($0) }, durablePartitions: durablePartitions,
                    labels: try NodeLabels.checked(configuration.labels), disk: disk)
                node.formation = Task { await formation.run() }
            }
            return node
        } catch {
            // Instances wait at their mailboxes for ever, and hold their models, unless they are told to end.
            await inbox.whenLocal { await $0.endPlaces() }
            await admin?.stop()
            await inbox.whenLocal { $0.stop() }
            throw error
        }
    }

    /// Puts on a node what others have for it, and lets operators in.
    private static func finish(
        _ system: FlockSystem, _ admin: FlockSystem?, _ inbox: InboxActor, _ configuration: NodeConfiguration
    ) async throws {
        let starting = StartingNode(
            system: system, operators: admin, log: configuration.logger, hasToken: configuration.tokenFile != nil,
            members: { try await inbox.whenLocal { try $0.memberNodes() } ?? [] })
        for body in configuration.atStart { await body(starting) }
        if let admin, let path = configuration.adminPath { try await admin.listen(path: path) }
    }

    /// A system of its own, so that what operators call is not to be found where nodes and clients come in.
    private static func admin(_ inbox: InboxActor, _ configuration: NodeConfiguration) async -> FlockSystem? {
        guard configuration.adminPath != nil else { return nil }
        let identity = Identity(clusterID: OperatorActor.clusterID, node: configuration.id, role: .node)
        var limits = configuration.limits
        limits.connections = min(limits.connections, 16)
        let system = FlockSystem(
            identity: identity, loop: inbox.actorSystem.loop, limits: limits, log: configuration.logger)
        _ = await system.named(OperatorActor.name, exportedTo: .clients) {
            OperatorActor(inbox: inbox, actorSystem: system)
        }
        return system
    }

    /// Makes the instances that this node begins with. The inbox has them, also those before one that cannot be made.
    private static func host(
        _ plans: [LanePlan], _ view: View, _ factory: LaneFactory
    ) async throws -> [HostedPipeline] {
        let (inbox, pipelines) = (factory.inbox, factory.pipelines)
        var lanes: [[LaneFlow?]] = pipelines.map { $0.lanes.map { _ in nil } }
        var placed: [PlacedLane] = []
        for plan in plans {
            var place = PlacedLane(plan: plan, wanted: plan.instances)
            if plan.instances > 0 {
                let running = try await factory.make(plan)
                place.running = running
                for (flow, user) in plan.users.enumerated() {
                    lanes[user.pipeline][user.lane] = LaneFlow(runner: running.runner, flow: flow)
                }
            }
            placed.append(place)
            await inbox.whenLocal { [place] in $0.places.append(place) }
        }
        await factory.registerHosts(placed)
        let stagePlan = LanePlan.stagePlan(plans, of: pipelines, cores: factory.configuration.coreCount)
        await inbox.whenLocal { $0.plan = stagePlan }
        return pipelines.indices.map { index in
            HostedPipeline(
                pipelines[index], runners: lanes[index], seed: UInt64(index) &+ view.membersHash,
                limits: factory.configuration.limits)
        }
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
        await inbox.whenLocal { inbox in
            inbox.stop()
            await inbox.endPlaces()
        }
        await system.loop.stop()
    }

    func shutDown() async {
        formation?.cancel()
        let drainTime = configuration.limits.drainTime
        let leftUndone = await withTaskGroup(of: Logger.Message?.self) { group in
            group.addTask {
                await inbox.whenLocal { inbox in
                    await inbox.leaveCluster()
                    await inbox.drain()
                }
                return nil
            }
            group.addTask {
                do { try await Task.sleep(for: drainTime) } catch { return nil }
                return await inbox.whenLocal { inbox in
                    let leftUndone = inbox.leftUndone
                    // Whoever still waits for the drain is let go.
                    inbox.abandonDrain()
                    return leftUndone
                }
            }
            var leftUndone: Logger.Message?
            // Who is let go may be back before the one that lets go.
            for await message in group {
                leftUndone = leftUndone ?? message
                group.cancelAll()
            }
            return leftUndone
        }
        if let leftUndone {
            system.loop.limitsReached.reached(.drainTime)
            configuration.logger.warning(leftUndone, metadata: ["after": "\(drainTime)"])
        }
        await inbox.whenLocal { inbox in
            await inbox.endPlaces()
            inbox.stop()
        }
        await admin?.stop()
        await system.stop()
        await system.loop.stop()
    }
}
