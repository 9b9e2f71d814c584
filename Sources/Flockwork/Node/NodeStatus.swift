// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What a node is doing, as an operator or a progress line wants to know it.
public struct NodeStatus: Codable, Sendable {
    public var node: NodeID
    /// Requests that this node's partitions accepted, and outcomes that they committed, since the start.
    public var accepted: UInt64
    public var completed: UInt64
    /// Of those outcomes, the failures.
    public var failed: UInt64
    /// Refusals before acceptance.
    public var refused: UInt64
    /// Accepted requests without an outcome.
    public var openRequests: Int
    /// Bytes that open requests and kept outcomes occupy or have reserved.
    public var openBytes: Int
    public var sessions: Int
    /// The nodes that it is connected to.
    public var peers: [NodeID]
    public var stages: [StageStatus]
    /// Processes that it runs for stages.
    public var children: [ChildStatus] = []
    /// What it serves.
    public var pipelines: [PipelineState] = []
    /// Its view, where members come and go; nil elsewhere, and before there is one.
    public var cluster: ClusterStatus?
}

/// A pipeline that a node serves.
public struct PipelineState: Codable, Sendable, Equatable {
    public var name: String
    /// What goes in and comes out, in words; nil if only a program with the pipeline's own Swift types can call it.
    public var form: String?
    /// An operator has suspended it: nothing new is accepted.
    public var isSuspended: Bool
    /// Why requests wait, in words: its stages that have no instances on any node, as far as this node knows.
    public var unplaced: [String] = []
}

/// A process that a node runs for a stage.
public struct ChildStatus: Codable, Sendable, Equatable {
    /// Which step of which pipeline.
    public var pipeline: String
    public var stage: String
    /// Its number among those of its stage since the start; names it in the log.
    public var number: Int
    /// 0 when it is not started yet.
    public var process: Int32
    /// `starting`, `serving`, `spare`, `quarantine`, `draining`, `hung` or `ended`.
    public var state: String
    /// Batches and items that it answered, and the time that it worked on them.
    public var batches: UInt64
    public var items: UInt64
    public var busyNanoseconds: UInt64
    /// Times that a process of this stage had to be started in the place of one that ended.
    public var restarts: UInt64
    /// The last that went wrong in this stage's processes, without paths; empty if nothing has.
    public var lastError: String
    /// Memory that is its own or shared, in use.
    public var residentBytes: UInt64
    /// Since its last answered batch; nil before the first.
    public var idleNanoseconds: UInt64?

    package init(
        pipeline: String, stage: String, number: Int, process: Int32, state: String, batches: UInt64, items: UInt64,
        busyNanoseconds: UInt64, restarts: UInt64, lastError: String, residentBytes: UInt64, idleNanoseconds: UInt64?
    ) {
        self.pipeline = pipeline
        self.stage = stage
        self.number = number
        self.process = process
        self.state = state
        self.batches = batches
        self.items = items
        self.busyNanoseconds = busyNanoseconds
        self.restarts = restarts
        self.lastError = lastError
        self.residentBytes = residentBytes
        self.idleNanoseconds = idleNanoseconds
    }
}

/// What the instances of a lane on one node did since the start.
public struct StageStatus: Codable, Sendable {
    public var pipeline: String
    public var stage: String
    public var instances: Int
    /// Items that wait for a free instance.
    public var waiting: Int
    public var batches: UInt64
    public var items: UInt64
    /// Batches that threw and were halved.
    public var bisected: UInt64
    /// Time in the stages, and time that the oldest item of each batch waited before, summed.
    public var busyNanoseconds: UInt64
    public var waitedNanoseconds: UInt64
    /// Batches by size: element b counts those of 2^b ..< 2^(b+1) items.
    public var batchSizes: [UInt64]
}
