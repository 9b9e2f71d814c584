// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import Flockwork
import Foundation
import Synchronization

/// `flockbench overload`: ten times what a stage can do, for a while, and then half of it again.
struct OverloadRun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overload",
        abstract: "Offers ten times the capacity of a stage, through a client and node processes.",
        discussion: """
            A stage of 2 ms and 500 us an item on one instance. First half of what it can do, then as much as it can \
            (closed loop), then the overload, then half again; every request has a deadline of 100 ms. Fails if \
            goodput is under 90 % of the peak of the same run, refusals take more than 10 ms at p99, memory grows, or \
            it takes more than 500 ms to recover. The last line is a JSON object.
            """)

    @Option(help: "Seconds of the overload.")
    var duration = 20.0
    @Option(help: "How many times the measured peak is offered.")
    var times = 10.0
    @Option(help: "Node processes; several keep every request on two or three of them before it is accepted.")
    var nodes = 1
    @Flag(help: "Prints what it is, and does not fail where a bound is missed: for busy machines.")
    var report = false

    private static let deadline = Duration.milliseconds(100)

    struct Result {
        var peak = 0.0
        var offered = 0.0
        var goodput = 0.0
        var refused = 0.0
        var late = 0.0
        var refusalP50 = 0.0
        var refusalP99 = 0.0
        var normalP50 = 0.0
        var normalP99 = 0.0
        var overloadP50 = 0.0
        var overloadP99 = 0.0
        var afterP99 = 0.0
        var recoveryMilliseconds = 0.0
        /// Resident megabytes of the nodes over time, together.
        var nodeMemory: [Double] = []

        var memoryGrowth: Double {
            // The second half of the overload against its first.
            let half = nodeMemory.count / 2
            guard half > 0 else { return 0 }
            return (nodeMemory[half...].max() ?? 0) - (nodeMemory[..<half].max() ?? 0)
        }

        /// What is not as it has to be.
        var failures: [String] {
            var failures: [String] = []
            if goodput < 0.9 * peak { failures.append("goodput is under 90 % of the peak") }
            if refusalP99 > 10 { failures.append("refusals take more than 10 ms") }
            if memoryGrowth > 8 { failures.append("memory grows") }
            if recoveryMilliseconds > 500 { failures.append("recovery takes more than 500 ms") }
            if refused == 0 { failures.append("nothing was refused") }
            return failures
        }

        var json: String {
            let memory = nodeMemory.map { String(format: "%.1f", $0) }.joined(separator: ",")
            return String(
                format: "{\"run\":\"overload\",\"peak_per_s\":%.0f,\"offered_per_s\":%.0f,\"goodput_per_s\":%.0f,"
                    + "\"goodput_of_peak\":%.3f,\"refused\":%.4f,\"late\":%.4f,\"refusal_p50_ms\":%.3f,"
                    + "\"refusal_p99_ms\":%.3f,\"normal_p50_ms\":%.2f,\"normal_p99_ms\":%.2f,\"overload_p99_ms\":%.2f,"
                    + "\"after_p99_ms\":%.2f,\"recovery_ms\":%.0f,\"memory_growth_mb\":%.1f,\"node_rss_mb\":[%@],"
                    + "\"passed\":%@}", peak, offered, goodput, goodput / max(peak, 1), refused, late, refusalP50,
                refusalP99, normalP50, normalP99, overloadP99, afterP99, recoveryMilliseconds, memoryGrowth, memory,
                failures.isEmpty ? "true" : "false")
        }
    }

    func run() async throws {
        let cluster = nodes > 1 ? try ClusterOfProcesses(nodes, runs: .load) : nil
        defer { cluster?.stop() }
        let node = cluster == nil ? try ChildProcess(["load-node"]) : nil
        defer { node?.stop() }
        try await cluster?.waitForCopies(min(nodes, 3))
        let client = try await LoadPipelines.client(at: cluster?.addresses ?? [node?.address ?? ""])
        let processes = (cluster?.nodes ?? [node].compactMap { $0 }).map(\.id)
        let inbox = try await client.inbox(of: LoadPipelines.overload)
        let quiet = min(3, max(duration / 4, 0.5))
        var result = Result()
        let batch = (10_000 - LoadPipelines.slow.fixedMicroseconds) / LoadPipelines.slow.itemMicroseconds
        let half = Arrivals(rate: LoadPipelines.slow.rate(batch) / 2)
        _ = try await half.ask(inbox, seconds: quiet)

        let normal = try await half.ask(inbox, seconds: quiet, deadline: Self.deadline).answers.latency(of: .answered)
        result.normalP50 = normal.microseconds(percentile: 50) / 1000
        result.normalP99 = normal.microseconds(percentile: 99) / 1000
        let peak = try await ClosedLoop.measure(tasks: 256, seconds: quiet, children: processes) { turn in
            guard try await inbox.ask(turn) == turn + 1 else { throw BenchmarkError("\(turn) has a wrong answer") }
            return 1
        }
        result.peak = peak.itemsPerSecond
        print(
            String(
                format: "normal p50 %.2f ms, p99 %.2f ms; peak %.0f/s; load average %.1f", result.normalP50,
                result.normalP99, result.peak, loadAverage()))

        let before = try await stage(client)
        let memory = try MemoryCurve(of: processes)
        let overload = Arrivals(rate: times * result.peak)
        async let offered = overload.ask(inbox, seconds: duration, deadline: Self.deadline)
        try await Task.sleep(for: .seconds(duration))
        let during = try await stage(client)
        let batches = max(during.batches - before.batches, 1)
        let (fixed, item) = (LoadPipelines.slow.fixedMicroseconds, LoadPipelines.slow.itemMicroseconds)
        let items = (during.items - before.items) / batches
        print(
            String(
                format: "stage      %.1f items a batch, %.2f ms a batch, where %.2f ms are its work", items,
                (during.busy - before.busy) * 1000 / batches, (fixed + item * items) / 1000))
        result.nodeMemory = memory.stop()
        // The load goes on, at half of what the stage can do, while the last of the overload is still waiting.
        let after = try await half.ask(inbox, seconds: quiet, deadline: Self.deadline).answers
        let answers = try await offered.answers
        await client.close()
        fill(&result, answers, after)
        show(result)
        print(result.json)
        if !result.failures.isEmpty, !report { throw ExitCode.failure }
    }

    /// Batches, items and seconds of the stage, wherever its instance is.
    private func stage(_ client: Client) async throws -> (batches: Double, items: Double, busy: Double) {
        let stages = try await client.status().flatMap(\.stages).filter { $0.pipeline == "overload" }
        guard !stages.isEmpty else { throw BenchmarkError("the nodes say nothing of the stage") }
        return stages.reduce((0, 0, 0)) { sum, stage in
            (
                sum.0 + Double(stage.batches), sum.1 + Double(stage.items),
                sum.2 + Double(stage.busyNanoseconds) / 1e9
            )
        }
    }

    private func fill(
        _ result: inout Result, _ answers: [Arrivals.Answer], _ after: [Arrivals.Answer]
    ) {
        let all = Double(answers.count)
        result.offered = all / duration
        result.goodput = Double(answers.count(of: .answered)) / duration
        result.refused = Double(answers.count(of: .refused)) / all
        result.late = Double(answers.count(of: .late)) / all
        let refusals = answers.latency(of: .refused, fromAsking: true)
        if !refusals.isEmpty {
            result.refusalP50 = refusals.microseconds(percentile: 50) / 1000
            result.refusalP99 = refusals.microseconds(percentile: 99) / 1000
        }
        result.overloadP50 = answers.latency(of: .answered).microseconds(percentile: 50) / 1000
        result.overloadP99 = answers.latency(of: .answered).microseconds(percentile: 99) / 1000
        result.afterP99 = after.latency(of: .answered).microseconds(percentile: 99) / 1000
        result.recoveryMilliseconds = recovery(after, normal: result.normalP99)
    }

    /// Until the first 50 ms in which nearly all are answered as fast as nearly all were before, in ms.
    private func recovery(_ answers: [Arrivals.Answer], normal: Double) -> Double {
        let window: UInt64 = 50_000_000
        var start: UInt64 = 0
        while start < 60_000_000_000 {
            let those = answers.filter { $0.due >= start && $0.due < start + window }
            let good = those.count { $0.ending == .answered && Double($0.took) / 1e6 <= 1.5 * normal }
            if !those.isEmpty, Double(good) >= 0.95 * Double(those.count) { return Double(start) / 1e6 }
            start += window / 5
        }
        return .infinity
    }

    private func show(_ result: Result) {
        print(
            String(
                format: """
                    offered    %.0f/s for %g s, %.1f times the peak
                    goodput    %.0f/s, %.1f %% of the peak; p50 %.1f ms, p99 %.1f ms of the 100 ms that they had
                    refused    %.2f %% before acceptance, in %.2f ms (p50), %.2f ms (p99)
                    late       %.3f %% accepted, and ended by their deadline
                    recovery   %.0f ms after the overload latency was normal; p99 of all since then %.2f ms
                    """, result.offered, duration, result.offered / result.peak, result.goodput,
                100 * result.goodput / result.peak, result.overloadP50, result.overloadP99, 100 * result.refused,
                result.refusalP50,
                result.refusalP99, 100 * result.late, result.recoveryMilliseconds, result.afterP99))
        let curve = result.nodeMemory.map { String(format: "%.0f", $0) }.joined(separator: " ")
        print("memory     \(nodes == 1 ? "node" : "\(nodes) nodes'") MB over the overload: \(curve)")
        for failure in result.failures { print("MISSED     \(failure)") }
    }
}

/// Resident memory of processes together, twice a second.
final class MemoryCurve: Sendable {
    private let processes: [Int32]
    private let samples = Mutex<[Double]>([])
    private let isOver = Atomic<Bool>(false)

    init(of processes: [Int32]) throws {
        self.processes = processes
        try sample()
        Thread { [self] in
            while !isOver.load(ordering: .relaxed) {
                Thread.sleep(forTimeInterval: 0.5)
                do { try sample() } catch { return }
            }
        }.start()
    }

    private func sample() throws {
        let bytes = try processes.reduce(0) { sum, process in
            let text = try String(contentsOfFile: "/proc/\(process)/statm", encoding: .utf8)
            let fields = text.split(separator: " ")
            guard fields.count > 1, let pages = Double(fields[1]) else {
                throw BenchmarkError("no memory of \(process)")
            }
            return sum + pages * Double(sysconf(Int32(_SC_PAGESIZE)))
        }
        samples.withLock { $0.append(bytes / 1e6) }
    }

    func stop() -> [Double] {
        isOver.store(true, ordering: .relaxed)
        return samples.withLock { $0 }
    }
}
