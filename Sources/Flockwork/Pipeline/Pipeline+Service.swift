// Flockwork · Apache-2.0 · see LICENSE

// The way in for steps that other targets of this package add (Python, remote services): a step that hands whole
// batches to something that all instances on a node share.

/// What a service of a node is made with.
package struct SharedContext: Sendable {
    /// The node.
    package let node: NodeContext
    /// Instances of the step on this node, without their window.
    package let instances: Int
    /// For status and metrics.
    package let pipeline: String
    package let stage: String
}

extension Pipeline where Output: Codable {
    /// Hands batches, `window` at a time for each instance, to what `open` makes once a node and `key`. `call` is given
    /// no empty batch, and returns as many results as the batch has items, in their places. Small batches are coded
    /// where `executor` of the service says, if the lane has no other step.
    package func service<Service: Sendable, New: Sendable>(
        _ name: String, key identity: String, batch: BatchPolicy?, instances: Instances?, labels: [String]? = nil,
        window: Int,
        open: @escaping @Sendable (SharedContext) async throws -> Service,
        executor: @escaping @Sendable (Service) -> (any TaskExecutor)?,
        call: @escaping @Sendable (Service, Batch<Output>) async throws -> Batch<New>
    ) -> Pipeline<Input, New> {
        var base = self
        if shape.shared != nil, shape.stages.isEmpty, batch == nil, instances == nil, labels == nil {
            // The first step of a shared lane: it stays there.
            base.shape.window = window
        } else {
            base = lane(batch: batch, instances: instances, labels: labels, thread: nil, window: window)
        }
        let key = base.key(identity)
        return base.appending(name) { [makeStep = base.makeStep, pipeline = self.name] context in
            let previous = try await makeStep(context)
            let service = try await context.node.shared(key) {
                try await open(
                    SharedContext(
                        node: context.node, instances: context.instances, pipeline: pipeline, stage: name))
            }
            if let executor = executor(service) { context.prefers(executor) }
            return { input in
                let batch = try await previous(input)
                guard batch.count > 0 else { return batch.replacing([New]()) }
                return try await call(service, batch)
            }
        }
    }
}
