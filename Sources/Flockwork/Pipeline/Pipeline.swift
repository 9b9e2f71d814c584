// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
public import FlockWire

// A pipeline is a value: composing it starts nothing. Types are checked where it is composed; inside, each lane is one
// closure from a batch to a batch, made anew for every instance.

/// A recipe for handling requests: stages, models and small closures, one after another.
///
///     let pipeline = Pipeline("breast-cancer", rowsOf: 30)
///         .stage(Normalize.init)
///         .model(.linear("model.json"))
///         .map { Verdict(malignant: $0 < 0.5) }
///
/// Steps follow each other within a *lane*, sharing its instances; a step that states a `batch:`, `instances:`,
/// `labels:` or `thread:` of its own begins a new lane. All nodes of a cluster run the same program, so closures never
/// cross the wire.
public struct Pipeline<Input: Sendable, Output: Sendable>: Sendable {
    /// The name that clients ask for.
    public let name: String
    let closed: [LaneDefinition]
    var shape: LaneShape
    let check: @Sendable (ItemBuffer) throws(FlockError) -> Void
    @usableFromInline let makeStep: @Sendable (InstanceContext) async throws -> Step<Output>
    let types: [String]
    let inputWidth: Int?
    /// Where requests and outcomes are kept.
    @usableFromInline var group = PartitionGroup.replicated

    init(
        name: String, closed: [LaneDefinition], shape: LaneShape, types: [String], inputWidth: Int?,
        check: @escaping @Sendable (ItemBuffer) throws(FlockError) -> Void,
        makeStep: @escaping @Sendable (InstanceContext) async throws -> Step<Output>
    ) {
        self.name = name
        self.closed = closed
        self.shape = shape
        self.types = types
        self.inputWidth = inputWidth
        self.check = check
        self.makeStep = makeStep
    }

    /// The same lane, one step longer.
    @usableFromInline
    func appending<New: Sendable>(
        _ name: String?, _ make: @escaping @Sendable (InstanceContext) async throws -> Step<New>
    ) -> Pipeline<Input, New> {
        var shape = shape
        shape.steps += 1
        if let name { shape.stages.append(name) }
        var longer = Pipeline<Input, New>(
            name: self.name, closed: closed, shape: shape,
            types: types + ["\(name ?? "closure"):\(RecordLayout.name(of: New.self))"], inputWidth: inputWidth,
            check: check,
            makeStep: make)
        longer.group = group
        return longer
    }
}

extension Pipeline where Input == Output, Input: Codable {
    /// A pipeline of values, each encoded by itself.
    public init(_ name: String, of type: Input.Type) {
        self.init(name, codec: ItemCodec<Input>(), inputWidth: nil)
    }

    private init(_ name: String, codec: ItemCodec<Input>, inputWidth: Int?) {
        self.init(
            name: name, closed: [], shape: LaneShape(), types: [RecordLayout.name(of: Input.self)],
            inputWidth: inputWidth,
            check: { (items) throws(FlockError) in try codec.check(items) },
            makeStep: { _ in { try codec.enter($0) } })
    }
}

extension Pipeline where Input == Row, Output == Row {
    /// A pipeline of rows of `width` floats, which lie one after another in one buffer.
    public init(_ name: String, rowsOf width: Int) {
        precondition(width > 0, "rows of \(width) floats")
        self.init(name, codec: ItemCodec<Row>(rowWidth: width), inputWidth: width)
    }
}

extension ItemCodec {
    /// The batch that enters a lane.
    func enter(_ input: LaneInput) throws -> Batch<Item> {
        switch input {
        case .encoded(let items, _): return try decode(items)
        case .batch(let batch):
            guard let batch = batch as? Batch<Item> else {
                preconditionFailure("a batch of another type than \(Item.self)")
            }
            return batch
        }
    }
}

extension Pipeline {
    /// The lane in which a step with these wishes goes: this one, or a new one behind it.
    ///
    /// The first stage of a lane decides for the lane; a later one with wishes of its own begins another.
    func lane(
        batch: BatchPolicy?, instances: Instances?, labels: [String]?, thread: StageThread?, window: Int = 1,
        rowWidth: Int? = nil
    ) -> Pipeline where Output: Codable {
        let labels = labels.map { Set($0).sorted() }
        let isAlike =
            (instances ?? shape.instances) == shape.instances && (labels ?? shape.labels) == shape.labels
            && (thread ?? shape.thread) == shape.thread && window == shape.window
        if shape.isOpen || (batch == nil && isAlike) {
            var pipeline = self
            pipeline.shape.batch = batch ?? shape.batch
            pipeline.shape.instances = instances ?? shape.instances
            pipeline.shape.labels = labels ?? shape.labels
            pipeline.shape.thread = thread ?? shape.thread
            pipeline.shape.window = window
            pipeline.shape.isOpen = false
            return pipeline
        }
        let codec = ItemCodec<Output>(rowWidth: rowWidth)
        let shape = LaneShape(
            batch: batch ?? .drain, instances: instances ?? .perCore, labels: labels ?? [], thread: thread,
            window: window, isOpen: false)
        var longer = Pipeline(
            name: name, closed: closed + [closing(with: ItemCodec<Output>())], shape: shape, types: types,
            inputWidth: inputWidth, check: { (items) throws(FlockError) in try codec.check(items) },
            makeStep: { _ in { try codec.enter($0) } })
        longer.group = group
        return longer
    }

    /// This pipeline's last lane, with encoded output.
    func closing(with codec: ItemCodec<Output>) -> LaneDefinition where Output: Codable {
        LaneDefinition(
            shape: shape,
            makeStep: { [makeStep] context in
                let step = try await makeStep(context)
                return { input in
                    let batch = try await step(input)
                    return LaneOutput(items: try codec.encode(batch), origins: batch.origins)
                }
            }, check: check)
    }
}

/// A pipeline whose requests and results can cross the wire, whatever their types.
public protocol ServablePipeline: Sendable {
    /// The name that clients ask for.
    var name: String { get }
    /// What the nodes of a cluster compare: the same name and fingerprint mean the same program.
    var fingerprint: UInt64 { get }
    /// For Flockwork itself.
    var definition: PipelineDefinition { get }
}

extension ServablePipeline {
    /// What callers without its Swift types send; nil if there is no such thing.
    public var form: PlainForm? { definition.form }
}

/// A pipeline without its types, as a node runs it.
public struct PipelineDefinition: Sendable {
    let name: String
    let fingerprint: UInt64
    /// Nil if its callers need its Swift types.
    let form: PlainForm?
    let group: PartitionGroup
    let lanes: [LaneDefinition]
}

extension Pipeline: ServablePipeline where Input: Codable, Output: Codable {
    public var fingerprint: UInt64 {
        let lanes = (closed.map { $0.shape } + [shape]).map { "\($0.name)@\($0.instances)\($0.placeText)" }
        let text = ([name, "\(inputWidth ?? 0)"] + types + lanes).joined(separator: "|")
        return ActorAddress(named: text, on: NodeID("")).key
    }

    public var definition: PipelineDefinition {
        PipelineDefinition(
            name: name, fingerprint: fingerprint,
            form: PlainForm(of: Input.self, width: inputWidth, returning: Output.self), group: group,
            lanes: closed + [closing(with: ItemCodec<Output>())])
    }

    var inputCodec: ItemCodec<Input> { ItemCodec(rowWidth: inputWidth) }
    var outputCodec: ItemCodec<Output> { ItemCodec() }
}
