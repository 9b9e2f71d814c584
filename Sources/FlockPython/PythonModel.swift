// Flockwork · Apache-2.0 · see LICENSE

// What a user writes to have a folder of Python score batches.

internal import FlockWire
internal import Foundation
internal import Glibc

/// What serves the batches in a worker process. Both keep to `Protos/python_worker.proto`.
public enum PythonWorkerKind: String, Sendable, Hashable, CaseIterable {
    /// The library where the interpreter can load it, else the package grpcio.
    case automatic
    /// `libflockpython.so`: CPython 3.11 or newer.
    case library
    /// Plain Python over the package `grpcio`, which the interpreter or the model's environment must have. Slower.
    case grpcio
}

/// A function in a folder of Python, run in processes of its own.
///
///     .model(.python("models/churn", handler: "score"), instances: .perNode(2))
///
/// The function gets a whole batch and returns one result an item, in order: a list of `str` for strings, a list of
/// `bytes` for bytes, one `float32` array of shape `[items, width]` for rows. `load()` in the same module, if there, is
/// called once a process before; `unload()` after. It is called for one batch at a time, and may see a batch more than
/// once: when it raises, and when its process dies.
public struct PythonModel: Sendable {
    /// How its processes are run.
    public struct Options: Sendable {
        /// The interpreter and its variables.
        public var environment = PythonEnvironment()
        /// What serves the batches in a process.
        public var worker = PythonWorkerKind.automatic
        /// Batches that a process has at once: one in work, the others on the way.
        public var window = 2
        /// Time for one batch. A process that takes longer writes its stacks to the log and is killed.
        public var batchTime = Duration.seconds(30)
        /// Time for importing the module and `load()`.
        public var loadTime = Duration.seconds(300)
        /// Processes of the model on a node beside those that work, loaded, to take the place of one that dies.
        public var spares = 1
        /// What the kernel holds each process to.
        public var limits = ProcessLimits()

        /// The defaults.
        public init() {}
    }

    /// Where the code and its files lie.
    public let folder: String
    /// Module and function.
    public let module: String
    public let function: String
    public let options: Options
    /// Where it runs, in this process.
    let running: RunningModels
    /// What its folder is called where somebody wrote it; nil for its name.
    let title: String?

    /// What errors, metrics and the status call it: without where the folder lies on this machine, which is none of its
    /// callers' business, and need not be the same on another node.
    public var name: String {
        let folder = title ?? URL(fileURLWithPath: folder).standardizedFileURL.lastPathComponent
        return "python \(folder):\(module == "handler" ? "" : module + ".")\(function)"
    }

    /// The same for no other model.
    var identity: String { "python \(folder):\(module):\(function)" }

    /// A function of a module in `folder`.
    /// - Parameters:
    ///   - folder: Relative to the node's current folder, or absolute.
    ///   - handler: A function in `handler.py`, or `module:function`.
    ///   - title: What errors, metrics and the status call the folder; nil for its name. All nodes of a cluster must
    ///     call it the same.
    public static func python(
        _ folder: String, handler: String = "transform_list", options: Options = Options(), title: String? = nil
    ) -> PythonModel {
        let parts = handler.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        precondition(parts.allSatisfy { !$0.isEmpty }, "\"\(handler)\" is no function, and no module:function")
        precondition(options.window > 0 && options.spares >= 0, "a window of \(options.window) batches")
        return PythonModel(
            folder: folder, module: parts.count == 2 ? parts[0] : "handler", function: parts[parts.count - 1],
            options: options, running: RunningModels(),
            title: title)
    }

    /// The absolute path of the model's folder.
    /// - Throws: `pythonFailed` when it has no such module.
    func folderFound() throws(FlockError) -> String {
        let path = URL(fileURLWithPath: folder).standardizedFileURL.path
        let file = path + "/" + module.replacing(".", with: "/")
        guard access(file + ".py", R_OK) == 0 || access(file + "/__init__.py", R_OK) == 0 else {
            throw FlockError(.pythonFailed, "There is no \(module).py in \(path).")
        }
        return path
    }
}
