// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import CRawPingPong

enum Suite: String, CaseIterable, ExpressibleByArgument {
    case native, mailbox, calls, inbox, cluster, models, python, all
}

@main
struct Flockbench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flockbench",
        abstract: "Measures Flockwork against bare loops and bare protocols of the same run.",
        discussion: """
            The value of a row is items a second (unit items/s) or the median latency (unit ms); limit is the bare \
            loop or protocol of the same run, and ratio is value / limit. CPU counts this process and the node's.
            """,
        subcommands: [
            ObjectiveRun.self, OverloadRun.self, Echo.self, GRPCEcho.self, CallsNode.self, InboxNode.self,
            LoadNode.self, ClusterMember.self,
        ])

    @Option(
        help: """
            Which rows: native, mailbox, calls, inbox, cluster, models, python (needs libflockpython.so), or all but \
            python.
            """)
    var suite = Suite.all
    @Option(
        parsing: .upToNextOption, help: "Only these rows of the suite, by name; a row without its limit has no ratio.")
    var rows: [String] = []
    @Option(help: "Appends one JSON object per row to this file.")
    var json: String?
    @Option(help: "Seconds of each measured repeat.")
    var seconds = 2.0
    @Option(help: "Repeats of each row, of which the best counts.")
    var repeats = 3

    func validate() throws {
        guard seconds > 0, seconds <= 600 else { throw ValidationError("--seconds must be within 0 and 600") }
        guard (1...100).contains(repeats) else { throw ValidationError("--repeats must be within 1 and 100") }
    }

    func run() async throws {
        let run = try Run(seconds: seconds, repeats: repeats, json: json, only: rows)
        func wants(_ other: Suite) -> Bool { suite == .all || suite == other }
        if wants(.native) { try await NativeSuite.measure(run) }
        if wants(.mailbox) { try await MailboxSuite.measure(run) }
        if wants(.calls) { try await CallsSuite.measure(run) }
        if wants(.inbox) { try await InboxSuite.measure(run) }
        if wants(.cluster) { try await ClusterSuite.measure(run) }
        if wants(.models) { try await ModelsSuite.measure(run) }
        if suite == .python { try await PythonSuite.measure(run) }
        if run.rows == 0 && run.skipped == 0 {
            throw ValidationError("no such row in the suite: \(rows.joined(separator: ", "))")
        }
    }
}

/// The other side of the raw ping-pong.
struct Echo: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "For flockbench itself.", shouldDisplay: false)
    func run() throws { try RawPingPong.serve() }
}

/// The other side of `low-load-grpc`.
struct GRPCEcho: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grpc-echo", abstract: "For flockbench itself.", shouldDisplay: false)
    func run() { raw_grpc_echo() }
}

/// The process that the calls suite calls.
struct CallsNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "calls-node", abstract: "For flockbench itself.", shouldDisplay: false)
    func run() async throws { try await CallsServer.serve() }
}

/// The node that the inbox suite talks to.
struct InboxNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inbox-node", abstract: "For flockbench itself.", shouldDisplay: false)
    @Flag var busyPoll = false
    func run() async throws { try await Served.serve(busyPoll: busyPoll) }
}

/// A node of the cluster suite, and of the overload run with several.
struct ClusterMember: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster-node", abstract: "For flockbench itself.", shouldDisplay: false)
    @Option var id: String
    @Option var port: Int
    @Option var bootstrap: Int?
    @Option var addresses: String
    @Option var stage = ClusterOfProcesses.Stage.joined
    @Option var folder: String?
    @Option var work = ClusterOfProcesses.Work.served
    func run() async throws {
        try await ClusterOfProcesses.serve(
            id: id, port: port, bootstrap: bootstrap, addresses: addresses.split(separator: ",").map(String.init),
            stage: stage, folder: folder, work: work)
    }
}

/// The node of the objective and overload runs.
struct LoadNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load-node", abstract: "For flockbench itself.", shouldDisplay: false)
    func run() async throws { try await LoadPipelines.serve() }
}
