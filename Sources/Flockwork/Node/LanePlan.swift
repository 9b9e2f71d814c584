// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockWire

// Which lanes of which pipelines run on the same instances. Pure: the node makes them.

/// A lane's instances on a node, and the pipelines that use them.
struct LanePlan: Sendable {
    /// A pipeline's lane, by their numbers.
    struct User: Sendable, Hashable {
        var pipeline: Int
        var lane: Int
    }

    /// One, unless the lane is shared. Their order is that of the flows.
    var users: [User]
    var shape: LaneShape
    /// Where instances of it run, the same on all nodes.
    var placement: StagePlacement
    /// Of this node, so many.
    var instances: Int
    var weights: [Int]

    /// The plans of a node, in the order in which pipelines and lanes come.
    ///
    /// - Throws: `FlockError` (`invalidInput`) where pipelines disagree about a lane that they share, or one asks for
    ///   what no node can be.
    static func all(
        _ pipelines: [PipelineDefinition], instances: (_ placement: StagePlacement) -> Int
    ) throws(FlockError) -> [LanePlan] {
        var plans: [LanePlan] = []
        var shared: [String: Int] = [:]
        for (index, pipeline) in pipelines.enumerated() {
            for (lane, definition) in pipeline.lanes.enumerated() {
                let shape = definition.shape
                let user = User(pipeline: index, lane: lane)
                if let name = shape.shared?.name, let plan = shared[name] {
                    try check(shape, plans[plan].shape, pipeline.name, pipelines[plans[plan].users[0].pipeline].name)
                    plans[plan].users.append(user)
                    plans[plan].weights.append(shape.weight)
                    continue
                }
                let place = shape.shared.map { "shared/\($0.name)" } ?? "\(pipeline.name)/\(lane)"
                if let name = shape.shared?.name { shared[name] = plans.count }
                let placement = StagePlacement(
                    name: place, instances: shape.instances, labels: try NodeLabels.checked(shape.labels))
                plans.append(
                    LanePlan(
                        users: [user], shape: shape, placement: placement, instances: instances(placement),
                        weights: [shape.weight]))
            }
        }
        return plans
    }

    /// What the core has to know of a node's plans.
    static func stagePlan(_ plans: [LanePlan], of pipelines: [PipelineDefinition], cores: Int) -> StagePlan {
        var lanes = pipelines.map { $0.lanes.map { _ in 0 } }
        for (stage, plan) in plans.enumerated() {
            for user in plan.users { lanes[user.pipeline][user.lane] = stage }
        }
        return StagePlan(stages: plans.map(\.placement), pipelines: lanes, cores: cores)
    }

    /// The same with so many instances on this node.
    func with(_ instances: Int) -> LanePlan {
        var plan = self
        plan.instances = instances
        return plan
    }

    /// What makes an instance: the step of each user, around stages that they have in common.
    func instanceFactory(
        of pipelines: [PipelineDefinition], system: FlockSystem, node: NodeContext
    ) -> LaneRunner.InstanceFactory {
        let lanes = users.map { pipelines[$0.pipeline].lanes[$0.lane] }
        let count = instances
        if lanes.count == 1 {
            return { try await lanes[0].makeInstance(system: system, node: node, instances: count) }
        }
        return {
            var context = InstanceContext(system: system, node: node, instances: count)
            context.shared = SharedInstance()
            var steps: [EncodedStep] = []
            for lane in lanes { steps.append(try await lane.makeStep(context)) }
            let step: EncodedStep = { [steps] input in
                guard case .encoded(_, let flow) = input else { preconditionFailure("a job in a shared lane") }
                return try await steps[flow](input)
            }
            let executor = lanes.allSatisfy { $0.shape.steps == 1 } ? context.executor : nil
            return LaneInstance(step: step, threadName: context.threadName, executor: executor)
        }
    }

    private static func check(
        _ left: LaneShape, _ right: LaneShape, _ leftPipeline: String, _ rightPipeline: String
    ) throws(FlockError) {
        let name = right.shared?.name ?? ""
        guard left.shared == right.shared else {
            throw FlockError(
                .invalidInput,
                "The pipelines \(rightPipeline) and \(leftPipeline) give the lane \(name) different "
                    + "batches or instances; use one SharedLane for both.")
        }
        guard left.stages == right.stages else {
            throw FlockError(
                .invalidInput,
                "The pipelines \(rightPipeline) and \(leftPipeline) share the lane \(name), but one "
                    + "runs \(right.name) in it and the other \(left.name).")
        }
    }
}
