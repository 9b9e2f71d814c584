// Flockwork · Apache-2.0 · see LICENSE

// Which interpreter runs a model, and with which variables. A child inherits nothing but what is named here: tokens and
// keys in the node's own environment are none of its business.

internal import FlockWire
internal import Foundation
internal import Glibc
internal import Synchronization

/// The interpreter of a Python model's processes, and variables for them.
public struct PythonEnvironment: Sendable, Hashable {
    /// A path, or a name that is looked up in `PATH`: that of a virtual environment is `venv/bin/python3`.
    public var interpreter: String
    /// Given to the processes, over what they get in any case.
    public var variables: [String: String]

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

    /// The interpreter itself, where the name may be that of a script that finds one.
    /// - Throws: `pythonFailed` when there is none, or it is older than 3.11.
    func resolved() async throws -> String {
        let path = try find()
        let own = ProcessInfo.processInfo.environment
        let output = Mutex<[String]>([])
        let code = "import sys; print('%d.%d %s %s' % (*sys.version_info[:2], sys.implementation.name, sys.executable))"
        let names = ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"] + Self.inherited
        let exit = try await ProcessThread.shared.run(
            Launch(
                executable: path, arguments: ["-c", code],
                environment: names.compactMap { name in own[name].map { (name, $0) } }, folder: "/",
                limits: ProcessLimits())
        ) { line in output.withLock { $0.append(line) } }
        let lines = output.withLock { $0 }
        let words = (lines.first ?? "").split(separator: " ", maxSplits: 2).map(String.init)
        guard exit == .exited(0), words.count == 3 else {
            throw FlockError(
                .pythonFailed,
                "\(path) is no Python interpreter that works: it \(exit). \(lines.suffix(3).joined(separator: " / "))")
        }
        let version = words[0].split(separator: ".").compactMap { Int($0) }
        guard words[1] == "cpython", version.count == 2, (version[0], version[1]) >= (3, 11) else {
            throw FlockError(.pythonFailed, "\(path) is \(words[1]) \(words[0]); CPython 3.11 or newer is needed.")
        }
        return words[2]
    }

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

extension ProcessThread {
    /// Runs a program to its end.
    func run(_ launch: Launch, onLine: @escaping @Sendable (String) -> Void) async throws(FlockError) -> ProcessExit {
        let state = Mutex<(exit: ProcessExit?, waiter: CheckedContinuation<ProcessExit, Never>?)>((nil, nil))
        let child = try await self.launch(launch) { event in
            switch event {
            case .line(let line, _): onLine(line)
            case .exited(let exit):
                let waiter = state.withLock { state in
                    state.exit = exit
                    return state.waiter.take()
                }
                waiter?.resume(returning: exit)
            case .dropped, .pong: break
            }
        }
        Glibc.close(child.link)
        return await withCheckedContinuation { continuation in
            let exit = state.withLock { state in
                if state.exit == nil { state.waiter = continuation }
                return state.exit
            }
            if let exit { continuation.resume(returning: exit) }
        }
    }
}
