// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
public import FlockActors
public import FlockModels
public import FlockWire

// Each step is one closure around the one before it. `map` and `filter` are inlined into the user's module, so that
// their loops are compiled for the user's types.

extension Pipeline {
    /// Hands batches to an actor; `make` makes one for each instance.
    ///
    ///     .stage(Featurize.init)
    public func stage<S: Stage>(
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil,
        _ make: @escaping @Sendable (FlockSystem) throws -> S
    ) -> Pipeline<Input, S.Output> where S.Input == Output {
        stage(String(describing: S.self), batch: batch, instances: instances, labels: labels, thread: thread) {
            context in
            try make(context.system)
        }
    }

    /// Hands batches to an actor that needs something first: `sharing` makes it, once a node.
    public func stage<S: Stage, Shared: Sendable>(
        sharing makeShared: @escaping @Sendable (NodeContext) async throws -> Shared,
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil,
        _ make: @escaping @Sendable (Shared, FlockSystem) async throws -> S
    ) -> Pipeline<Input, S.Output> where S.Input == Output {
        let name = String(describing: S.self)
        let key = key(name)
        return stage(name, batch: batch, instances: instances, labels: labels, thread: thread) { context in
            let node = context.node
            return try await make(try await node.shared(key) { try await makeShared(node) }, context.system)
        }
    }

    private func stage<S: Stage>(
        _ name: String, batch: BatchPolicy?, instances: Instances?, labels: [String]?, thread: StageThread?,
        make: @escaping @Sendable (InstanceContext) async throws -> S
    ) -> Pipeline<Input, S.Output> where S.Input == Output {
        let base = lane(batch: batch, instances: instances, labels: labels, thread: thread)
        return base.appending(name) { [makeStep = base.makeStep] context in
            let previous = try await makeStep(context)
            let stage = try await context.once(base.key(name)) { try await make(context) }
            if thread == .own { context.needsThread(name) }
            return { input in
                let batch = try await previous(input)
                guard batch.count > 0 else { return batch.replacing([S.Output]()) }
                let outputs = try await stage.process(batch.items)
                try Self.checkCount(outputs.count, of: batch.count, stage: name)
                return batch.replacing(outputs)
            }
        }
    }

    /// A name for what the instances of the next step share on a node.
    func key(_ step: String) -> String {
        let lane = shape.shared.map { "shared/\($0.name)" } ?? "\(name)/\(closed.count)"
        return "\(lane)/\(shape.stages.count)/\(step)"
    }

    private static func checkCount(_ count: Int, of expected: Int, stage: String) throws(FlockError) {
        guard count == expected else {
            throw FlockError(
                .badBatch, "The stage returned \(count) results for \(expected) items; it must return one each.",
                stage: stage)
        }
    }

    /// Changes each item. The closure runs inside the lane, once an item, and must not block.
    @inlinable
    public func map<New: Sendable>(_ transform: @escaping @Sendable (Output) throws -> New) -> Pipeline<Input, New> {
        appending(nil) { [makeStep] context in
            let previous = try await makeStep(context)
            return { input in try await previous(input).mapped(transform) }
        }
    }

    /// Keeps the items for which `keep` says so. The others end with the outcome `filtered`.
    @inlinable
    public func filter(_ keep: @escaping @Sendable (Output) throws -> Bool) -> Pipeline<Input, Output> {
        appending(nil) { [makeStep] context in
            let previous = try await makeStep(context)
            return { input in try await previous(input).filtered(keep) }
        }
    }
}

extension Pipeline where Output == Row {
    /// Hands rows to an actor; `make` makes one for each instance.
    public func stage<S: RowStage>(
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil,
        _ make: @escaping @Sendable (FlockSystem) throws -> S
    ) -> Pipeline<Input, Row> {
        rowStage(String(describing: S.self), batch: batch, instances: instances, labels: labels, thread: thread) {
            context in
            try make(context.system)
        }
    }

    /// Hands rows to an actor that needs something first: `sharing` makes it, once a node.
    public func stage<S: RowStage, Shared: Sendable>(
        sharing makeShared: @escaping @Sendable (NodeContext) async throws -> Shared,
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil,
        _ make: @escaping @Sendable (Shared, FlockSystem) async throws -> S
    ) -> Pipeline<Input, Row> {
        let name = String(describing: S.self)
        let key = key(name)
        return rowStage(name, batch: batch, instances: instances, labels: labels, thread: thread) { context in
            let node = context.node
            return try await make(try await node.shared(key) { try await makeShared(node) }, context.system)
        }
    }

    private func rowStage<S: RowStage>(
        _ name: String, batch: BatchPolicy?, instances: Instances?, labels: [String]?, thread: StageThread?,
        make: @escaping @Sendable (InstanceContext) async throws -> S
    ) -> Pipeline<Input, Row> {
        let base = lane(batch: batch, instances: instances, labels: labels, thread: thread)
        return base.appending(name) { [makeStep = base.makeStep] context in
            let previous = try await makeStep(context)
            let stage = try await context.once(base.key(name)) { try await make(context) }
            if thread == .own { context.needsThread(name) }
            return { input in
                let batch = try await previous(input)
                guard batch.count > 0 else { return batch }
                let outputs = try await stage.process(batch.rows())
                try Self.checkCount(outputs.count, of: batch.count, stage: name)
                return batch.replacing(rows: outputs, as: Row.self)
            }
        }
    }

    /// Scores rows with a model that gives one number a row.
    public func model(
        _ source: ModelSource, batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil
    ) -> Pipeline<Input, Float> {
        scored(
            by: source, outputs: 1, batch: batch, instances: instances, labels: labels, thread: thread, as: Float.self)
    }

    /// Scores rows with a model that gives `outputs` numbers a row.
    public func model(
        _ source: ModelSource, outputs: Int, batch: BatchPolicy? = nil, instances: Instances? = nil,
        labels: [String]? = nil, thread: StageThread? = nil
    ) -> Pipeline<Input, Row> {
        scored(
            by: source, outputs: outputs, batch: batch, instances: instances, labels: labels, thread: thread,
            as: Row.self)
    }

    private func scored<New: Sendable>(
        by source: ModelSource, outputs: Int, batch: BatchPolicy?, instances: Instances?, labels: [String]?,
        thread: StageThread?,
        as type: New.Type
    ) -> Pipeline<Input, New> {
        let base = lane(batch: batch, instances: instances, labels: labels, thread: thread)
        return base.appending(source.name) { [makeStep = base.makeStep] context in
            let previous = try await makeStep(context)
            let instance = try await context.instance(
                of: source, outputs: outputs, key: base.key(source.name), thread: thread)
            return { input in
                let batch = try await previous(input)
                guard batch.count > 0 else { return batch.replacing([New]()) }
                return batch.replacing(rows: try await instance.score(batch.rows()), as: New.self)
            }
        }
    }
}

extension Pipeline {
    /// Scores one part of each item, and makes something of the item and its score.
    ///
    ///     .score(.linear("churn.json"), on: \.features) { customer, score in Churn(id: customer.id, risk: score) }
    public func score<New: Sendable>(
        _ source: ModelSource, on features: any KeyPath<Output, Row> & Sendable,
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        thread: StageThread? = nil,
        _ combine: @escaping @Sendable (Output, Float) throws -> New
    ) -> Pipeline<Input, New> where Output: Codable {
        let base = lane(batch: batch, instances: instances, labels: labels, thread: thread)
        return base.appending(source.name) { [makeStep = base.makeStep] context in
            let previous = try await makeStep(context)
            let instance = try await context.instance(
                of: source, outputs: 1, key: base.key(source.name), thread: thread)
            return { input in
                let batch = try await previous(input)
                guard batch.count > 0 else { return batch.replacing([New]()) }
                let items = batch.items
                let rows = try Batch(items.map { $0[keyPath: features] }).rows()
                let scores = try await instance.score(rows)
                return batch.replacing(
                    try scores.withElements { scores in
                        try items.indices.map { try combine(items[$0], scores[$0]) }
                    })
            }
        }
    }
}

extension InstanceContext {
    /// An instance of a model that the node loads once. `thread` overrides what the model says of itself.
    func instance(
        of source: ModelSource, outputs: Int, key: String, thread: StageThread?
    ) async throws -> ModelInstance {
        let model = try await node.shared(key) { try await source.load() }
        if (thread ?? (model.isBlocking ? .own : .pool)) == .own {
            needsThread(String(describing: type(of: model)))
        }
        guard model.outputWidth == outputs else {
            throw FlockError(
                .modelLoadFailed,
                "The model \(source.name) gives \(model.outputWidth) numbers a row, the pipeline expects \(outputs).",
                stage: source.name)
        }
        return try await once(key) { ModelInstance(model, name: source.name, actorSystem: system) }
    }
}
