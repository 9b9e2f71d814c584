// Flockwork · Apache-2.0 · see LICENSE

import Distributed
public import Flockwork

/// The first stage: a distributed actor that sees a batch of rows at a time.
public distributed actor Normalize: RowStage {
    private let normalization: Normalization

    public init(_ normalization: Normalization, actorSystem: FlockSystem) {
        self.normalization = normalization
        self.actorSystem = actorSystem
    }

    public distributed func process(_ rows: Rows<Float>) async throws -> Rows<Float> {
        try normalization.apply(to: rows)
    }
}
