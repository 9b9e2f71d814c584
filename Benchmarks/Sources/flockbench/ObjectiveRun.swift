// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import Flockwork
import Foundation

/// `flockbench objective`: the same arrivals for a stage with a latency objective, and with fixed policies.
struct ObjectiveRun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "objective",
        abstract: "Compares batch: .within(20 ms) with fixed policies, at 80 % load with bursts.",
        discussion: """
            A stage of 2 ms and 20 us an item, then one of 3 ms and 14 us, on one instance in a node process; asks \
            that come with exponential gaps and in bursts, from this process. Load is measured against batches that \
            take half of the objective. Fails if within(20 ms) misses its objective at p99. The last line is a JSON \
            object.
            """)

    @Option(help: "Seconds of each policy.")
    var duration = 8.0
    @Option(help: "Load, as a part of what the stage can do in batches of half of the objective.")
    var load = 0.8
    @Option(help: "Requests that come at once, four times a second.")
    var burst = 100
    @Flag(help: "Prints what it is, and does not fail where the objective is missed: for busy machines.")
    var report = false

    struct Row {
        var name: String
        var p50: Double
        var p99: Double
        /// Of all requests, those within the objective.
        var inTime: Double
        var rate: Double
        var batch: Double
        var cores: Double
        var busy: Double

        static let head =
            "policy".padding(28)
            + ["p50 ms", "p99 ms", "in time %", "done/s", "batch", "busy %", "node cores"].map { $0.right(11) }.joined()
        var line: String {
            name.padding(28)
                + [(p50, 2), (p99, 2), (inTime * 100, 2), (rate, 0), (batch, 1), (busy * 100, 1), (cores, 2)]
                .map { String(format: "%.\($1)f", $0).right(11) }.joined()
        }
        var json: String {
            String(
                format: "{\"policy\":\"%@\",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"in_time\":%.5f,\"done_per_s\":%.1f,"
                    + "\"batch\":%.2f,\"busy\":%.4f,\"node_cores\":%.3f}", name, p50, p99, inTime, rate, batch, busy,
                cores)
        }
    }

    func run() async throws {
        let node = try ChildProcess(["load-node"])
        defer { node.stop() }
        let client = try await LoadPipelines.client(at: [node.address])
        var all: [String] = []
        var isKept = true
        for (cost, pipelines) in zip(LoadPipelines.costs, LoadPipelines.compared) {
            let half = (10_000 - cost.fixedMicroseconds) / cost.itemMicroseconds
            let arrivals = Arrivals(rate: load * cost.rate(half), burst: burst)
            print(
                String(
                    format:
                        "a stage of %@ an item: %.0f requests a second = %.0f %% of %.0f, bursts of %d every %.2f s, "
                        + "%g s each, load average %.1f", cost.name, arrivals.rate, load * 100, cost.rate(half), burst,
                    arrivals.burstSeconds, duration, loadAverage()))
            print(Row.head)
            var rows: [Row] = []
            for (policy, pipeline) in zip(LoadPipelines.policies, pipelines) {
                let row = try await measure(policy.name, pipeline, arrivals, client, node)
                print(row.line)
                fflush(nil)
                rows.append(row)
            }
            isKept = isKept && rows[0].p99 <= 20
            all.append(
                "{\"stage\":\"\(cost.name)\",\"offered_per_s\":\(Int(arrivals.rate)),\"rows\":["
                    + rows.map(\.json).joined(separator: ",") + "]}")
        }
        await client.close()
        print("{\"run\":\"objective\",\"objective_ms\":20,\"stages\":[\(all.joined(separator: ","))]}")
        if !isKept, !report { throw ExitCode.failure }
    }

    private func measure(
        _ name: String, _ pipeline: Pipeline<Int, Int>, _ arrivals: Arrivals, _ client: Client, _ node: ChildProcess
    ) async throws -> Row {
        let inbox = try await client.inbox(of: pipeline)
        // The stage learns its cost, and the processes warm up.
        _ = try await Arrivals(rate: arrivals.rate / 2, seed: 2).ask(inbox, seconds: min(1, duration))
        let before = try await status(pipeline.name, client)
        let meter = try Meter(children: [node.id])
        let own = ownProcessorSeconds()
        let (answers, start) = try await arrivals.ask(inbox, seconds: duration)
        let wall = Double(monotonicNanoseconds() - start) / 1e9
        let measured = try meter.stop(items: answers.count)
        let nodeSeconds = measured.processorSeconds - (ownProcessorSeconds() - own)
        let after = try await status(pipeline.name, client)
        await inbox.close()
        let latency = answers.latency(of: .answered)
        let batches = Double(after.batches - before.batches)
        return Row(
            name: name, p50: latency.microseconds(percentile: 50) / 1000,
            p99: latency.microseconds(percentile: 99) / 1000,
            inTime: Double(answers.count { $0.took <= 20_000_000 }) / Double(answers.count),
            rate: Double(answers.count) / wall, batch: Double(after.items - before.items) / max(batches, 1),
            cores: nodeSeconds / wall,
            busy: Double(after.busyNanoseconds - before.busyNanoseconds) / 1e9 / wall)
    }

    private func status(_ pipeline: String, _ client: Client) async throws -> StageStatus {
        guard let status = try await client.status().first?.stages.first(where: { $0.pipeline == pipeline }) else {
            throw BenchmarkError("the node says nothing of \(pipeline)")
        }
        return status
    }
}

extension String {
    fileprivate func padding(_ width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
    fileprivate func right(_ width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}
