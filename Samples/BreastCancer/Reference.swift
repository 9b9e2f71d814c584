// Flockwork · Apache-2.0 · see LICENSE

// The predictions for every row by the library that trained the model (scikit-learn, XGBoost), made by recipe/train.py:
// what the demo compares each answer with.

public import Flockwork

/// The expected verdicts.
public struct Reference: Sendable {
    /// How far a probability may be from the reference: scikit-learn computes in 64 bits where the pipeline has 32.
    public static let tolerance = 1e-6

    public let labels: [Diagnosis]
    /// Probability of `benign`.
    public let probabilities: [Double]

    /// Reads lines of `row,label,probability` under a line with these names.
    ///
    /// Throws `invalidInput`, naming the file, the line and the column.
    public init(csv path: String) throws(FlockError) {
        try self.init(CSVFile(path: path))
    }

    init(_ file: CSVFile) throws(FlockError) {
        guard try file.fields(0, count: 3) == ["row", "label", "probability"] else {
            throw file.error(0, nil, "the first line must be row,label,probability")
        }
        var labels: [Diagnosis] = []
        var probabilities: [Double] = []
        for line in file.lines.indices.dropFirst() {
            let fields = try file.fields(line, count: 3)
            _ = try file.count(fields[0], line, 0, in: line - 1...line - 1)
            guard let label = Diagnosis(rawValue: String(fields[1])) else {
                throw file.error(line, 1, "\"\(fields[1].prefix(40))\" is no diagnosis")
            }
            labels.append(label)
            probabilities.append(try file.number(fields[2], line, 2))
        }
        self.labels = labels
        self.probabilities = probabilities
    }

    /// The predictions of a model for the data set of this sample.
    public static func bundled(for model: DiagnosisModel = .logistic) throws(FlockError) -> Reference {
        try Reference(csv: model.reference.path)
    }

    /// The verdict on a row of the data set is the reference's.
    public func agrees(with verdict: Verdict, row: Int) -> Bool {
        verdict.label == labels[row]
            && abs(Double(verdict.probability) - probabilities[row]) <= Self.tolerance
    }
}
