// Flockwork · Apache-2.0 · see LICENSE

/// What the pipeline answers.
public struct Verdict: Codable, Hashable, Sendable {
    public var label: Diagnosis
    /// Probability of `benign`, 0 to 1.
    public var probability: Float

    public init(label: Diagnosis, probability: Float) {
        self.label = label
        self.probability = probability
    }

    /// The label of a probability: `benign` above one half.
    public init(probability: Float) {
        self.init(label: probability > 0.5 ? .benign : .malignant, probability: probability)
    }
}
