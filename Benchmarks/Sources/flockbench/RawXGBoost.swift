// Flockwork · Apache-2.0 · see LICENSE

// XGBoost's C functions and nothing else: what the rows of the models suite are compared with, and what trains their
// model. The declarations are the benchmark's own, so that none of the code that is measured is in the limit.

import Foundation
import Glibc

/// The library as it is. Every function returns 0, or another number with the reason in `XGBGetLastError`.
final class RawXGBoost: Sendable {
    typealias Handle = UnsafeMutableRawPointer
    typealias Text = UnsafePointer<CChar>
    private typealias Make = @convention(c) (Text, Text, UnsafeMutablePointer<Handle?>) -> Int32
    private typealias Create =
        @convention(c) (UnsafePointer<Handle?>?, UInt64, UnsafeMutablePointer<Handle?>) -> Int32
    private typealias Predict =
        @convention(c) @Sendable (
            Handle, Text, Text, Handle?, UnsafeMutablePointer<UnsafePointer<UInt64>?>, UnsafeMutablePointer<UInt64>,
            UnsafeMutablePointer<UnsafePointer<Float>?>
        ) -> Int32

    // Valid until the process ends, for every thread.
    private nonisolated(unsafe) let library: UnsafeMutableRawPointer
    private nonisolated(unsafe) let booster: Handle
    private let predictDense: Predict

    private static let configuration =
        #"{"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false,"cache_id":0,"#
        + #""missing":NaN}"#

    /// Trains `trees` trees of depth 6 on rows and labels.
    init(path: String, rows: UnsafeBufferPointer<Float>, width: Int, labels: [Float], trees: Int32) throws {
        guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else { throw BenchmarkError("\(path) does not load") }
        self.library = library
        predictDense = try Self.symbol("XGBoosterPredictFromDense", in: library)
        let makeMatrix: Make = try Self.symbol("XGDMatrixCreateFromDense", in: library)
        let setInfo: @convention(c) (Handle, Text, Text) -> Int32 =
            try Self.symbol("XGDMatrixSetInfoFromInterface", in: library)
        let freeMatrix: @convention(c) (Handle) -> Int32 = try Self.symbol("XGDMatrixFree", in: library)
        let create: Create = try Self.symbol("XGBoosterCreate", in: library)
        let set: @convention(c) (Handle, Text, Text) -> Int32 = try Self.symbol("XGBoosterSetParam", in: library)
        let update: @convention(c) (Handle, Int32, Handle) -> Int32 =
            try Self.symbol("XGBoosterUpdateOneIter", in: library)

        var matrix: Handle?
        try Self.check(makeMatrix(Self.interface(rows, width: width), #"{"missing":NaN}"#, &matrix), library)
        guard let matrix else { throw BenchmarkError("XGBoost made no matrix") }
        defer { _ = freeMatrix(matrix) }
        try labels.withUnsafeBufferPointer { labels in
            try Self.check(setInfo(matrix, "label", Self.interface(labels, width: 1)), library)
        }
        var booster: Handle?
        try Self.check(create([matrix], 1, &booster), library)
        guard let booster else { throw BenchmarkError("XGBoost made no booster") }
        self.booster = booster
        for (key, value) in [
            ("objective", "reg:squarederror"), ("max_depth", "6"), ("eta", "0.1"), ("tree_method", "hist"),
            ("seed", "7"), ("verbosity", "0"),
            // In training too: threads that wait for each other are slow where others use the cores.
            ("nthread", "1"),
        ] { try Self.check(set(booster, key, value), library) }
        for tree in 0..<trees { try Self.check(update(booster, tree, matrix), library) }
    }

    /// Writes the model to a file: `.ubj` or `.json`.
    func save(to path: String) throws {
        let save: @convention(c) (Handle, Text) -> Int32 = try Self.symbol("XGBoosterSaveModel", in: library)
        try Self.check(save(booster, path), library)
    }

    /// Scores rows that lie where `interface` says; the result is valid until the thread's next call.
    func predict(_ interface: Text) -> UnsafeBufferPointer<Float> {
        var shape: UnsafePointer<UInt64>?
        var dimensions: UInt64 = 0
        var values: UnsafePointer<Float>?
        guard predictDense(booster, interface, Self.configuration, nil, &shape, &dimensions, &values) == 0,
            let shape, let values
        else { fatalError("XGBoost failed: \(Self.lastError(library))") }
        return UnsafeBufferPointer(start: values, count: (0..<Int(dimensions)).reduce(1) { $0 * Int(shape[$1]) })
    }

    /// NumPy's array interface: where the numbers are.
    static func interface(_ values: UnsafeBufferPointer<Float>, width: Int) -> String {
        let shape = width == 1 ? "[\(values.count)]" : "[\(values.count / width),\(width)]"
        return
            #"{"data":[\#(UInt(bitPattern: values.baseAddress)),true],"shape":\#(shape),"typestr":"<f4","version":3}"#
    }

    private static func symbol<Function>(_ name: String, in library: UnsafeMutableRawPointer) throws -> Function {
        guard let address = dlsym(library, name) else { throw BenchmarkError("libxgboost has no \(name)") }
        return unsafeBitCast(address, to: Function.self)
    }

    private static func check(_ result: Int32, _ library: UnsafeMutableRawPointer) throws {
        if result != 0 { throw BenchmarkError("XGBoost failed: \(lastError(library))") }
    }

    private static func lastError(_ library: UnsafeMutableRawPointer) -> String {
        guard let address = dlsym(library, "XGBGetLastError") else { return "no reason is given" }
        let text = unsafeBitCast(address, to: (@convention(c) () -> Text?).self)()
        return text.map { String(cString: $0) } ?? "no reason is given"
    }
}
