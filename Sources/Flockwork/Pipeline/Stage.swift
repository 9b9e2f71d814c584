// Flockwork · Apache-2.0 · see LICENSE

public import Distributed
public import FlockActors
public import FlockWire

// A stage is a distributed actor with one method that takes a batch. Each instance handles one batch at a time, so its
// state needs no lock; how many instances run, and where, is declared where the pipeline is composed.

/// A step of a pipeline that takes items one batch at a time.
///
///     distributed actor Shorten: Stage {
///         distributed func process(_ batch: [String]) async throws -> [String] { batch.map { String($0.prefix(80)) } }
///     }
///
/// `process` returns as many outputs as it got items, in their order. If it throws, or returns another number, the
/// batch is halved and tried again until the items that cause it are found; only those fail. So it may see an item more
/// than once.
public protocol Stage<Input, Output>: DistributedActor where ActorSystem == FlockSystem {
    associatedtype Input: Codable & Sendable
    associatedtype Output: Codable & Sendable
    distributed func process(_ batch: [Input]) async throws -> [Output]
}

/// A step of a pipeline over rows of numbers, without an allocation per item.
///
/// `process` returns as many rows as it got, of any width. Otherwise as `Stage`.
public protocol RowStage: DistributedActor where ActorSystem == FlockSystem {
    distributed func process(_ rows: Rows<Float>) async throws -> Rows<Float>
}
