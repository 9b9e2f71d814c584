// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A vendor's library that models run in.
public enum ModelLibrary: Sendable, CaseIterable {
    case onnxRuntime, xgboost, lightGBM

    /// Loads the library as a model without a path of its own does.
    ///
    /// - Returns: its file; a bare name if the system's loader found it.
    /// - Throws: `modelLoadFailed`, saying where it was looked for and how to install it.
    public func load() throws(FlockError) -> String {
        try SharedLibrary(kind, explicit: nil).path
    }

    private var kind: LibraryKind {
        switch self {
        case .onnxRuntime: .onnxRuntime
        case .xgboost: .xgboost
        case .lightGBM: .lightGBM
        }
    }
}
