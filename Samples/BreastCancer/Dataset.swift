// Flockwork · Apache-2.0 · see LICENSE

// Breast Cancer Wisconsin (Diagnostic): 569 rows of 30 features with what was found. Data/SOURCE.md says where it is
// from.

public import Flockwork
import Foundation

/// What a biopsy found.
public enum Diagnosis: String, Codable, Hashable, Sendable, CaseIterable {
    case malignant
    case benign
}

/// The data set: rows of features and the diagnosis of each.
public struct Dataset: Sendable {
    /// Features of a row.
    public static let width = 30

    public let rows: Rows<Float>
    public let diagnoses: [Diagnosis]

    /// Reads a file in scikit-learn's format: `rows,features,class 0,class 1`, then the features and the class of each.
    ///
    /// Throws `invalidInput`, naming the file, the line and the column.
    public init(csv path: String) throws(FlockError) {
        try self.init(CSVFile(path: path))
    }

    init(_ file: CSVFile) throws(FlockError) {
        let header = try file.fields(0, count: 2 + Diagnosis.allCases.count)
        let count = try file.count(header[0], 0, 0, in: 1...1_000_000)
        _ = try file.count(header[1], 0, 1, in: Self.width...Self.width)
        var classes: [Diagnosis] = []
        for (column, name) in header.enumerated().dropFirst(2) {
            guard let diagnosis = Diagnosis(rawValue: String(name)), !classes.contains(diagnosis) else {
                throw file.error(0, column, "\"\(name.prefix(40))\" is no diagnosis, or is there twice")
            }
            classes.append(diagnosis)
        }
        guard file.lines.count == count + 1 else {
            throw file.error(
                min(count + 1, file.lines.count), nil, "\(file.lines.count - 1) rows; the first line promises \(count)")
        }
        var elements: [Float] = []
        elements.reserveCapacity(count * Self.width)
        var diagnoses: [Diagnosis] = []
        for line in 1...count {
            let fields = try file.fields(line, count: Self.width + 1)
            for column in 0..<Self.width { elements.append(Float(try file.number(fields[column], line, column))) }
            let last = try file.count(fields[Self.width], line, Self.width, in: 0...classes.count - 1)
            diagnoses.append(classes[last])
        }
        rows = Rows(elements, width: Self.width)
        self.diagnoses = diagnoses
    }

    /// The data set of this sample.
    public static func bundled() throws(FlockError) -> Dataset {
        try Dataset(csv: SampleFile.data.path)
    }
}

/// The files that the sample ships.
public enum SampleFile: String, CaseIterable, Sendable {
    case data = "breast_cancer.csv"
    case normalization = "normalization.json"
    case model = "model.json"
    case reference = "expected.csv"
    case xgboostModel = "model-xgboost.json"
    case xgboostReference = "expected-xgboost.csv"
    case onnxModel = "model.onnx"
    case onnxReference = "expected-onnx.csv"

    /// Where it is. `FLOCKWORK_SAMPLE_DATA` names another folder, for a program that is moved without its resources.
    public var path: String {
        let folder = ProcessInfo.processInfo.environment["FLOCKWORK_SAMPLE_DATA"]
        return URL(fileURLWithPath: folder ?? Bundle.module.resourcePath.map { $0 + "/Data" } ?? "Data")
            .appendingPathComponent(rawValue).path
    }
}
