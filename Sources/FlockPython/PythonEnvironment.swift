// Flockwork · Apache-2.0 · see LICENSE

// Which interpreter runs a model, and with which variables. A child inherits nothing but what is named here: tokens and
// keys in the node's own environment are none of its business.

internal import FlockWire
internal import Foundation
internal import Glibc

/// The interpreter of a Python model's processes, the packages beside it, and variables.
///
/// A model without a `requirements.txt` runs in the interpreter as it is; one with it in a virtual environment, which
/// is made once for all models that ask for the same.
public struct PythonEnvironment: Sendable, Hashable {
    /// A path, or a name that is looked up in `PATH`: that of a virtual environment is `venv/bin/python3`.
    public var interpreter: String
    /// Given to the processes, over what they get in any case.
    public var variables: [String: String]
    /// A folder with wheels for models that have no folder `wheels` of their own. Packages come from there alone,
    /// without a package index; nil: from where pip or uv are configured to take them.
    public var wheelhouse: String?
    /// Where virtual environments are kept; nil: `~/.cache/flockwork`, or what `FLOCKWORK_CACHE` names.
    public var cacheFolder: String?
    /// A model with a `requirements.txt` sees the interpreter's own packages, too.
    public var seesSystemPackages = false
    /// Virtual environments that no process uses and that are kept: those used last.
    public var keptEnvironments = 8
    /// Time for making a virtual environment, and for a model's `init.sh` or `cleanup.sh`.
    public var buildTime = Duration.seconds(1800)

    /// The defaults: the `python3` of `PATH`.
    public init(interpreter: String = "python3", variables: [String: String] = [:]) {
        self.interpreter = interpreter
        self.variables = variables
    }

    /// What a child may see of this process's environment.
    static let inherited = [
        "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// The environment of a child that has `threads` cores to itself and `folder` for what it writes.
    func variables(interpreter: String, threads: Int, folder: String) -> [(name: String, value: String)] {
        let own = ProcessInfo.processInfo.environment
        var all: [String: String] = [:]
        for name in Self.inherited { all[name] = own[name] }
        let programs = String(interpreter[..<(interpreter.lastIndex(of: "/") ?? interpreter.startIndex)])
        all["PATH"] = "\(programs):/usr/local/bin:/usr/bin:/bin"
        all["LANG"] = all["LANG"] ?? "C.UTF-8"
        all["HOME"] = folder
        all["TMPDIR"] = folder
        all["PYTHONUNBUFFERED"] = "1"
        // The handler's folder may be read-only, and is compared with its hash.
        all["PYTHONDONTWRITEBYTECODE"] = "1"
        // Otherwise each of several children starts a thread for every core.
        for name in ["OMP", "OPENBLAS", "MKL", "NUMEXPR"] { all["\(name)_NUM_THREADS"] = "\(threads)" }
        for (name, value) in variables { all[name] = value }
        return all.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Finds the interpreter and asks it what it is.
    /// - Throws: `pythonFailed` when there is none, or it is older than 3.8.
    func interpreterFound() async throws(FlockError) -> Interpreter { try await Interpreter(asking: try find()) }

    private func find() throws(FlockError) -> String {
        if interpreter.contains("/") {
            let path = URL(fileURLWithPath: interpreter).path
            if access(path, X_OK) == 0 { return path }
        } else {
            let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
            for folder in folders where access("\(folder)/\(interpreter)", X_OK) == 0 {
                return "\(folder)/\(interpreter)"
            }
        }
        throw FlockError(.pythonFailed, "there is no Python interpreter \(interpreter)")
    }
}
