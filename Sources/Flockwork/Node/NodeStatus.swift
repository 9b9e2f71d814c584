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
