// Flockwork · Apache-2.0 · see LICENSE

import Distributed
public import Flockwork

/// The first stage: a distributed actor that sees a batch of rows at a time.
public distributed actor Normalize: RowStage {
    // None: the rows are normalised already.
    private let normalization: Normalization?

    /// A stage that hands the rows on as they are.
    public init(actorSystem: FlockSystem) {
        self.actorSystem = actorSystem
        normalization = nil
    }

    /// A stage that normalises, with parameters that all instances of a node share.
    public init(_ normalization: Normalization, actorSystem: FlockSystem) {
        self.actorSystem = actorSystem
        self.normalization = normalization
    }

    public distributed func process(_ rows: Rows<Float>) async throws -> Rows<Float> {
        try normalization?.apply(to: rows) ?? rows
    }
}
