// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import BreastCancer
import Flockwork
import Foundation
import Logging

/// Cuts hosts off, and checks every request.
struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Cuts hosts off in the ways that networks do, and checks every answer. `make lab` runs it.",
        discussion: """
            Runs inside of `scripts/lab run 3 …`, as root: the script makes a network of three hosts, each a namespace \
            of the kernel's, and this command starts a node on each. Then one host after the other is cut off, or \
            badly connected, for some seconds, while requests come at an even pace. Ends with 0 only if every accepted \
            request has exactly one outcome, and the right one, and if what a host led was led by others in 1 s and \
            accepted requests in 1.5 s. The last line is a JSON object with the figures.
            """)

    @OptionGroup(title: "Node options") var node: NodeFlags
    @Option(help: "The script that made the hosts.", completion: .file())
    var script = "scripts/lab"
    @Option(help: ArgumentHelp("Faults, one after the other (default: all).", valueName: "name,…"))
    var faults = LabFault.allCases.map(\.rawValue).joined(separator: ",")
    @Option(help: "How often each fault comes; each time it is another host's.")
    var rounds = 1
    @Option(help: ArgumentHelp("How long a fault lasts.", valueName: "seconds"))
    var hold = 5
    @Option(help: ArgumentHelp("Requests a second.", valueName: "n"))
    var rate = 2000
    @Option(help: ArgumentHelp("Append the last line to this file.", valueName: "file"), completion: .file())
    var json: String?

    @Flag(help: "Do not fail where a time is missed: only for lost, doubled or wrong answers.")
    var report = false

    private static let lanes = 256
    /// So many that some are in partitions of each node.
    private static let sessionsPerNode = 16
    private static let port = 7400

    func validate() throws {
        guard (1...1000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 1000.") }
        guard (1...600).contains(hold) else { throw ValidationError("--hold is from 1 to 600.") }
        guard (1...1_000_000).contains(rate) else { throw ValidationError("--rate is from 1 to 1000000.") }
        _ = try chosen()
    }

    private func chosen() throws -> [LabFault] {
        try faults.split(separator: ",").map { name in
            guard let fault = LabFault(rawValue: String(name)) else {
                let known = LabFault.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("There is no fault \"\(name)\"; there are \(known).")
            }
            return fault
        }
    }

    func run() async throws {
        let settings = try await Settings.resolve(
            node, defaults: [.nodes: "3", .logLevel: "error", .insecure: "true", .cores: "1"])
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        let own = FlockRun("lab")
        try await own.report(to: json, where: { report ? $0.isRight : $0.isSuccess }) {
            try await play(settings, own)
        }
    }

    private func play(_ settings: Settings, _ own: FlockRun) async throws -> LabReport {
        let (flock, terminal) = (own.flock, own.terminal)
        let faults = try chosen()
        let nodes = settings.number(.nodes) ?? 3
        let run = DemoRun(
            total: rate * (60 + rounds * faults.count * (hold + 60)), chunk: max(1, rate / 1000),
            data: try Dataset.bundled(), reference: try Reference.bundled(for: settings.diagnosisModel()))
        let interruption = Task { if await own.signals.first.value() != nil { run.interrupt("interrupted") } }
        defer { interruption.cancel() }
        terminal.line(
            terminal.styled("Flockwork lab", .bold) + " · \(nodes) hosts · \(rounds * faults.count) faults of \(hold) s"
                + " · \(Text.count(rate)) requests/s")
        try FileManager.default.createDirectory(
            at: own.folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let places = (1...nodes).map {
            LocalFlock.Place(host: "10.77.0.\($0)", port: Self.port, namespace: "host-\($0)")
        }
        try await flock.start(places: places, settings: settings, folder: own.folder) { node, line in
            if !line.hasPrefix(ReadyLine.prefix) { terminal.line("  \(node) | \(line)") }
        }
        var configuration = try settings.clientConfiguration()
        configuration.sessionsPerNode = Self.sessionsPerNode
        let client = try await Client.connect(
            to: places.map { "\($0.host):\($0.port)" }, configuration: configuration)
        do {
            let lab = LabRun(
                views: ViewWatch(client: client), flock: flock, run: run, terminal: terminal, script: script,
                hold: .seconds(hold))
            let report = try await drive(lab, faults, settings)
            await client.close()
            return report
        } catch {
            await client.close()
            throw error
        }
    }

    private func drive(_ lab: LabRun, _ faults: [LabFault], _ settings: Settings) async throws -> LabReport {
        let run = lab.run
        try await lab.waitUntilWhole()
        try await lab.views.allAnswer(lab.flock.nodes.count)
        let inbox = try await lab.views.client.inbox(of: diagnosisPipeline(model: settings.diagnosisModel()))
        let guards = Task { await SoakCommand.watch(run) }
        let deaths = Task {
            if let end = await lab.flock.firstEnd() {
                run.interrupt("node \(end.id) ended by itself, with status \(end.status)")
            }
        }
        run.offer(Double(rate))
        let sessions = lab.flock.nodes.count * Self.sessionsPerNode
        let changes = Task { () -> [FaultTimes] in
            var times: [FaultTimes] = []
            do {
                // Nodes that did not lead anything yet get their sessions a little later.
                while inbox.tokens.count < sessions { try await Task.sleep(for: .milliseconds(20)) }
                try await Task.sleep(for: .seconds(1))
                try await lab.play(faults, rounds: rounds) { times.append($0) }
            } catch {
                run.interrupt("not as planned after \(times.count) faults: \(error)")
            }
            run.finish()
            return times
        }
        let seconds = await run.run(inbox: inbox, lanes: Self.lanes)
        changes.cancel()
        guards.cancel()
        deaths.cancel()
        return LabReport(
            summary: run.summary(seconds: seconds, shares: []), faults: await changes.value, rate: rate)
    }
}
