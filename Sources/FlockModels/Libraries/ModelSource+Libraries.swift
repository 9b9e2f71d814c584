// Flockwork · Apache-2.0 · see LICENSE

// Sources whose models run in a vendor's library, in this process. All instances of a node share one session or
// booster, and each call uses the thread that makes it.

import FlockWire

extension ModelSource {
    /// A model in ONNX Runtime: see `ONNXModel` for the graphs that it takes.
    ///
    /// - Parameters:
    ///   - path: a `.onnx` file.
    ///   - output: the output with the scores; nil = the first of numbers.
    ///   - library: the path of `libonnxruntime.so`; nil = `FLOCKWORK_ONNXRUNTIME`, then Python's site-packages
    ///     (`FLOCKWORK_PYTHON`, `.venv-libs`), then the system.
    public static func onnx(_ path: String, output: String? = nil, library: String? = nil) -> ModelSource {
        ModelSource(name: "onnx \(path)", blocking: { try ONNXModel(path: path, output: output, library: library) })
    }

    /// A model in XGBoost, saved as `.json` or `.ubj` by a version that is not newer than the library.
    ///
    /// - Parameters:
    ///   - path: the model file.
    ///   - library: the path of `libxgboost.so`; nil = `FLOCKWORK_XGBOOST`, then Python's site-packages
    ///     (`FLOCKWORK_PYTHON`, `.venv-libs`), then the system.
    public static func xgboost(_ path: String, library: String? = nil) -> ModelSource {
        ModelSource(name: "xgboost \(path)", blocking: { try XGBoostModel(path: path, library: library) })
    }

    /// A model in LightGBM, in its text format.
    ///
    /// - Parameters:
    ///   - path: the model file.
    ///   - library: the path of `lib_lightgbm.so`; nil = `FLOCKWORK_LIGHTGBM`, then Python's site-packages
    ///     (`FLOCKWORK_PYTHON`, `.venv-libs`), then the system.
    public static func lightgbm(_ path: String, library: String? = nil) -> ModelSource {
        ModelSource(name: "lightgbm \(path)", blocking: { try LightGBMModel(path: path, library: library) })
    }
}
