// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
public import FlockWire

// A lane is a run of steps that share instances: each step awaits the next, so a batch crosses it without a queue, a
// copy or a change of thread. A pipeline is a list of lanes; between two lanes, items are encoded and may change node.

/// What enters a lane: items from a frame, or a batch of a bounded job (a `Batch` of the lane's input type).
@usableFromInline
enum LaneInput: Sendable {
    case encoded(ItemBuffer)
    case batch(any Sendable)
}

/// The typed steps of one instance of a lane, composed.
@usableFromInline
typealias Step<Output: Sendable> = @Sendable (LaneInput) async throws -> Batch<Output>

/// What leaves a lane that was fed with encoded items.
struct LaneOutput: Sendable {
    /// The items that were not filtered.
    var items: ItemBuffer
    /// Per item its index in the input; nil = none was filtered.
    var origins: [Int32]?
}

typealias EncodedStep = @Sendable (LaneInput) async throws -> LaneOutput

/// What the stages of one instance are made with.
@usableFromInline
struct InstanceContext: Sendable {
    @usableFromInline let system: FlockSystem
    let node: NodeContext
    /// Instances of the lane on this node.
    let instances: Int
}

/// Where and how a lane runs, and how its instances are made.
struct LaneDefinition: Sendable {
    var shape: LaneShape
    var makeStep: @Sendable (InstanceContext) async throws -> EncodedStep
    /// Refuses items that the lane's input type cannot be.
    var check: @Sendable (ItemBuffer) throws(FlockError) -> Void
}

/// The declared part of a lane.
struct LaneShape: Sendable {
    var stages: [String] = []
    var batch = BatchPolicy.drain
    var instances = Instances.perCore
    /// Batches that one instance has under way at once; more than one where something outside works on them.
    var window = 1
    /// No stage has said yet how it wants to be batched and placed.
    var isOpen = true

    var name: String { stages.isEmpty ? "pass" : stages.joined(separator: "+") }
}
