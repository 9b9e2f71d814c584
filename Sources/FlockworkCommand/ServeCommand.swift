// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import FlockPython
internal import Flockwork
internal import Foundation

/// A node that runs one folder of Python.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Runs a node that serves the functions of folders of Python.",
        discussion: """
            The pipeline is called as its folder is. Requests are lines of text for a function transform_list(list), \
            unless flags or the folder's flockwork.json say something else:

              {"handler": "score", "rows": 4, "outputs": 3, "labels": ["gpu"]}

            With --bootstrap or --join the node is one of a cluster. One that joins needs no folder: it gets the \
            files, and wheels, from the nodes that are there.

            Prints a line that begins with "ready" when the node accepts connections. SIGTERM and Ctrl-C drain it; \
            a second one ends it at once.
            """)

    @Argument(
        help: "Folders with a handler.py; none with --join, to serve what the cluster does.", completion: .directory)
    var folders: [String] = []
    @Option(help: "The function in handler.py, or module:function (default: transform_list).")
    var handler: String?
    @Option(help: "Requests are rows of N floats; the function gets one float32 array [items, N].")
    var rows: Int?
    @Option(help: "Numbers of each result, with --rows (default: 1).")
    var outputs: Int?
    @Flag(help: "Requests are text; the function gets a list of str. The default.")
    var strings = false
    @Flag(help: "Requests are bytes; the function gets a list of bytes.")
    var bytes = false
    @Option(help: ArgumentHelp("What callers call it (default: the folder's name).", valueName: "name"))
    var name: String?
    @Option(help: "Worker processes for each folder (default: one a core).")
    var children: Int?
    @Option(help: ArgumentHelp("The interpreter of the worker processes, Python 3.8 or newer.", valueName: "path"))
    var python = "python3"
    @Option(
        help: ArgumentHelp(
            """
            What serves batches in them: automatic, library (libflockpython.so; CPython 3.11 or newer) or grpcio (that \
            package; any interpreter).
            """, valueName: "kind"), transform: Self.worker)
    var worker = PythonWorkerKind.automatic
    @Option(
        help: ArgumentHelp(
            "Wheels for folders with a requirements.txt and no wheels of their own; then no package index is asked.",
            valueName: "folder"), completion: .directory)
    var wheelhouse: String?
    @Option(
        help: ArgumentHelp(
            "Where virtual environments are kept (default: FLOCKWORK_CACHE, else ~/.cache/flockwork).",
            valueName: "folder"), completion: .directory)
    var cache: String?
    @Option(help: ArgumentHelp("Time for one batch, after which its process is killed.", valueName: "seconds"))
    var batchTime = 30.0
    @Option(
        help: ArgumentHelp(
            "Bytes that one result may have; so many are kept free for each request (default: 1024).", valueName: "n"))
    var resultBytes: Int?
    @Option(help: ArgumentHelp("The node's name.", valueName: "name"))
    var id = "node-1"
    @Option(help: ArgumentHelp("The address to listen on.", valueName: "address"))
    var host = "127.0.0.1"
    @Option(help: "The port to listen on, 0 = any free one.")
    var port = 7400
    @Option(help: ArgumentHelp("All members of the cluster, this one included.", valueName: "id=host:port,…"))
    var members: String?
    @Option(
        help: ArgumentHelp(
            "Begin a cluster of 1, 3 or 5 voters, whose addresses are those of --join.", valueName: "n"))
    var bootstrap: Int?
    @Option(
        help: ArgumentHelp(
            "With --bootstrap all voters of a new cluster, else any nodes of a running one.",
            valueName: "host:port,…"))
    var join: String?
    @Option(
        help: ArgumentHelp("A folder of this node's own, where its votes survive a restart.", valueName: "path"),
        completion: .directory)
    var dataFolder: String?
    @Option(
        help: ArgumentHelp(
            "Something that this node has and folders may ask for in their flockwork.json; may be given again.",
            valueName: "name"))
    var label: [String] = []
    @Option(
        help: ArgumentHelp(
            "A socket of mode 0600 to make, where operators reach this node (default: none).", valueName: "path"),
        completion: .file())
    var admin: String?
    @Option(
        help: ArgumentHelp(
            "A file of mode 0600 with another secret for clients (default: they have the nodes').", valueName: "path"),
        completion: .file())
    var clientTokenFile: String?
    @Flag(help: "Listen on a non-loopback address without a token.")
    var insecure = false
    @OptionGroup(title: "Cluster") var cluster: ClusterFlags

    func validate() throws {
        if folders.count > 1, handler != nil || rows != nil || outputs != nil || strings || bytes || name != nil {
            throw ValidationError(
                "--handler, --rows, --outputs, --strings, --bytes and --name go with one folder; "
                    + "several say it in their flockwork.json.")
        }
        guard [rows != nil, strings, bytes].count(where: { $0 }) <= 1 else {
            throw ValidationError("--rows, --strings and --bytes exclude each other.")
        }
        guard (0...65_535).contains(port) else { throw ValidationError("--port is 0 to 65535, not \(port).") }
        if let children, !(1...1024).contains(children) {
            throw ValidationError("--children is 1 to 1024, not \(children).")
        }
        if let wheelhouse, access(wheelhouse, R_OK | X_OK) != 0 {
            throw ValidationError("there is no folder \(wheelhouse) for --wheelhouse, or it may not be read.")
        }
        if let resultBytes, !ServedModels.resultBytesAllowed.contains(resultBytes) {
            throw ValidationError("--result-bytes is 16 to 1048576, not \(resultBytes).")
        }
        try validateCluster()
        guard batchTime > 0, batchTime <= 86_400 else {
            throw ValidationError("--batch-time is more than 0 and at most 86400 seconds.")
        }
    }

    private func validateCluster() throws {
        if let join, addresses(of: join).isEmpty { throw ValidationError("--join is host:port,…, not \"\(join)\".") }
        if dataFolder != nil, !isClustered {
            throw ValidationError("--data-folder goes with --bootstrap or --join: a node alone keeps nothing.")
        }
        guard folders.isEmpty else { return }
        guard bootstrap == nil else {
            throw ValidationError("which folder? A node that begins a cluster has one; those that join get it.")
        }
        guard join != nil else {
            throw ValidationError("which folder? A node without one gets what a cluster serves: --join host:port.")
        }
        if handler != nil || rows != nil || outputs != nil || strings || bytes || name != nil || resultBytes != nil {
            throw ValidationError(
                "--handler, --rows, --outputs, --strings, --bytes, --name and --result-bytes go with a folder; "
                    + "a node without one does as the others do.")
        }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            var configuration = try configuration()
            try configuration.checkCluster()
            let served = try await served()
            configuration.limits.reservedResultBytes = served.resultBytes
            let runnable = try served.runnable(options)
            configuration.serve(served.versions(of: runnable, store: store))
            let pipelines = runnable.map { $0.folder.pipeline(of: $0.model, children: children) }
            try await run(pipelines, served, configuration)
        }
    }

    private static func worker(_ text: String) throws -> PythonWorkerKind {
        if let kind = PythonWorkerKind(rawValue: text) { return kind }
        let kinds = PythonWorkerKind.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("\(text) is none of: \(kinds)")
    }

    private var isClustered: Bool { bootstrap != nil || join != nil }

    private var store: BundleStore { BundleStore(folder: cache.map { URL(fileURLWithPath: $0).path + "/bundles" }) }

    private func served() async throws -> ServedModels {
        if folders.isEmpty {
            return try await ServedModels(
                joining: try configuration(), store: store, wheelhouse: options.environment.wheelhouse)
        }
        let flags = FolderSettings(
            handler: handler, rows: rows, outputs: outputs, bytes: bytes || strings ? bytes : nil, name: name)
        var served = try ServedModels(
            try folders.map { try ModelFolder($0, flags: flags) }, wheelhouse: options.environment.wheelhouse,
            resultBytes: resultBytes)
        if isClustered { try await served.offer(from: store) }
        return served
    }

    /// How the processes of all folders are run.
    var options: PythonModel.Options {
        var options = PythonModel.Options()
        options.environment.interpreter = python
        options.worker = worker
        // Tools run in the folder of the model.
        options.environment.wheelhouse = wheelhouse.map { URL(fileURLWithPath: $0).path }
        options.environment.cacheFolder = cache.map { URL(fileURLWithPath: $0).path }
        options.batchTime = .milliseconds(Int64(batchTime * 1000))
        return options
    }

    private func run(
        _ pipelines: [any ServablePipeline], _ served: ServedModels, _ configuration: NodeConfiguration
    ) async throws {
        let node = Node(pipelines: pipelines, configuration: configuration)
        do {
            try await node.start()
        } catch let error as FlockError {
            throw explained(error)
        }
        let list = pipelines.map { pipeline in "\(pipeline.name) (\(pipeline.form.map { "\($0)" } ?? "private"))" }
        try await NodeLife(node: node).run {
            // Standard output is what a script waits for, so it is not buffered.
            FileHandle.standardOutput.write(
                Data("ready \(id) on \(host):\(node.port ?? port) · \(list.joined(separator: ", "))\n".utf8))
            await served.compare(configuration)
        }
    }

    private func configuration() throws -> NodeConfiguration {
        var configuration = NodeConfiguration(
            id: NodeID(id), host: host, port: port, members: try members.map { try Member.list(parsing: $0) } ?? [],
            clusterID: cluster.clusterId, tokenFile: cluster.tokenFile, insecure: insecure,
            logger: cluster.logger("flockwork.node"))
        configuration.clientTokenFile = clientTokenFile
        configuration.adminSocket = admin
        configuration.bootstrap = bootstrap
        configuration.join = join.map(addresses(of:)) ?? []
        configuration.dataFolder = dataFolder
        configuration.labels = label
        return configuration
    }

    private func addresses(of list: String) -> [String] {
        list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    /// What to do about the errors that a wrong flag is behind.
    private func explained(_ error: FlockError) -> FlockError {
        let text = error.message
        if text.contains("EADDRINUSE") || text.contains("address already in use") {
            return FlockError(
                error.code, "port \(port) of \(host) is in use; --port takes another one, 0 any that is free")
        }
        if error.code == .pythonFailed {
            // The rest is a traceback, or the last output, which the log has just shown.
            return FlockError(.pythonFailed, text.prefix { $0 != "\n" }.description)
        }
        return error
    }
}
