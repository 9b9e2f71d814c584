// Flockwork · Apache-2.0 · see LICENSE

// LightGBM in process. One booster serves all instances: its predictions take a lock for readers, and all of ours use
// the same trees. It computes in 64 bits; the scores are rounded to 32.

public import FlockWire
import FoundationEssentials

/// LightGBM's functions. All return 0, or another number with the reason in `lastError`.
private struct LightGBMLibrary: Sendable {
    typealias Handle = UnsafeMutableRawPointer

    private let lastErrorText: @convention(c) @Sendable () -> UnsafePointer<CChar>?
    let load:
        @convention(c) @Sendable (
            UnsafePointer<CChar>, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Handle?>
        ) -> Int32
    let free: @convention(c) @Sendable (Handle) -> Int32
    let countFeatures: @convention(c) @Sendable (Handle, UnsafeMutablePointer<Int32>) -> Int32
    /// Booster, rows, kind of prediction, first tree, trees; out: results.
    let countResults:
        @convention(c) @Sendable (Handle, Int32, Int32, Int32, Int32, UnsafeMutablePointer<Int64>) -> Int32
    /// Booster, values, type, rows, columns, row-major, kind of prediction, first tree, trees, parameters; out: count,
    /// results.
    let predict:
        @convention(c) @Sendable (
            Handle, UnsafeRawPointer, Int32, Int32, Int32, Int32, Int32, Int32, Int32, UnsafePointer<CChar>,
            UnsafeMutablePointer<Int64>, UnsafeMutablePointer<Double>
        ) -> Int32

    init(explicit: String?) throws(FlockError) {
        let library = try SharedLibrary(.lightGBM, explicit: explicit)
        lastErrorText = try library.function("LGBM_GetLastError")
        load = try library.function("LGBM_BoosterLoadModelFromString")
        free = try library.function("LGBM_BoosterFree")
        countFeatures = try library.function("LGBM_BoosterGetNumFeature")
        countResults = try library.function("LGBM_BoosterCalcNumPredict")
        predict = try library.function("LGBM_BoosterPredictForMat")
    }

    /// Throws the library's reason for a result that is not 0; it belongs to the calling thread.
    func check(_ result: Int32, _ code: FlockError.Code) throws(FlockError) {
        guard result != 0 else { return }
        throw FlockError(code, "LightGBM: \(lastErrorText().map { String(cString: $0) } ?? "no reason is given")")
    }
}

/// A model in LightGBM's text format. A missing value is NaN; a category is its code.
public final class LightGBMModel: Model {
    public let inputWidth: Int
    public let outputWidth: Int
    public var isBlocking: Bool { true }
    private let library: LightGBMLibrary
    // Made before the model is shared, freed after its last use; see above for what threads may do with it.
    nonisolated(unsafe) private let booster: LightGBMLibrary.Handle

    // Values of the C API: floats; the prediction as the objective defines it; all trees.
    private static let float32: Int32 = 0
    private static let normal: Int32 = 0
    private static let allTrees: Int32 = -1
    // Instances are the parallelism. Warnings would go to the standard output.
    private static let parameters = "num_threads=1 verbosity=-1"

    /// Loads a model.
    ///
    /// - Parameters:
    ///   - path: a file that `Booster.save_model` wrote.
    ///   - library: the path of `lib_lightgbm.so`; nil = searched for.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong.
    public init(path: String, library: String? = nil) throws(FlockError) {
        do throws(FlockError) {
            let text = try Self.text(of: path)
            let library = try LightGBMLibrary(explicit: library)
            self.library = library
            booster = try Self.load(text, library)
            do throws(FlockError) {
                var features: Int32 = 0
                try library.check(library.countFeatures(booster, &features), .modelLoadFailed)
                var results: Int64 = 0
                try library.check(
                    library.countResults(booster, 1, Self.normal, 0, Self.allTrees, &results), .modelLoadFailed)
                guard features > 0, results > 0 else {
                    throw FlockError(.modelLoadFailed, "it takes \(features) features and gives \(results) scores")
                }
                (inputWidth, outputWidth) = (Int(features), Int(results))
            } catch {
                _ = library.free(booster)
                throw error
            }
        } catch {
            throw FlockError(error.code, "LightGBM model \(path): \(error.message)", cause: error.cause)
        }
    }

    deinit { _ = library.free(booster) }

    /// The file as text, whole: the library reads beyond the end of a file that was cut short.
    private static func text(of path: String) throws(FlockError) -> String {
        let data = try ModelFile.contents(of: path)
        guard data.starts(with: "tree\n".utf8) || data.starts(with: "tree\r\n".utf8) else {
            throw FlockError(.modelLoadFailed, "not a LightGBM model: the first line is not \"tree\"")
        }
        guard !data.contains(0), let text = String(data: data, encoding: .utf8) else {
            throw FlockError(.modelLoadFailed, "not a LightGBM model: it is not text")
        }
        guard data.withUnsafeBytes({ $0.firstRange(of: Array("\nend of trees".utf8)) }) != nil else {
            throw FlockError(.modelLoadFailed, "the file is cut short: there is no line \"end of trees\"")
        }
        return text
    }

    private static func load(_ text: String, _ library: LightGBMLibrary) throws(FlockError) -> LightGBMLibrary.Handle {
        var iterations: Int32 = 0
        var made: LightGBMLibrary.Handle?
        try library.check(library.load(text, &iterations, &made), .modelLoadFailed)
        guard let booster = made else { throw FlockError(.modelLoadFailed, "LightGBM made no booster") }
        return booster
    }

    public func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        try checkWidth(of: rows)
        let expected = rows.count * outputWidth
        precondition(scores.count >= expected, "room for \(scores.count) scores of \(rows.count) rows")
        guard rows.count > 0 else { return }
        guard let count = Int32(exactly: rows.count) else {
            throw FlockError(.tooLarge, "LightGBM takes no batch of \(rows.count) rows")
        }
        try withUnsafeTemporaryAllocation(of: Double.self, capacity: expected) { results in
            guard let target = results.baseAddress else { return }
            try rows.withElements { (elements) throws(FlockError) in
                guard let source = elements.baseAddress else { return }
                var written: Int64 = 0
                let result = library.predict(
                    booster, source, Self.float32, count, Int32(rows.width), 1, Self.normal, 0, Self.allTrees,
                    Self.parameters, &written, target)
                try library.check(result, .stageFailed)
                guard written == Int64(expected) else {
                    throw FlockError(.stageFailed, "LightGBM gave \(written) scores where \(expected) are expected")
                }
            }
            for index in 0..<expected { scores[index] = Float(results[index]) }
        }
    }
}
