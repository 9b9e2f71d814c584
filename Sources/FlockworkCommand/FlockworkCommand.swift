// Flockwork · Apache-2.0 · see LICENSE

// The command `flockwork`: a node without Swift code, and what one asks of running nodes.

internal import ArgumentParser
internal import Flockwork
internal import Foundation
internal import Logging

/// The command line.
@main
struct FlockworkCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flockwork",
        abstract: "Serves folders of Python, sends requests to nodes, shows what nodes do, and operates clusters.",
        discussion: """
            Exit codes: 0 all is well; 1 something failed, and a line on standard error says what; 64 the command line \
            is wrong.
            """,
        subcommands: [ServeCommand.self, SendCommand.self, StatusCommand.self],
        groupedSubcommands: [
            CommandGroup(
                name: "Operators",
                subcommands: [
                    PipelinesCommand.self, SuspendCommand.self, ResumeCommand.self, UpdateCommand.self,
                    DrainCommand.self, UndrainCommand.self, LeaveCommand.self, VotersCommand.self,
                    AcceptLossCommand.self,
                ])
        ])

    /// Runs a subcommand; what goes wrong is one line on standard error that begins with the program's name.
    static func reporting(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error as FlockError {
            complain("\(error)")
            throw ExitCode.failure
        }
    }

    static func complain(_ text: String) {
        FileHandle.standardError.write(Data("flockwork: \(text)\n".utf8))
    }
}

/// What nodes and their callers must agree on.
struct ClusterFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Nodes and clients of another cluster are refused.", valueName: "name"))
    var clusterId = "flockwork"
    @Option(
        help: ArgumentHelp("A file of mode 0600 with the shared secret of the cluster.", valueName: "path"),
        completion: .file())
    var tokenFile: String?
    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = "notice"

    func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("no log level \"\(logLevel)\"; there are \(known).")
        }
    }

    func logger(_ label: String) -> Logger {
        var logger = Logger(label: label) { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = Logger.Level(rawValue: logLevel) ?? .notice
        return logger
    }
}

/// Which nodes a client asks.
struct TargetFlags: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Addresses of nodes; the first that answers tells of the others.", valueName: "host:port"))
    var to = Self.standard

    private static let standard = ["127.0.0.1:7400"]

    /// No address was given.
    var isDefault: Bool { to == Self.standard }

    /// Connects, runs `body`, and closes the connection.
    func withClient<Result>(
        _ cluster: ClusterFlags, _ body: (Client) async throws -> Result
    ) async throws -> Result {
        var configuration = ClientConfiguration()
        configuration.clusterID = cluster.clusterId
        configuration.tokenFile = cluster.tokenFile
        configuration.logger = cluster.logger("flockwork.client")
        let client: Client
        do {
            client = try await Client.connect(to: to, configuration: configuration)
        } catch let error as FlockError where error.code == .unavailable {
            throw FlockError(
                .unavailable,
                "no node answers at \(to.joined(separator: ", ")): start one with `flockwork serve`, or name another"
                    + " with --to host:port (\(error.message))")
        }
        do {
            let result = try await body(client)
            await client.close()
            return result
        } catch {
            await client.close()
            throw error
        }
    }
}
