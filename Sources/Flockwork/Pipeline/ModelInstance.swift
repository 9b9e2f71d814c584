// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockModels
internal import FlockWire

/// One instance of a native model: an actor, so that it is placed and counted as every other stage.
///
/// The model itself is shared by all instances of a node; it is safe to call from several threads.
distributed actor ModelInstance {
    typealias ActorSystem = FlockSystem

    private let model: any Model
    private let name: String

    init(_ model: any Model, name: String, actorSystem: FlockSystem) {
        self.model = model
        self.name = name
        self.actorSystem = actorSystem
    }

    /// Scores rows of `inputWidth` floats; returns rows of `outputWidth`.
    distributed func score(_ rows: Rows<Float>) async throws -> Rows<Float> {
        let model = model
        guard rows.width == model.inputWidth || rows.count == 0 else {
            throw FlockError(
                .invalidInput, "The model takes rows of \(model.inputWidth) floats, not of \(rows.width).", stage: name)
        }
        return try Rows(count: rows.count, width: model.outputWidth) { scores in
            try model.score(rows, into: scores)
        }
    }
}
