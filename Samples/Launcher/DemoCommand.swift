// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import BreastCancer
import Flockwork
import Foundation
import Logging

/// The main job, end to end: three node processes, a million requests, every one checked.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Starts nodes, scores the data set round and round, and checks every answer.",
        discussion: """
            Starts three node processes on free ports, posts the 569 rows of Breast Cancer Wisconsin again and again \
            until all requests are done, and compares every outcome with that of the library which trained the model. \
            Ends with 0 only if nothing was lost, doubled or wrong. With --changes a fourth node joins meanwhile, one \
            of the first three is killed with SIGKILL, and one leaves; the summary says how long each took. The nodes \
            are always stopped, also on Ctrl-C.
            """)

    @OptionGroup(title: "Load options") var load: LoadFlags
    @OptionGroup(title: "Node options") var node: NodeFlags
    @Flag(help: "Show a live table of what the nodes do, about once a second.")
    var metrics = false
    @Flag(help: "Meanwhile a node joins, one is killed with SIGKILL and one leaves; needs three nodes.")
    var changes = false

    /// A run without an outcome for so long is given up.
    private static let patience: UInt64 = 30_000_000_000
    /// Seconds over which the requests are spread while the cluster is changed.
    private static let changeTime = 20.0

    func run() async throws {
        let settings = try await Settings.resolve(node, load, defaults: [.nodes: "3", .logLevel: "warning"])
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        guard settings.number(.window).map({ $0 & ($0 - 1) == 0 }) == true else {
            throw ValidationError("The window must be a power of two, not \(settings.text(.window)).")
        }
        let flock = LocalFlock()
        let signals = Signals { flock.killNow() }
        let result: Result<Summary, any Error>
        do {
            result = .success(try await play(settings, flock, signals))
        } catch {
            result = .failure(error)
        }
        let statuses = await flock.stop()
        let terminal = Terminal()
        switch result {
        case .success(let summary):
            for line in summary.lines(for: terminal) { terminal.line(line) }
            if let signal = signals.first.peek { throw ExitCode(128 + signal) }
            guard summary.isSuccess else { throw ExitCode.failure }
            if let bad = statuses.first(where: { $0 != 0 }) {
                terminal.complain("launcher: a node ended with status \(bad)")
                throw ExitCode.failure
            }
        case .failure(let error):
            if let signal = signals.first.peek { throw ExitCode(128 + signal) }
            terminal.complain("launcher: \(error)")
            throw ExitCode.failure
        }
    }

    private func play(_ settings: Settings, _ flock: LocalFlock, _ signals: Signals) async throws -> Summary {
        let terminal = Terminal()
        let data = try Dataset.bundled()
        let total = settings.number(.requests) ?? 1_000_000
        let run = DemoRun(total: total, data: data, reference: try Reference.bundled(for: settings.diagnosisModel()))
        let interruption = Task { [run] in
            if await signals.first.value() != nil { run.interrupt("interrupted") }
        }
        defer { interruption.cancel() }
        let nodes = settings.number(.nodes) ?? 3
        guard !changes || nodes >= 3 else { throw ValidationError("--changes needs three nodes or more.") }
        terminal.line(
            terminal.styled("Flockwork demo", .bold)
                + " · \(Text.count(total)) requests · \(data.rows.count) rows × \(Dataset.width) features"
                + " · \(nodes) node process\(nodes == 1 ? "" : "es")")
        try await start(flock, nodes, settings, terminal)
        let client = try await Client.connect(
            to: flock.addresses, configuration: try settings.clientConfiguration())
        do {
            let summary = try await drive(run, client, flock, settings, terminal)
            await client.close()
            return summary
        } catch {
            await client.close()
            throw error
        }
    }

    /// A free port may be taken before the node has it: then the nodes are started again with others.
    private func start(_ flock: LocalFlock, _ nodes: Int, _ settings: Settings, _ terminal: Terminal) async throws {
        let isGiven = settings.origins[.port]?.source != "default"
        for attempt in 1...3 {
            let base = settings.number(.port) ?? 0
            let ports = isGiven && base > 0 && attempt == 1 ? (0..<nodes).map { base + $0 } : try Ports.free(nodes)
            do {
                try await flock.start(
                    ports: ports, host: "127.0.0.1", settings: settings, folder: settings.durableFolder()
                ) { node, line in
                    terminal.line(
                        line.hasPrefix(ReadyLine.prefix)
                            ? "  " + terminal.styled(line, .dim) : "  \(node) | \(line)")
                }
                return
            } catch let error as FlockError where attempt < 3 && error.message.contains("in use") {
                terminal.line("  a port is in use; trying others")
            }
        }
    }

    private func drive(
        _ run: DemoRun, _ client: Client, _ flock: LocalFlock, _ settings: Settings, _ terminal: Terminal
    ) async throws -> Summary {
        let inbox = try await client.inbox(of: diagnosisPipeline(model: settings.diagnosisModel()))
        let watch = Task { [metrics] in await Self.watch(run, client, terminal, hasTable: metrics) }
        let deaths = Task {
            if let end = await flock.firstEnd() { run.interrupt("node \(end.id) ended with status \(end.status)") }
        }
        let change = changes ? Task { await play(run, client, flock, settings, terminal) } : nil
        let seconds = await run.run(inbox: inbox, lanes: settings.number(.lanes) ?? 4)
        change?.cancel()
        watch.cancel()
        deaths.cancel()
        await watch.value
        let times = await change?.value
        let shares = try await Self.shares(client)
        return run.summary(seconds: seconds, shares: shares, changes: times)
    }

    /// Changes the cluster while requests go on at an even pace, and lets them go when that is over.
    private func play(
        _ run: DemoRun, _ client: Client, _ flock: LocalFlock, _ settings: Settings, _ terminal: Terminal
    ) async -> ChangeTimes? {
        run.setPace(Double(run.total) / Self.changeTime)
        let changes = ClusterChanges(client: client, flock: flock, run: run, settings: settings, terminal: terminal)
        do {
            let times = try await changes.play()
            run.setPace(nil)
            return times
        } catch {
            run.interrupt("the cluster was not changed as planned: \(error)")
            run.setPace(nil)
            return nil
        }
    }

    /// Shows the progress, and gives a run up that stands still.
    private static func watch(_ run: DemoRun, _ client: Client, _ terminal: Terminal, hasTable: Bool) async {
        let line = ProgressLine(terminal: terminal)
        // The table stands above the line; both are rewritten from the line that the cursor is on.
        var table = MetricsTable()
        var rows = LiveLines(terminal)
        var meter = RateMeter()
        var last = (done: 0, at: DemoRun.now())
        var batches = (items: 0, count: 0)
        var batch: Double?
        var turn = 0
        while !Task.isCancelled {
            let now = DemoRun.now()
            let done = run.done
            if done != last.done { last = (done, now) }
            if now - last.at > patience { run.interrupt("no outcome for \(patience / 1_000_000_000) s") }
            if turn % 5 == 0, let shares = await currentShares(client) {
                let sum = shares.reduce((items: 0, count: 0)) { ($0.items + $1.items, $0.count + $1.batches) }
                if sum.count > batches.count {
                    batch = Double(sum.items - batches.items) / Double(sum.count - batches.count)
                }
                batches = sum
            }
            let rate = meter.rate(done: done, at: now)
            if hasTable, turn % (terminal.isInteractive ? 10 : 5) == 0,
                let nodes = await MetricsWatch.status(of: client)
            {
                rows.show(table.lines(for: nodes, at: now, columns: rows.columns, terminal: terminal))
            }
            line.show(Progress(done: done, total: run.total, rate: rate, batch: batch))
            turn += terminal.isInteractive ? 1 : 5
            do {
                try await Task.sleep(for: terminal.isInteractive ? .milliseconds(100) : .seconds(1))
            } catch { break }
        }
        line.finish()
    }

    /// Nil if a node does not answer now: the line then keeps the size that it has.
    private static func currentShares(_ client: Client) async -> [NodeShare]? {
        do { return try await shares(client) } catch { return nil }
    }

    private static func shares(_ client: Client) async throws -> [NodeShare] {
        try await client.status().map { status in
            var sizes: [UInt64] = []
            for stage in status.stages {
                for (power, count) in stage.batchSizes.enumerated() {
                    while sizes.count <= power { sizes.append(0) }
                    sizes[power] += count
                }
            }
            return NodeShare(
                node: status.node.rawValue, items: Int(status.stages.reduce(0) { $0 + $1.items }),
                batches: Int(status.stages.reduce(0) { $0 + $1.batches }), batchSizes: sizes)
        }
    }
}
