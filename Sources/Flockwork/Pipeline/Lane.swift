// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
public import FlockWire
internal import Synchronization

// A lane is a run of steps that share instances: each step awaits the next, so a batch crosses it without a queue, a
// copy or a change of thread. A pipeline is a list of lanes; between two lanes, items are encoded and may change node.

/// What enters a lane: items from a frame, of one of the pipelines that share the lane, or a batch of a bounded
/// job (a `Batch` of the lane's input type).
@usableFromInline
enum LaneInput: Sendable {
    case encoded(ItemBuffer, flow: Int = 0)
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
    /// Instances of the lane on this node, without their window.
    var instances: Int
    /// What it has in common with other pipelines; nil where the lane is not shared.
    var shared: SharedInstance?
    /// The name for a thread of the instance's own, once one of its steps has asked for it.
    private let wish = Wish()

    init(system: FlockSystem, node: NodeContext, instances: Int) {
        self.system = system
        self.node = node
        self.instances = instances
    }

    private final class Wish: Sendable {
        let name = Mutex<String?>(nil)
        let executor = Mutex<(any TaskExecutor)?>(nil)
    }

    var threadName: String? { wish.name.withLock { $0 } }

    /// Where small batches are best run, if one of the steps has said so.
    var executor: (any TaskExecutor)? { wish.executor.withLock { $0 } }

    /// The instance is to run on a thread of its own. The first step that asks gives it its name.
    func needsThread(_ name: String) {
        wish.name.withLock { $0 = $0 ?? name }
    }

    /// The step has next to nothing to do itself, and its answers come on the thread of `executor`: a lane of this step
    /// alone does well to be there.
    func prefers(_ executor: any TaskExecutor) { wish.executor.withLock { $0 = executor } }
}

/// An instance that was made and not started yet.
struct LaneInstance: Sendable {
    var step: EncodedStep
    /// Nil: it runs on Swift's pool.
    var threadName: String?
    /// Small batches run there, where there is no thread of its own.
    var executor: (any TaskExecutor)?
}

/// Where and how a lane runs, and how its instances are made.
struct LaneDefinition: Sendable {
    var shape: LaneShape
    var makeStep: @Sendable (InstanceContext) async throws -> EncodedStep
    /// Refuses items that the lane's input type cannot be.
    var check: @Sendable (ItemBuffer) throws(FlockError) -> Void

    func makeInstance(system: FlockSystem, node: NodeContext, instances: Int) async throws -> LaneInstance {
        let context = InstanceContext(system: system, node: node, instances: instances)
        let step = try await makeStep(context)
        return LaneInstance(
            step: step, threadName: context.threadName, executor: shape.steps == 1 ? context.executor : nil)
    }
}

/// The declared part of a lane.
struct LaneShape: Sendable {
    var stages: [String] = []
    /// With those that have no name.
    var steps = 0
    var batch = BatchPolicy.drain
    var instances = Instances.perCore
    /// What a node must have for them, ascending.
    var labels: [String] = []
    /// Where its stages said that they run; nil: as their models need.
    var thread: StageThread?
    /// Batches that one instance has under way at once; more than one where something outside works on them.
    var window = 1
    /// No stage has said yet how it wants to be batched and placed.
    var isOpen = true
    /// The lane's instances are also other pipelines'.
    var shared: SharedLane?
    /// This pipeline's part of them.
    var weight = 1

    var name: String { stages.isEmpty ? "pass" : stages.joined(separator: "+") }

    /// What else all nodes must agree on, to work out alike where the instances are; often empty.
    var placeText: String {
        (labels.isEmpty ? "" : "#" + labels.joined(separator: ",")) + (shared.map { "~" + $0.name } ?? "")
    }
}
