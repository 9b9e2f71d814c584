// Flockwork · Apache-2.0 · see LICENSE

// XGBoost in process. One booster serves all instances: predictions on dense rows change nothing in it (the library
// calls this "in-place prediction" and documents it as safe and free of locks), and their results lie in memory of the
// calling thread. A linear booster has no such call; it goes by a matrix and under a lock.

public import FlockWire
import FoundationEssentials
import Synchronization

/// A booster saved by XGBoost as JSON or UBJSON. A missing value is NaN; a category is its code.
public final class XGBoostModel: Model {
    public let inputWidth: Int
    public let outputWidth: Int
    public var isBlocking: Bool { true }
    private let library: XGBoostLibrary
    // Made before the model is shared, freed after its last use; see above for what threads may do with it.
    nonisolated(unsafe) private let booster: XGBoostLibrary.Handle
    /// The booster has no in-place prediction.
    private let needsMatrix: Bool
    /// Taken around each prediction by a matrix.
    private let turn = Mutex(())

    // All trees, and the prediction as the objective defines it (a probability, a count, …), not the margin.
    private static let inPlace = """
        {"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false,"cache_id":0,\
        "missing":NaN}
        """
    private static let byMatrix = """
        {"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false}
        """
    private static let matrix = #"{"missing":NaN,"nthread":1}"#

    /// Loads a model.
    ///
    /// - Parameters:
    ///   - path: a `.json` or `.ubj` file.
    ///   - library: the path of `libxgboost.so`; nil = searched for.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong; also if the library is older than the model, since
    /// it could predict wrongly without an error.
    public convenience init(path: String, library: String? = nil) throws(FlockError) {
        do throws(FlockError) {
            let data = try ModelFile.contents(of: path)
            try self.init(data, library: XGBoostLibrary(explicit: library))
        } catch {
            throw FlockError(error.code, "XGBoost model \(path): \(error.message)", cause: error.cause)
        }
    }

    init(_ data: Data, library: XGBoostLibrary) throws(FlockError) {
        self.library = library
        booster = try Self.load(data, library)
        do throws(FlockError) {
            var features: UInt64 = 0
            try library.check(library.countFeatures(booster, &features), .modelLoadFailed)
            guard features > 0, features < 1 << 24 else {
                throw FlockError(.modelLoadFailed, "it takes \(features) features")
            }
            inputWidth = Int(features)
            (outputWidth, needsMatrix) = try Self.probe(booster, library, width: inputWidth)
        } catch {
            _ = library.free(booster)
            throw error
        }
    }

    deinit { _ = library.free(booster) }

    private static func load(_ data: Data, _ library: XGBoostLibrary) throws(FlockError) -> XGBoostLibrary.Handle {
        let version = try data.withUnsafeBytes { bytes in
            Result { () throws(FlockError) in try XGBoostVersion(ofModel: bytes) }
        }.get()
        try library.version.checkReads(version, library: library.path)
        var made: XGBoostLibrary.Handle?
        try library.check(library.create(nil, 0, &made), .modelLoadFailed)
        guard let booster = made else { throw FlockError(.modelLoadFailed, "XGBoost made no booster") }
        do throws(FlockError) {
            let result = data.withUnsafeBytes { bytes in
                bytes.baseAddress.map { library.loadFromBuffer(booster, $0, UInt64(bytes.count)) } ?? -1
            }
            try library.check(result, .modelLoadFailed)
            // Instances are the parallelism.
            try library.check(library.setParameter(booster, "nthread", "1"), .modelLoadFailed)
            return booster
        } catch {
            _ = library.free(booster)
            throw error
        }
    }

    /// Predicts one row without values, which also makes the booster finish its set-up before it is shared.
    private static func probe(
        _ booster: XGBoostLibrary.Handle, _ library: XGBoostLibrary, width: Int
    ) throws(FlockError) -> (outputs: Int, needsMatrix: Bool) {
        let row = [Float](repeating: .nan, count: width)
        return try row.withUnsafeBufferPointer { (row) throws(FlockError) in
            do throws(FlockError) {
                let result = try predict(booster, library, row, rows: 1, .modelLoadFailed)
                return (result.count, false)
            } catch  where error.message.contains("Inplace predict is not supported") {
                var outputs = 0
                try predictByMatrix(booster, library, row, rows: 1, .modelLoadFailed) { (result) throws(FlockError) in
                    outputs = result.count
                }
                return (outputs, true)
            }
        }
    }

    public func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        try checkWidth(of: rows)
        precondition(scores.count >= rows.count * outputWidth, "room for \(scores.count) scores of \(rows.count) rows")
        guard rows.count > 0 else { return }
        let expected = rows.count * outputWidth
        func take(_ result: UnsafeBufferPointer<Float>) throws(FlockError) {
            guard result.count == expected else {
                throw FlockError(.stageFailed, "XGBoost gave \(result.count) scores where \(expected) are expected")
            }
            _ = scores.update(fromContentsOf: result)
        }
        try rows.withElements { (elements) throws(FlockError) in
            guard needsMatrix else {
                return try take(Self.predict(booster, library, elements, rows: rows.count, .stageFailed))
            }
            try turn.withLock { (_) throws(FlockError) in
                try Self.predictByMatrix(booster, library, elements, rows: rows.count, .stageFailed, take)
            }
        }
    }

    /// The result is valid until this thread's next prediction.
    private static func predict(
        _ booster: XGBoostLibrary.Handle, _ library: XGBoostLibrary, _ elements: UnsafeBufferPointer<Float>, rows: Int,
        _ code: FlockError.Code
    ) throws(FlockError) -> UnsafeBufferPointer<Float> {
        var shape: UnsafePointer<UInt64>?
        var dimensions: UInt64 = 0
        var values: UnsafePointer<Float>?
        let result = library.predictDense(
            booster, arrayInterface(elements, rows: rows), inPlace, nil, &shape, &dimensions, &values)
        try library.check(result, code)
        return view(shape, dimensions, values)
    }

    private static func predictByMatrix(
        _ booster: XGBoostLibrary.Handle, _ library: XGBoostLibrary, _ elements: UnsafeBufferPointer<Float>, rows: Int,
        _ code: FlockError.Code, _ body: (UnsafeBufferPointer<Float>) throws(FlockError) -> Void
    ) throws(FlockError) {
        var made: XGBoostLibrary.Handle?
        try library.check(library.createMatrix(arrayInterface(elements, rows: rows), matrix, &made), code)
        guard let matrix = made else { throw FlockError(code, "XGBoost made no matrix") }
        defer { _ = library.freeMatrix(matrix) }
        var shape: UnsafePointer<UInt64>?
        var dimensions: UInt64 = 0
        var values: UnsafePointer<Float>?
        let result = library.predictMatrix(booster, matrix, byMatrix, &shape, &dimensions, &values)
        try library.check(result, code)
        try body(view(shape, dimensions, values))
    }

    private static func view(
        _ shape: UnsafePointer<UInt64>?, _ dimensions: UInt64, _ values: UnsafePointer<Float>?
    ) -> UnsafeBufferPointer<Float> {
        var count = 1
        for dimension in 0..<Int(dimensions) { count *= Int(shape?[dimension] ?? 0) }
        return UnsafeBufferPointer(start: values, count: values == nil ? 0 : count)
    }

    /// NumPy's array interface in JSON, by which the library takes the rows where they are.
    private static func arrayInterface(_ elements: UnsafeBufferPointer<Float>, rows: Int) -> String {
        let address = UInt(bitPattern: elements.baseAddress)
        return
            #"{"data":[\#(address),true],"shape":[\#(rows),\#(elements.count / rows)],"typestr":"<f4","version":3}"#
    }
}
