// Flockwork · Apache-2.0 · see LICENSE

// The calls of XGBoost's C API that a model needs, typed here: no vendor header is used.

import FlockWire

/// XGBoost's functions. All return 0, or another number with the reason in `lastError`.
struct XGBoostLibrary: Sendable {
    typealias Handle = UnsafeMutableRawPointer
    /// Shape (its numbers, how many there are) and values of a result, which stay the library's.
    typealias Shape = UnsafeMutablePointer<UnsafePointer<UInt64>?>
    typealias Values = UnsafeMutablePointer<UnsafePointer<Float>?>

    let path: String
    let version: XGBoostVersion
    private let lastErrorText: @convention(c) @Sendable () -> UnsafePointer<CChar>?
    let create:
        @convention(c) @Sendable (UnsafePointer<Handle?>?, UInt64, UnsafeMutablePointer<Handle?>) ->
            Int32
    let free: @convention(c) @Sendable (Handle) -> Int32
    let loadFromBuffer: @convention(c) @Sendable (Handle, UnsafeRawPointer, UInt64) -> Int32
    let setParameter: @convention(c) @Sendable (Handle, UnsafePointer<CChar>, UnsafePointer<CChar>) -> Int32
    let countFeatures: @convention(c) @Sendable (Handle, UnsafeMutablePointer<UInt64>) -> Int32
    /// Booster, array interface of the values, configuration, no matrix; out: shape, dimensions, results.
    let predictDense:
        @convention(c) @Sendable (
            Handle, UnsafePointer<CChar>, UnsafePointer<CChar>, Handle?, Shape, UnsafeMutablePointer<UInt64>, Values
        ) -> Int32
    let predictMatrix:
        @convention(c) @Sendable (
            Handle, Handle, UnsafePointer<CChar>, Shape, UnsafeMutablePointer<UInt64>, Values
        ) -> Int32
    let createMatrix:
        @convention(c) @Sendable (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafeMutablePointer<Handle?>) -> Int32
    let freeMatrix: @convention(c) @Sendable (Handle) -> Int32

    init(explicit: String?, search: LibrarySearch = .process) throws(FlockError) {
        let library = try SharedLibrary(.xgboost, explicit: explicit, search: search)
        path = library.path
        let readVersion:
            @convention(c) (
                UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>
            ) -> Void = try library.function("XGBoostVersion")
        var (major, minor, patch): (Int32, Int32, Int32) = (0, 0, 0)
        readVersion(&major, &minor, &patch)
        version = XGBoostVersion(major: Int(major), minor: Int(minor), patch: Int(patch))
        lastErrorText = try library.function("XGBGetLastError")
        create = try library.function("XGBoosterCreate")
        free = try library.function("XGBoosterFree")
        loadFromBuffer = try library.function("XGBoosterLoadModelFromBuffer")
        setParameter = try library.function("XGBoosterSetParam")
        countFeatures = try library.function("XGBoosterGetNumFeature")
        predictDense = try library.function("XGBoosterPredictFromDense")
        predictMatrix = try library.function("XGBoosterPredictFromDMatrix")
        createMatrix = try library.function("XGDMatrixCreateFromDense")
        freeMatrix = try library.function("XGDMatrixFree")
    }

    /// Throws the library's reason for a result that is not 0; it belongs to the calling thread.
    func check(_ result: Int32, _ code: FlockError.Code) throws(FlockError) {
        guard result != 0 else { return }
        let text = lastErrorText().map { String(cString: $0) } ?? "no reason is given"
        throw FlockError(code, "XGBoost \(version): \(Self.reason(in: text))")
    }

    /// What a person needs of `[21:34:51] /workspace/src/data/data.cc:1161: Check failed: … Stack trace: …`.
    static func reason(in text: String) -> String {
        var reason = text.split(separator: "\nStack trace").first ?? text[...]
        // Time, place, reason: the place ends with a line's number.
        let parts = reason.split(separator: " ", maxSplits: 2)
        if parts.count == 3, parts[0].hasPrefix("["), parts[0].hasSuffix("]"), parts[1].hasSuffix(":") {
            reason = parts[2]
        }
        while reason.last?.isWhitespace ?? false { reason.removeLast() }
        return String(reason)
    }
}
