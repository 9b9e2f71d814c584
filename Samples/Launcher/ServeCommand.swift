// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import BreastCancer
import FlockCluster
import Flockwork
import Foundation
import Logging

/// Runs one node in this process, or n nodes as child processes.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Starts one node, or n nodes as child processes.",
        discussion: """
            Prints a line that begins with "ready" for each node when it accepts connections. SIGTERM and Ctrl-C drain \
            the node and end with 0; a second one ends at once.

            Several hosts: give three nodes --bootstrap 3 and --join with the addresses of all three, and each its own \
            --id and --host. Further ones get --join with the address of any node, now or later. SIGTERM hands \
            over to the others what a node has. With --members instead, the list is fixed and there are no copies.
            """)

    @OptionGroup(title: "Node options") var node: NodeFlags
    @Flag(help: ArgumentHelp("Drain when standard input ends.", visibility: .private))
    var followParent = false
    @Flag(help: "Show a live table of what the nodes do, about once a second.")
    var metrics = false

    func run() async throws {
        let settings = try await Settings.resolve(node)
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        do {
            if let count = settings.number(.nodes), count > 1 {
                try await serve(count, settings)
            } else {
                try await serveOne(settings)
            }
        } catch let error as FlockError {
            Terminal().complain("launcher: \(error)")
            throw ExitCode.failure
        }
    }

    private func serveOne(_ settings: Settings) async throws {
        let terminal = Terminal()
        let configuration = try settings.nodeConfiguration()
        let signals = Signals()
        if followParent { signals.followParent() }
        let pipeline = diagnosisPipeline(model: try settings.diagnosisModel())
            .kept(settings.flag(.durable) ? .durable : .replicated)
        let node = Node(pipelines: pipeline, configuration: configuration)
        try await node.start()
        guard try await Self.joins(node, signals) else { return await node.shutDown() }
        let cluster =
            configuration.isCluster
            ? settings.flag(.durable) ? "a durable member" : "a member"
            : configuration.members.isEmpty
                ? "alone (f = 0)" : "member of \(configuration.members.count) (f = 0)"
        terminal.line(
            ReadyLine.text(
                id: configuration.id.rawValue, host: configuration.host, port: node.port ?? configuration.port,
                details: "cluster \(configuration.clusterID), \(cluster), pipeline \(pipeline.name), "
                    + "model \(settings.text(.model))"))
        let watch = metrics ? Task { await MetricsWatch(terminal) { await Self.status(of: node) }.run() } : nil
        let exclusion = await Self.end(of: node, signals)
        watch?.cancel()
        await watch?.value
        await node.shutDown()
        if let exclusion { throw exclusion }
    }

    /// Returns at the first signal or an operator's word, or with the reason when the cluster goes on without the node.
    private static func end(of node: Node, _ signals: Signals) async -> FlockError? {
        let end = OneShot<FlockError?>()
        Task {
            _ = await signals.first.value()
            end.set(nil)
        }
        Task {
            await node.askedToLeave()
            end.set(nil)
        }
        Task { if let error = await node.exclusion() { end.set(error) } }
        return await end.value() ?? nil
    }

    /// Waits until the node is a member. False where a signal comes first.
    private static func joins(_ node: Node, _ signals: Signals) async throws -> Bool {
        let signal = Task {
            if await signals.first.value() != nil { await node.shutDown() }
        }
        defer { signal.cancel() }
        do {
            try await node.joined()
            return true
        } catch let error as FlockError where error.code == .shuttingDown && signals.first.peek != nil {
            return false
        } catch {
            await node.shutDown()
            throw error
        }
    }

    private static func status(of node: Node) async -> [NodeStatus]? {
        do { return [try await node.status()] } catch { return nil }
    }

    /// The table of nodes in other processes. Nodes that cannot be watched serve all the same.
    private static func watch(_ flock: LocalFlock, _ settings: Settings, _ terminal: Terminal) async {
        do {
            let client = try await Client.connect(
                to: flock.addresses, configuration: try settings.clientConfiguration())
            await MetricsWatch(client, terminal).run()
            await client.close()
        } catch {
            terminal.complain("launcher: no table: \(error)")
        }
    }

    private func serve(_ count: Int, _ settings: Settings) async throws {
        guard settings.optional(.members) == nil, settings.optional(.join) == nil, settings.number(.bootstrap) == nil
        else {
            throw ValidationError(
                "--nodes starts a cluster of its own, so it does not go with --members, --bootstrap or --join.")
        }
        let folder = try settings.durableFolder()
        let terminal = Terminal()
        let flock = LocalFlock()
        let signals = Signals { flock.killNow() }
        let base = settings.number(.port) ?? 0
        guard base == 0 || base + count - 1 <= 65_535 else {
            throw ValidationError("\(count) nodes from port \(base) on go beyond port 65535.")
        }
        let ports = base == 0 ? try Ports.free(count) : (0..<count).map { base + $0 }
        try await flock.start(ports: ports, host: settings.text(.host), settings: settings, folder: folder) {
            node, line in
            terminal.line(line.hasPrefix(ReadyLine.prefix) ? line : "\(node) | \(line)")
        }
        let watch = metrics ? Task { await Self.watch(flock, settings, terminal) } : nil
        let ended = await withTaskGroup(of: (id: String, status: Int32)?.self) { group in
            group.addTask { await flock.firstEnd() }
            group.addTask {
                _ = await signals.first.value()
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
        watch?.cancel()
        await watch?.value
        // Ctrl-C reaches this process only: each child is in a process group of its own.
        let statuses = await flock.stop()
        if let ended, ended.status != 0, signals.first.peek == nil {
            throw FlockError(
                .unavailable, "node \(ended.id) ended with status \(ended.status); the others were stopped")
        }
        if let bad = statuses.first(where: { $0 != 0 }) {
            throw FlockError(.system, "a node ended with status \(bad)")
        }
    }
}

extension Settings {
    /// The configuration of a node in this process.
    func nodeConfiguration() throws -> NodeConfiguration {
        let members = try optional(.members).map { try MemberSpec.list(parsing: $0) } ?? []
        let id = NodeID(text(.id))
        // A member listens where the others look for it, unless it is told otherwise.
        let own = members.first { $0.id == id }
        func isGiven(_ setting: Setting) -> Bool { origins[setting]?.source != "default" }
        var configuration = NodeConfiguration(
            id: id, host: isGiven(.host) ? text(.host) : own?.host ?? text(.host),
            port: isGiven(.port) ? number(.port) ?? 0 : own?.port ?? number(.port) ?? 0, members: members,
            clusterID: text(.clusterID), tokenFile: optional(.tokenFile), insecure: flag(.insecure),
            logger: try logger("flockwork.node"), cores: number(.cores))
        configuration.clientTokenFile = optional(.clientTokenFile)
        configuration.bootstrap = number(.bootstrap)
        configuration.dataFolder = optional(.dataFolder)
        configuration.adminSocket = optional(.admin)
        configuration.labels = text(.label).split(separator: ",").map { String($0) }
        configuration.join = text(.join).split(separator: ",").map { String($0) }
        // A cluster of one, so that there is a log.
        if try durableFolder() != nil, flag(.durable), members.isEmpty, !configuration.isCluster {
            configuration.bootstrap = 1
        }
        return configuration
    }

    /// The data folder. Throws where there must be one and is none.
    func durableFolder() throws(FlockError) -> URL? {
        let folder = optional(.dataFolder).map { URL(filePath: $0, directoryHint: .isDirectory) }
        if flag(.durable) && folder == nil {
            throw FlockError(.invalidInput, "--durable keeps requests on disk: say where with --data-folder.")
        }
        return folder
    }

    /// The model of the pipeline.
    func diagnosisModel() throws(FlockError) -> DiagnosisModel {
        guard let model = DiagnosisModel(rawValue: text(.model)) else {
            let known = DiagnosisModel.allCases.map(\.rawValue).joined(separator: ", ")
            throw FlockError(
                .invalidInput, "\(origins[.model]?.source ?? ""): no model \"\(text(.model))\"; there are \(known)")
        }
        return model
    }

    /// The configuration of a client of these nodes.
    func clientConfiguration() throws -> ClientConfiguration {
        var configuration = ClientConfiguration()
        configuration.clusterID = text(.clusterID)
        configuration.tokenFile = optional(.clientTokenFile) ?? optional(.tokenFile)
        configuration.window = number(.window) ?? 16_384
        configuration.logger = try logger("flockwork.client")
        return configuration
    }

    /// A logger of the wanted level.
    func logger(_ label: String) throws -> Logger {
        guard let level = Logger.Level(rawValue: text(.logLevel)) else {
            let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw FlockError(
                .invalidInput,
                "\(origins[.logLevel]?.source ?? ""): no log level \"\(text(.logLevel))\"; there are \(known)")
        }
        var logger = Logger(label: label)
        logger.logLevel = level
        return logger
    }
}

extension NodeConfiguration {
    /// Its members come and go.
    fileprivate var isCluster: Bool { bootstrap != nil || !join.isEmpty }
}
