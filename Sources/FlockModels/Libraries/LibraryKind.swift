// Flockwork · Apache-2.0 · see LICENSE

// The vendors' libraries that are loaded at run time. A program builds and starts without any of them; one that a
// model needs and that is not there is an error which says how to get it.

/// A vendor's shared library: what its files are called and which wheel brings it.
struct LibraryKind: Sendable {
    /// What a person calls it.
    let name: String
    /// The wheel that has it.
    let wheel: String
    /// The environment variable with the path of the file.
    let variable: String
    /// Its folder within a Python's site-packages.
    let folder: String
    /// Its file name, which a version may follow.
    let file: String
    /// What else is to be known when it is installed.
    let note: String

    static let onnxRuntime = LibraryKind(
        name: "ONNX Runtime", wheel: "onnxruntime", variable: "FLOCKWORK_ONNXRUNTIME", folder: "onnxruntime/capi",
        file: "libonnxruntime.so", note: "")
    static let xgboost = LibraryKind(
        name: "XGBoost", wheel: "xgboost-cpu", variable: "FLOCKWORK_XGBOOST", folder: "xgboost/lib",
        file: "libxgboost.so", note: "")
    static let lightGBM = LibraryKind(
        name: "LightGBM", wheel: "lightgbm", variable: "FLOCKWORK_LIGHTGBM", folder: "lightgbm/lib",
        file: "lib_lightgbm.so", note: " It needs the system's libgomp.so.1 (Debian: libgomp1).")

    /// How to get it, for the end of a message.
    var remedy: String {
        "Install the wheel \(wheel) with `make libs`, or set \(variable) to the path of \(file).\(note)"
    }
}
