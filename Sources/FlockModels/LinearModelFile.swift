// Flockwork · Apache-2.0 · see LICENSE

// The JSON file of a linear model, small enough to be read by eye and written by any language:
//
//     { "format": "flockwork-linear", "version": 1, "link": "logistic",
//       "inputs": 2, "outputs": 1, "weights": [[0.5, -1.25]], "bias": [0.1] }
//
// `weights` has one list for each output. Unknown keys are allowed, so that a recipe may add names and sources.

public import FlockWire
import FoundationEssentials

private struct LinearModelFile: Decodable {
    static let format = "flockwork-linear"
    static let version = 1
    /// A file beyond this is no linear model that a JSON file should hold.
    static let largestBytes = 256 << 20

    let format: String
    let version: Int
    let link: String
    let inputs: Int
    let outputs: Int
    let weights: [[Double]]
    let bias: [Double]
}

extension LinearModel {
    /// Reads a model file.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong with it.
    public init(path: String) throws(FlockError) {
        do {
            try self.init(json: ModelFile.contents(of: path, atMost: LinearModelFile.largestBytes))
        } catch {
            throw FlockError(.modelLoadFailed, "linear model \(path): \(error.message)", cause: error.cause)
        }
    }

    /// Reads a model file's contents; `path` is not known here, so the messages do not name it.
    init(json: Data) throws(FlockError) {
        let file: LinearModelFile
        do {
            file = try JSONDecoder().decode(LinearModelFile.self, from: json)
        } catch let error as DecodingError {
            throw FlockError(.modelLoadFailed, Self.explanation(of: error), cause: error)
        } catch {
            throw FlockError(.modelLoadFailed, "not JSON: \(error)", cause: error)
        }
        guard file.format == LinearModelFile.format, file.version == LinearModelFile.version else {
            throw FlockError(
                .modelLoadFailed,
                "format \"\(file.format)\" version \(file.version); "
                    + "this reads \"\(LinearModelFile.format)\" version \(LinearModelFile.version)")
        }
        guard let link = Link(rawValue: file.link) else {
            let known = Link.allCases.map(\.rawValue).joined(separator: ", ")
            throw FlockError(.modelLoadFailed, "unknown link \"\(file.link)\"; there are \(known)")
        }
        guard file.weights.count == file.outputs, file.bias.count == file.outputs else {
            throw FlockError(
                .modelLoadFailed,
                "\(file.weights.count) lists of weights and \(file.bias.count) biases for \(file.outputs) outputs")
        }
        for (output, weights) in file.weights.enumerated() where weights.count != file.inputs {
            throw FlockError(
                .modelLoadFailed, "\(weights.count) weights of output \(output) for \(file.inputs) inputs")
        }
        try self.init(
            weights: file.weights.flatMap { $0.map { Float($0) } }, bias: file.bias.map { Float($0) },
            inputWidth: file.inputs, link: link)
    }

    private static func explanation(of error: DecodingError) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "the file" : "\"" + path.map(\.stringValue).joined(separator: ".") + "\""
        }
        return switch error {
        case .keyNotFound(let key, _): "the key \"\(key.stringValue)\" is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "\(place(context.codingPath)): \(context.debugDescription)"
        case .dataCorrupted(let context):
            context.codingPath.isEmpty
                ? "not JSON: \(context.debugDescription)" : "\(place(context.codingPath)): \(context.debugDescription)"
        @unknown default: "\(error)"
        }
    }
}
