// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import Flockwork
import Foundation

/// The command line of the samples.
@main
struct Launcher: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launcher",
        abstract: "Runs nodes of the sample pipelines, or the whole demo.",
        discussion: """
            Values come from flags, then from the environment (FLOCKWORK_PORT, FLOCKWORK_CLUSTER_ID, …), then from a \
            JSON file (--config-file or FLOCKWORK_CONFIG_FILE), then from defaults; `launcher config` shows which.

            Exit codes: 0 all is well; 1 the run was not right, or a node failed; 64 the command line or a value is \
            wrong; 130 and 143 a second Ctrl-C or SIGTERM ended it at once.
            """,
        subcommands: [ServeCommand.self, DemoCommand.self, SoakCommand.self, LabCommand.self, ConfigCommand.self],
        defaultSubcommand: ServeCommand.self)
}

/// The flags that every node has. None has a default here: what is not given is looked for in the other places.
struct NodeFlags: ParsableArguments {
    @Option(help: "A JSON file with values; unknown keys are an error.", completion: .file())
    var configFile: String?
    @Option(help: ArgumentHelp("The node's name (default: node-1; with --nodes, node-1 … node-n).", valueName: "name"))
    var id: String?
    @Option(help: ArgumentHelp("The address to listen on (default: 127.0.0.1).", valueName: "address"))
    var host: String?
    @Option(help: "The port to listen on, 0 = any free one; the first of several nodes (default: 7400).")
    var port: Int?
    @Option(help: ArgumentHelp("Start n nodes as child processes (default: 1).", valueName: "n"))
    var nodes: Int?
    @Option(help: ArgumentHelp("All members of the cluster; empty = alone.", valueName: "id=host:port,…"))
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
        help: ArgumentHelp(
            "Something that the node has and stages may ask for, as \"gpu\"; may be given again.", valueName: "name"))
    var label: [String] = []
    @Option(
        help: ArgumentHelp(
            "A folder of this node's own, where its votes survive a restart; of several nodes, one for each in it.",
            valueName: "path"),
        completion: .directory)
    var dataFolder: String?
    @Flag(
        inversion: .prefixedNo,
        help: "Keep requests and outcomes on disk too: they survive a stop of all nodes. Needs --data-folder.")
    var durable: Bool?
    @Option(
        help: ArgumentHelp(
            "Where operators reach this node: a socket to make, of mode 0600 (default: admin.sock in the data folder); "
                + "with --nodes a folder for several.", valueName: "path"), completion: .file())
    var admin: String?
    @Option(
        help: ArgumentHelp("Nodes and clients of another cluster are refused (default: flockwork).", valueName: "name"))
    var clusterId: String?
    @Option(
        help: ArgumentHelp("A file of mode 0600 with the shared secret of the cluster.", valueName: "path"),
        completion: .file())
    var tokenFile: String?
    @Option(
        help: ArgumentHelp(
            "A file of mode 0600 with another secret for clients (default: they have the nodes').", valueName: "path"),
        completion: .file())
    var clientTokenFile: String?
    @Flag(
        inversion: .prefixedNo, help: "Listen on a non-loopback address without a token.")
    var insecure: Bool?
    @Option(help: ArgumentHelp("Cores that a node may plan with (default: all).", valueName: "n"))
    var cores: Int?
    @Option(help: "trace, debug, info, notice, warning, error or critical (default: notice; demo: warning).")
    var logLevel: String?
    @Option(help: "logistic, xgboost or onnx; the last two need the libraries of `make libs` (default: logistic).")
    var model: String?

    /// What was given.
    var given: [Setting: String] {
        var given: [Setting: String] = [:]
        given[.id] = id
        given[.host] = host
        given[.port] = port.map { String($0) }
        given[.nodes] = nodes.map { String($0) }
        given[.members] = members
        given[.bootstrap] = bootstrap.map { String($0) }
        given[.join] = join
        given[.label] = label.isEmpty ? nil : label.joined(separator: ",")
        given[.dataFolder] = dataFolder
        given[.durable] = durable.map { String($0) }
        given[.admin] = admin
        given[.clusterID] = clusterId
        given[.tokenFile] = tokenFile
        given[.clientTokenFile] = clientTokenFile
        given[.insecure] = insecure.map { String($0) }
        given[.cores] = cores.map { String($0) }
        given[.logLevel] = logLevel
        given[.model] = model
        return given
    }
}

/// The flags of the demo.
struct LoadFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Requests to post (default: 1000000).", valueName: "n"))
    var requests: Int?
    @Option(
        help: ArgumentHelp("Requests open at once with each node, a power of two (default: 16384).", valueName: "n"))
    var window: Int?
    @Option(help: ArgumentHelp("Tasks that post at the same time (default: 4).", valueName: "n"))
    var lanes: Int?

    var given: [Setting: String] {
        var given: [Setting: String] = [:]
        given[.requests] = requests.map { String($0) }
        given[.window] = window.map { String($0) }
        given[.lanes] = lanes.map { String($0) }
        return given
    }
}

extension Settings {
    /// Resolves with the process's own environment; what cannot be a value ends the program with code 64.
    static func resolve(
        _ node: NodeFlags, _ load: LoadFlags? = nil, defaults: [Setting: String] = [:]
    ) async throws -> Settings {
        do {
            return try await resolve(
                flags: node.given.merging(load?.given ?? [:]) { $1 }, file: node.configFile,
                environment: ProcessInfo.processInfo.environment, defaults: defaults)
        } catch {
            throw ValidationError(error.message)
        }
    }
}

/// Shows the effective values.
struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Prints the effective values and where each came from; secrets are masked.")

    @OptionGroup(title: "Node options") var node: NodeFlags
    @OptionGroup(title: "Load options") var load: LoadFlags

    func run() async throws {
        let terminal = Terminal()
        for line in try await Settings.resolve(node, load).table(terminal) { terminal.line(line) }
    }
}
