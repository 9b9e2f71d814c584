// Flockwork · Apache-2.0 · see LICENSE

// A model on this node, between the folder that somebody wrote and the processes that run it: its environment is there,
// and its init.sh has run. At the end cleanup.sh runs.

internal import FlockWire
internal import Foundation
internal import Logging

/// A model that can be started.
struct ModelInstallation: Sendable {
    let program: WorkerProgram
    let environment: PythonEnvironment
    /// Keeps the environment from being collected.
    let lease: EnvironmentLease?
    private let name: String
    private let log: Logger

    /// Prepares a model: checks it, makes its environment if it is not there, runs its init.sh.
    /// - Throws: `pythonFailed` with the last lines of what failed; `invalidInput`, `system`.
    init(_ model: PythonModel, _ form: PythonForm, log: Logger) async throws {
        environment = model.options.environment
        name = model.name
        self.log = log
        let folder = try model.folderFound()
        let (interpreter, lease) = try await Self.environment(environment, of: folder, log: log)
        self.lease = lease
        program = WorkerProgram(
            interpreter: lease?.interpreter ?? interpreter.path,
            extensionPath: try Self.library(for: interpreter, model.options.worker, log: log),
            mayFallBack: model.options.worker != .library, folder: folder, module: model.module,
            function: model.function, form: form, environment: [], limits: model.options.limits)
        try await run("init.sh")
    }

    /// Finds the interpreter, and makes the environment of a model in `folder`: nil if it needs none.
    /// - Throws: `pythonFailed` with the last lines of what failed; `invalidInput`, `system`.
    static func environment(
        _ environment: PythonEnvironment, of folder: String, log: Logger
    ) async throws -> (Interpreter, EnvironmentLease?) {
        let interpreter = try await environment.interpreterFound()
        let recipe = try await onOwnThread { () throws(FlockError) in
            try EnvironmentRecipe(of: folder, interpreter, environment)
        }
        guard let recipe else { return (interpreter, nil) }
        var cache = EnvironmentCache(folder: environment.cacheFolder, log: log)
        cache.kept = environment.keptEnvironments
        cache.buildTime = environment.buildTime
        return (interpreter, try await cache.lease(recipe))
    }

    /// Where the library is, if processes are to load it.
    /// - Throws: `pythonFailed` when they must and cannot.
    private static func library(
        for interpreter: Interpreter, _ worker: PythonWorkerKind, log: Logger
    ) throws(FlockError) -> String? {
        let what = "\(interpreter.path) is \(interpreter.implementation) \(interpreter.version)"
        switch worker {
        case .grpcio: return nil
        case .library:
            guard interpreter.loadsLibrary else {
                throw FlockError(
                    .pythonFailed, "\(what); libflockpython.so needs CPython 3.11 or newer, built with its lock.")
            }
            return try PythonExtension.path()
        case .automatic:
            do {
                if interpreter.loadsLibrary { return try PythonExtension.path() }
                log.notice("Python workers are served by grpcio", metadata: ["why": "\(what)"])
            } catch {
                log.warning("Python workers are served by grpcio", metadata: ["why": "\(error.message)"])
            }
            return nil
        }
    }

    /// Returns when the environment has its byte code. One worker alone is ready sooner if it does not wait for that;
    /// several would each compile what they import.
    func byteCodeMade() async { await lease?.byteCode?.ended() }

    /// Runs cleanup.sh. That it fails is for the log: the model has ended.
    func end() async {
        do {
            try await run("cleanup.sh")
        } catch {
            log.error("a Python model could not clean up", metadata: ["stage": "\(name)", "why": "\(error)"])
        }
    }

    /// Runs a script of the model's, in its folder and environment.
    private func run(_ script: String) async throws(FlockError) {
        let path = "\(program.folder)/\(script)"
        guard let head = FileHandle(forReadingAtPath: path)?.readData(ofLength: 256) else { return }
        let home = try PrivateFolder()
        defer { home.remove() }
        var variables = Dictionary(uniqueKeysWithValues: EnvironmentBuilder.variables().map { ($0.name, $0.value) })
        let own = environment.variables(
            interpreter: program.interpreter, threads: ProcessInfo.processInfo.activeProcessorCount, folder: home.path)
        for (name, value) in own { variables[name] = value }
        if lease != nil {
            variables["VIRTUAL_ENV"] = String(program.interpreter.dropLast("/bin/python3".count))
        }
        let (shell, arguments) = Self.shell(String(decoding: head, as: UTF8.self))
        let log = log.with(["stage": "\(name)", "script": "\(script)"])
        try await Tool(
            executable: shell, arguments: arguments + [path],
            environment: variables.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, folder: program.folder
        ).succeed("\(script) of \(program.folder) failed", within: environment.buildTime) { log.info("\($0)") }
    }

    /// What its first line names, since a file of a bundle is no program; else the shell.
    private static func shell(_ head: String) -> (String, [String]) {
        guard head.hasPrefix("#!") else { return ("/bin/sh", []) }
        let line = head.dropFirst(2).prefix { $0 != "\n" && $0 != "\r\n" }
        let words = line.split(separator: " ", maxSplits: 1).map(String.init)
        return words.isEmpty ? ("/bin/sh", []) : (words[0], Array(words.dropFirst()))
    }
}

extension Logger {
    fileprivate func with(_ tags: Logger.Metadata) -> Logger {
        var log = self
        for (name, value) in tags { log[metadataKey: name] = value }
        return log
    }
}
