// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// A set of instances on this node. A node that is alone, or has a static list of members, makes it once; in a cluster
// it comes and goes as views share instances out.

/// The instances of a plan on this node, as they are and as they are to be.
struct PlacedLane {
    let plan: LanePlan
    /// So many are to be here.
    var wanted: Int
    /// Nil while there are none.
    var running: RunningLane?
    /// Brings `running` to what is `wanted`.
    var change: Task<Void, Never>?
    /// After a failure to make them.
    var pause = Self.shortestPause
    /// Why they could not be made.
    var failure: FlockError?

    static let shortestPause = Duration.milliseconds(500)
    static let longestPause = Duration.seconds(30)
}

/// Instances that were made together, and what they share.
struct RunningLane: Sendable {
    let runner: LaneRunner
    let context: NodeContext
    let count: Int

    /// Finishes what waits; then nothing of it is left. Not on the node's loop: it waits for threads.
    @concurrent func end() async {
        await runner.stop()
        await context.end()
    }
}

/// What makes the instances of a node.
struct LaneFactory: Sendable {
    let pipelines: [PipelineDefinition]
    let configuration: NodeConfiguration
    let inbox: InboxActor
    /// What all lanes share.
    let context: NodeContext

    init(pipelines: [PipelineDefinition], configuration: NodeConfiguration, inbox: InboxActor) {
        self.pipelines = pipelines
        self.configuration = configuration
        self.inbox = inbox
        context = NodeContext(
            node: configuration.id, limits: configuration.limits, log: configuration.logger,
            cores: configuration.coreCount)
    }

    /// Makes as many instances as the plan says, and begins to listen at their mailbox. Not on the node's loop: to
    /// load a model takes its time.
    ///
    /// - Throws: `FlockError`, as stages and models do. Nothing is left then.
    @concurrent func make(_ plan: LanePlan) async throws -> RunningLane {
        let context = NodeContext(
            node: configuration.id, limits: configuration.limits, log: configuration.logger,
            cores: configuration.coreCount, parent: self.context)
        do {
            let makeInstance = plan.instanceFactory(of: pipelines, system: inbox.actorSystem, node: context)
            var made: [LaneInstance] = []
            for _ in 0..<plan.instances * plan.shape.window { made.append(try await makeInstance()) }
            let runner = runner(plan, makeInstance)
            do {
                try runner.start(made)
            } catch {
                await runner.stop()
                throw error
            }
            return RunningLane(runner: runner, context: context, count: plan.instances)
        } catch {
            await context.end()
            throw error
        }
    }

    private func runner(_ plan: LanePlan, _ makeInstance: @escaping LaneRunner.InstanceFactory) -> LaneRunner {
        let loop = inbox.actorSystem.loop
        let users = plan.users
        let runner = LaneRunner(
            plan.shape, instances: plan.instances * plan.shape.window, weights: plan.weights,
            limits: configuration.limits, loop: loop,
            log: configuration.logger, makeInstance: makeInstance
        ) { [inbox] batch in
            let user = users[batch.flow]
            let tell: @Sendable () -> Void = {
                inbox.assumeIsolated { $0.finished(batch, pipeline: user.pipeline, lane: user.lane) }
            }
            // A small batch is sent on by this thread if the loop sleeps; a large one is worth a wake-up.
            if batch.isSmall { loop.perform(tell) } else { loop.execute(tell) }
        }
        for (observation, user) in zip(runner.observations, users) {
            observation.begin(
                pipeline: pipelines[user.pipeline].name, stage: runner.name, node: configuration.id)
        }
        return runner
    }

    /// A host for each lane that has instances here, or may have some later: other nodes find them by name.
    func registerHosts(_ lanes: [PlacedLane]) async {
        let system = inbox.actorSystem
        for (index, pipeline) in pipelines.enumerated() {
            for lane in pipeline.lanes.indices {
                let user = LanePlan.User(pipeline: index, lane: lane)
                let place = lanes.first { $0.plan.users.contains(user) }
                guard configuration.isClustered || place?.running != nil else { continue }
                _ = await system.named(StageHost.name(pipeline: pipeline, lane: lane), exportedTo: .nodes) { [inbox] in
                    StageHost(
                        lane: { [weak inbox] in inbox?.assumeIsolated { $0.instances(of: user) } },
                        check: pipeline.lanes[lane].check, actorSystem: system)
                }
            }
        }
    }
}
