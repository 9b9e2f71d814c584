// Flockwork · Apache-2.0 · see LICENSE

// The model was trained on features with mean 0 and deviation 1. The parameters are the stage's own and not the
// model's: a new model can be rolled out without touching the stage before it.

public import Flockwork
import Foundation

/// `(x - mean) / scale` for each feature.
public struct Normalization: Sendable {
    public let mean: [Float]
    public let scale: [Float]

    public init(mean: [Float], scale: [Float]) {
        precondition(mean.count == scale.count && !mean.isEmpty, "\(mean.count) means, \(scale.count) scales")
        self.mean = mean
        self.scale = scale
    }

    private struct File: Decodable {
        let format: String
        let version: Int
        let mean: [Double]
        let scale: [Double]
    }

    /// Reads the parameters that recipe/train.py wrote.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong with it.
    public init(path: String) throws(FlockError) {
        let file: File
        do {
            file = try JSONDecoder().decode(File.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw FlockError(.modelLoadFailed, "normalization \(path): \(error)", cause: error)
        }
        guard file.format == "flockwork-normalization", file.version == 1 else {
            throw FlockError(
                .modelLoadFailed,
                "normalization \(path): format \"\(file.format)\" version \(file.version); "
                    + "this reads \"flockwork-normalization\" version 1")
        }
        let scales = file.scale.map { Float($0) }
        guard file.mean.count == scales.count, !scales.isEmpty, scales.allSatisfy({ $0.isFinite && $0 > 0 }),
            file.mean.allSatisfy({ Float($0).isFinite })
        else {
            throw FlockError(
                .modelLoadFailed,
                "normalization \(path): means and scales must be as many, finite, and the scales above zero")
        }
        self.init(mean: file.mean.map { Float($0) }, scale: scales)
    }

    /// The rows with each feature normalised. Throws `invalidInput` for rows of another width.
    public func apply(to rows: Rows<Float>) throws(FlockError) -> Rows<Float> {
        let width = mean.count
        guard rows.width == width else {
            throw FlockError(.invalidInput, "rows of \(width) features are normalised, not of \(rows.width)")
        }
        return Rows(count: rows.count, width: width) { target in
            rows.withElements { source in
                mean.withUnsafeBufferPointer { mean in
                    scale.withUnsafeBufferPointer { scale in
                        normalize(source, mean, scale, into: target, rows: rows.count)
                    }
                }
            }
        }
    }
}

/// A free function on buffers: the loop over the features vectorises.
private func normalize(
    _ source: UnsafeBufferPointer<Float>, _ mean: UnsafeBufferPointer<Float>, _ scale: UnsafeBufferPointer<Float>,
    into target: UnsafeMutableBufferPointer<Float>, rows: Int
) {
    guard rows > 0, let source = source.baseAddress, let target = target.baseAddress, let means = mean.baseAddress,
        let scales = scale.baseAddress
    else { return }
    let width = mean.count
    for row in 0..<rows {
        let from = source + row &* width
        let to = target + row &* width
        for column in 0..<width { to[column] = (from[column] - means[column]) / scales[column] }
    }
}
