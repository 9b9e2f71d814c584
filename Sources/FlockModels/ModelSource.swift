// Flockwork · Apache-2.0 · see LICENSE

// A pipeline is declared before any node runs, so it names where its model comes from; each node loads it when it
// starts. Other targets (Python, gRPC, ONNX, …) add their own sources by extensions.

import Dispatch

/// Where a model comes from. Loaded once per node, at its start.
public struct ModelSource: Sendable {
    /// What errors, metrics and the dashboard call it.
    public let name: String
    private let make: @Sendable () async throws -> any Model

    /// A source that calls `load`, which should throw `FlockError(.modelLoadFailed)`.
    public init(name: String, load: @escaping @Sendable () async throws -> any Model) {
        self.name = name
        make = load
    }

    /// A source whose `load` reads files: blocking calls have no place on the cooperative pool.
    init(name: String, blocking load: @escaping @Sendable () throws -> any Model) {
        self.init(name: name) {
            try await withCheckedThrowingContinuation { continuation in
                DispatchQueue.global().async { continuation.resume(with: Result { try load() }) }
            }
        }
    }

    /// Loads the model.
    public func load() async throws -> any Model { try await make() }

    /// A linear model in the JSON format of `LinearModel`.
    public static func linear(_ path: String) -> ModelSource {
        ModelSource(name: "linear \(path)", blocking: { try LinearModel(path: path) })
    }

    /// A model written in Swift, as it is.
    public static func swift(_ model: any Model) -> ModelSource {
        ModelSource(name: "swift \(type(of: model))") { model }
    }
}
