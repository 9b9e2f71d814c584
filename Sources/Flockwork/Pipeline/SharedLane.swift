// Flockwork · Apache-2.0 · see LICENSE

public import FlockCluster
internal import FlockWire
internal import Synchronization

// Pipelines of one node that use the same model or stage: without more, each has instances of its own, and together
// they ask for more cores than there are. In a shared lane they take turns at one set of instances.

/// Instances that several pipelines use in turn.
///
///     let scorer = SharedLane("scorer", batch: .within(.milliseconds(20)), instances: .perNode(2))
///     let web = Pipeline("web", rowsOf: 16).on(scorer, weight: 4).model(.onnx("m.onnx")).map { $0 > 0.5 }
///     let nightly = Pipeline("nightly", rowsOf: 16).on(scorer).model(.onnx("m.onnx"))
///
/// A batch is of one pipeline. While several have work, each gets its part of the instances' time by its weight; what
/// one does not use is the others'. So a pipeline that is flooded delays its own requests, and not those of others.
public struct SharedLane: Sendable, Hashable {
    /// What the pipelines of a node share it by.
    public let name: String
    /// How each pipeline's requests are gathered.
    public let batch: BatchPolicy
    /// How many instances run, and where.
    public let instances: Instances
    /// What a node must have for them, ascending.
    public let labels: [String]
    /// Where they compute; nil = as their models need.
    public let thread: StageThread?

    /// Pipelines that name the same lane must give it the same batches and instances, and the same stages.
    public init(
        _ name: String, batch: BatchPolicy = .drain, instances: Instances = .perCore, labels: [String] = [],
        thread: StageThread? = nil
    ) {
        self.name = name
        self.batch = batch
        self.instances = instances
        self.labels = Set(labels).sorted()
        self.thread = thread
    }
}

extension Pipeline where Output: Codable {
    /// Runs what follows on the instances of a lane that other pipelines use too, up to the next step with a `batch:`,
    /// `instances:`, `labels:` or `thread:` of its own.
    ///
    /// The stages must be the same in all of them, each made once for an instance, by the pipeline that the node was
    /// given first; closures around them may differ. `weight` is this pipeline's part while others have work.
    public func on(_ shared: SharedLane, weight: Int = 1) -> Pipeline<Input, Output> {
        precondition((1...1000).contains(weight), "a weight of \(weight) on the lane \(shared.name)")
        var pipeline = lane(
            batch: shared.batch, instances: shared.instances, labels: shared.labels, thread: shared.thread)
        pipeline.shape.shared = shared
        pipeline.shape.weight = weight
        return pipeline
    }
}

/// What the pipelines of a shared lane have in common in one of its instances. While it is made, nobody else has it.
final class SharedInstance: Sendable {
    private let made = Mutex<[String: any Sendable]>([:])

    /// The value of that name: that of the first pipeline that asks.
    func once<Value: Sendable>(_ key: String, make: () async throws -> Value) async throws -> Value {
        if let value = made.withLock({ $0[key] }) {
            guard let value = value as? Value else {
                throw FlockError(.invalidInput, "Two pipelines that share a lane make \(key) of different types.")
            }
            return value
        }
        let value = try await make()
        made.withLock { $0[key] = value }
        return value
    }
}

extension InstanceContext {
    /// Makes a value, or takes that of another pipeline that shares this instance.
    func once<Value: Sendable>(_ key: String, make: () async throws -> Value) async throws -> Value {
        guard let shared else { return try await make() }
        return try await shared.once(key, make: make)
    }
}
