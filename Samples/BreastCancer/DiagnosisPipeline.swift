// Flockwork · Apache-2.0 · see LICENSE

public import Flockwork

/// The models that the sample ships, all trained on the same rows by recipe/train.py.
public enum DiagnosisModel: String, CaseIterable, Sendable {
    /// Logistic regression of scikit-learn, scored in Swift: needs no library.
    case logistic
    /// 40 trees of XGBoost, scored by XGBoost in process.
    case xgboost
    /// A small neural network of scikit-learn, exported as ONNX and scored by ONNX Runtime in process.
    case onnx

    /// The model's file, and what runs it.
    public var source: ModelSource {
        switch self {
        case .logistic: .linear(SampleFile.model.path)
        case .xgboost: .xgboost(SampleFile.xgboostModel.path)
        case .onnx: .onnx(SampleFile.onnxModel.path, output: "probabilities")
        }
    }

    /// What the library that trained the model predicts for every row.
    var reference: SampleFile {
        switch self {
        case .logistic: .reference
        case .xgboost: .xgboostReference
        case .onnx: .onnxReference
        }
    }
}

/// `normalize` (a stage in Swift) → model (trained in Python) → verdict.
///
/// The parameters of the stage are read once per node and shared by its instances.
public func diagnosisPipeline(
    model: DiagnosisModel = .logistic, batch: BatchPolicy = .upTo(1024), instances: Instances = .perCore
) -> Pipeline<Row, Verdict> {
    let rows = Pipeline("diagnosis", rowsOf: Dataset.width)
        .stage(
            sharing: { _ in try Normalization(path: SampleFile.normalization.path) }, batch: batch,
            instances: instances
        ) { normalization, system in Normalize(normalization, actorSystem: system) }
    // A classifier from scikit-learn gives the probability of each class, the others that of the second one only.
    return switch model {
    case .logistic, .xgboost: rows.model(model.source).map { Verdict(probability: $0) }
    case .onnx: rows.model(model.source, outputs: 2).map { Verdict(probability: $0.values[1]) }
    }
}
