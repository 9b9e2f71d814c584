// Flockwork · Apache-2.0 · see LICENSE

public import Flockwork

/// `normalize` (a stage in Swift) → model (weights trained by scikit-learn) → verdict.
///
/// The parameters of the stage are read once per node and shared by its instances.
public func diagnosisPipeline(
    batch: BatchPolicy = .upTo(1024), instances: Instances = .perCore
) -> Pipeline<Row, Verdict> {
    Pipeline("diagnosis", rowsOf: Dataset.width)
        .stage(
            sharing: { _ in try Normalization(path: SampleFile.normalization.path) }, batch: batch,
            instances: instances
        ) { normalization, system in Normalize(normalization, actorSystem: system) }
        .model(.linear(SampleFile.model.path))
        .map { Verdict(probability: $0) }
}
