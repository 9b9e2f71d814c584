// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import BreastCancer
import Flockwork
import Foundation
import Logging

/// Kills nodes of a cluster under load, again and again, and checks every request.
struct SoakCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "soak",
        abstract: "Kills nodes of a cluster under load, starts them again, and checks every answer.",
        discussion: """
            Starts five node processes, finds out what they can do, and offers 40 % of that at an even pace. Then it \
            kills a random node with SIGKILL, starts it again, and waits until all copies are there, so often as is \
            asked for; in between one node joins and leaves. Ends with 0 only if every accepted request has exactly \
            one outcome, and the right one. The last line is a JSON object with the figures: below 300 kills the \
            maximum stands for the 99th percentile, and null for what was not measured.
            """)

    @OptionGroup(title: "Node options") var node: NodeFlags
    @Option(help: "How often a node is killed.")
    var kills = 20
    @Option(help: ArgumentHelp("Which nodes are killed follows from it (default: random, and shown).", valueName: "s"))
    var seed: UInt64?
    @Option(help: ArgumentHelp("Requests a second (default: 40 % of what the nodes can do).", valueName: "n"))
    var rate: Int?
    @Option(help: ArgumentHelp("No kill begins later (default: 20 for each kill, and 60).", valueName: "seconds"))
    var time: Int?
    @Option(help: ArgumentHelp("Append the last line to this file.", valueName: "file"), completion: .file())
    var json: String?

    private static let lanes = 1024
    private static let share = 0.4
    private static let fastest = 1_000_000
    /// A run without an outcome for so long is given up.
    private static let patience: UInt64 = 60_000_000_000

    func validate() throws {
        guard (1...10_000).contains(kills) else { throw ValidationError("--kills is from 1 to 10000.") }
        guard rate.map({ (1...Self.fastest).contains($0) }) ?? true else {
            throw ValidationError("--rate is from 1 to \(Self.fastest).")
        }
        guard time.map({ (1...86_400).contains($0) }) ?? true else {
            throw ValidationError("--time is from 1 to 86400.")
        }
    }

    private var seconds: Int { time ?? kills * 20 + 60 }

    func run() async throws {
        let settings = try await Settings.resolve(node, defaults: [.nodes: "5", .logLevel: "error"])
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        guard let nodes = settings.number(.nodes), nodes >= 3 else {
            throw ValidationError("A soak needs three nodes.")
        }
        let own = FlockRun("soak")
        try await own.report(to: json, where: \.isSuccess) { try await play(settings, nodes, own) }
    }

    private func play(_ settings: Settings, _ nodes: Int, _ own: FlockRun) async throws -> SoakReport {
        let (flock, terminal) = (own.flock, own.terminal)
        let seed = seed ?? .random(in: 1...UInt64(UInt32.max))
        let data = try Dataset.bundled()
        // Small, and by many tasks: a session that waits must hold up no other, and each posts every few milliseconds.
        let chunk = rate.map { min(128, max(1, $0 / 1000)) } ?? 128
        let run = DemoRun(
            total: (rate ?? Self.fastest) * (seconds + 300), chunk: chunk, data: data,
            reference: try Reference.bundled(for: settings.diagnosisModel()))
        let interruption = Task { if await own.signals.first.value() != nil { run.interrupt("interrupted") } }
        defer { interruption.cancel() }
        terminal.line(
            terminal.styled("Flockwork soak", .bold) + " · \(nodes) node processes · \(kills) kills · seed \(seed)")
        try FileManager.default.createDirectory(
            at: own.folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try await flock.start(
            ports: try Ports.free(nodes), host: "127.0.0.1", settings: settings, folder: own.folder
        ) { node, line in
            if !line.hasPrefix(ReadyLine.prefix) { terminal.line("  \(node) | \(line)") }
        }
        var configuration = try settings.clientConfiguration()
        configuration.sessionsPerNode = 4
        let client = try await Client.connect(to: flock.addresses, configuration: configuration)
        do {
            let soak = SoakRun(
                client: client, flock: flock, run: run, settings: settings, terminal: terminal, kills: kills,
                seed: seed,
                end: .now + .seconds(seconds))
            let report = try await drive(soak, settings)
            await client.close()
            return report
        } catch {
            await client.close()
            throw error
        }
    }

    private func drive(_ soak: SoakRun, _ settings: Settings) async throws -> SoakReport {
        let run = soak.run
        try await soak.waitUntilWhole()
        let inbox = try await soak.client.inbox(of: diagnosisPipeline(model: settings.diagnosisModel()))
        let guards = Task { await Self.watch(run) }
        let deaths = Task {
            if let end = await soak.flock.firstEnd() {
                run.interrupt("node \(end.id) ended by itself, with status \(end.status)")
            }
        }
        if let rate { run.offer(Double(rate)) }
        let changes = Task { () -> ([SoakEvent], UInt64) in
            var events: [SoakEvent] = []
            do {
                try await offer(run, soak.terminal)
                try await soak.play { events.append($0) }
            } catch {
                run.interrupt("not as planned: \(error)")
            }
            let end = DemoRun.now()
            run.finish()
            return (events, end)
        }
        let seconds = await run.run(inbox: inbox, lanes: Self.lanes)
        changes.cancel()
        guards.cancel()
        deaths.cancel()
        let (events, end) = await changes.value
        return SoakReport(
            summary: run.summary(seconds: seconds, shares: []), kills: events.compactMap(\.kill),
            moves: events.compactMap(\.move), load: run.openLoop, end: end, seed: soak.seed)
    }

    /// Finds out what the nodes can do, and offers less. Returns when that goes at an even pace.
    private func offer(_ run: DemoRun, _ terminal: Terminal) async throws {
        if rate == nil {
            try await Task.sleep(for: .seconds(1))
            let (done, start) = (run.done, DemoRun.now())
            try await Task.sleep(for: .seconds(3))
            let most = Double(run.done - done) / (Double(DemoRun.now() - start) / 1e9)
            let offered = max(1, (most * Self.share).rounded())
            run.offer(offered)
            terminal.line(
                "  the nodes can do \(Text.count(Int(most))) requests/s; \(Text.count(Int(offered)))/s are offered")
        }
        try await Task.sleep(for: .seconds(2))
        run.beginLatencies()
    }

    /// Gives a run up that stands still.
    static func watch(_ run: DemoRun) async {
        var last = (done: 0, at: DemoRun.now())
        while !Task.isCancelled {
            let now = DemoRun.now()
            let done = run.done
            if done != last.done { last = (done, now) }
            if now - last.at > patience { run.interrupt("no outcome for \(patience / 1_000_000_000) s") }
            do { try await Task.sleep(for: .seconds(1)) } catch { return }
        }
    }
}
