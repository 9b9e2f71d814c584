// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Synchronization

/// The bounded job and the open loop, within one process.
enum NativeSuite {
    static let lanes = 4

    static func measure(_ run: Run) async throws {
        let limit = try await run.rate("native", "bare-loop", must: "the limit of the rows below") {
            try Dataset.bareLoop(threads: lanes, seconds: $0)
        }
        try await run.rate(
            "native", "batch-linear16", limit: limit, must: "300 M/s, 12.5 ns, ratio 0.35 (aim 1,200 M/s, 0.8)"
        ) { seconds in
            try await job(Served.rows, seconds: seconds) { block in
                Batch(Dataset.rows.slice(from: block * Dataset.batch, count: Dataset.batch))
            }
        }
        let batches = Dataset.structBatches()
        try await run.rate(
            "native", "batch-struct16", limit: limit, must: "80 M/s, 50 ns (aim 300 M/s)"
        ) { seconds in
            try await job(Served.structs, seconds: seconds) { Batch(batches[$0]) }
        }
        try await run.latency("native", "stream-100k", must: "0.06 / 0.4 ms, 0.6 cores (aim 0.03 / 0.08)") {
            try await OpenLoop.measure(seconds: $0)
        }
    }

    /// Goes through the dataset's blocks again and again until the time is up.
    private static func job<Item: Codable & Sendable>(
        _ pipeline: Pipeline<Item, Float>, seconds: Double, batch: @escaping @Sendable (_ block: Int) -> Batch<Item>
    ) async throws -> Measured {
        let blocks = Dataset.rowCount / Dataset.batch
        let sums = Served.blockSums
        let turn = Counter()
        let done = Counter()
        let wrong = Counter()
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        let source = GeneratedSource<Item> {
            guard monotonicNanoseconds() < end else { return nil }
            let block = turn.next() % blocks
            var batch = batch(block)
            batch.position = block
            return batch
        }
        let sink = ClosureSink<Float> { batch in
            let sum = batch.withScores { scores in
                scores.baseAddress.map { Dataset.sum($0, count: scores.count) } ?? 0
            }
            done.add(batch.count)
            if abs(sum - sums[batch.position]) > 0.01 { wrong.add(1) }
        }
        let report = try await pipeline.run(from: source, into: sink, lanes: lanes)
        let measured = try meter.stop(items: done.value)
        guard wrong.value == 0, report.failed == 0, report.items == done.value else {
            throw BenchmarkError(
                "\(wrong.value) batches with a wrong sum, \(report.items) items in, \(done.value) out")
        }
        return measured
    }
}

/// A counter that several tasks share.
final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    func add(_ more: Int) { count.add(more, ordering: .relaxed) }
    func next() -> Int { count.add(1, ordering: .relaxed).oldValue }
    var value: Int { count.load(ordering: .relaxed) }
}
