// Flockwork · Apache-2.0 · see LICENSE

// What the pipeline adds to a library. The model is trained at the start, by the library itself: 100 trees of depth 6
// on 16 features. All rows are distinct: the same few again would teach the branch predictor the trees.

import Flockwork
import Foundation

/// XGBoost through a pipeline, against as many threads that call the C function themselves.
enum ModelsSuite {
    static let threads = 4
    static let batch = 256
    static let rowCount = 1 << 18
    private static let names = ["xgboost-batch256", "xgboost-pool256", "xgboost-inbox256"]

    static func measure(_ run: Run) async throws {
        try await ThreadRows.measure(run)
        let library: String
        do {
            library = try ModelLibrary.xgboost.load()
        } catch {
            run.skip("models", names, because: error.message)
            return
        }
        let folder = FileManager.default.temporaryDirectory.appending(path: "flockbench-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { removeFolder(folder) }
        let file = folder.appending(path: "model.ubj").path
        let rows = Dataset.rows.slice(from: 0, count: rowCount)
        let raw = try train(library, on: rows)
        try raw.save(to: file)
        // Loaded here, so that no row measures that.
        let model = ModelSource.swift(try await ModelSource.xgboost(file).load())
        let bare = BareBatches(raw, rows)
        let own = Pipeline("own", rowsOf: Dataset.width).model(model, batch: .upTo(batch))
        let pool = Pipeline("pool", rowsOf: Dataset.width).model(model, thread: .pool)
        try await run.ratesByTurns(
            "models",
            [
                .init(name: "bare-xgboost", must: "the limit of the rows below") { try bare.measure(seconds: $0) },
                .init(name: names[0], must: "ratio 0.85 (aim 0.95)") { try await bare.job(own, seconds: $0) },
                .init(name: names[1], must: "as above, on Swift's pool") { try await bare.job(pool, seconds: $0) },
                .init(name: names[2], must: "as above, posted to an inbox") {
                    try await inbox(own, rows, bare.scores, seconds: $0)
                },
            ])
    }

    private static func removeFolder(_ folder: URL) {
        do { try FileManager.default.removeItem(at: folder) } catch { print("left behind: \(folder.path): \(error)") }
    }

    /// A sum of waves and products, with enough noise that no leaf is pure.
    private static func train(_ library: String, on rows: Rows<Float>) throws -> RawXGBoost {
        let count = 1 << 15
        let noise = Dataset.makeRows(count: count, seed: 11)
        let labels = (0..<count).map { index -> Float in
            let row = rows[index]
            var label = noise[index][0] / 4
            for (feature, value) in row.enumerated() { label += sin(Float(feature + 2) * value) }
            return label + 4 * row[0] * row[1] - 3 * row[2] * row[3] * row[4]
        }
        return try rows.slice(from: 0, count: count).withElements { elements in
            try RawXGBoost(path: library, rows: elements, width: Dataset.width, labels: labels, trees: 100)
        }
    }

    /// Runs of 64 posted to a node of this process, which makes its own batches of up to 256.
    private static func inbox(
        _ pipeline: Pipeline<Row, Float>, _ rows: Rows<Float>, _ scores: [Float], seconds: Double
    ) async throws -> Measured {
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        let inbox = try await node.inbox(of: pipeline)
        let run = InboxSuite.run
        let posting = Posting(inbox: inbox, runs: rows.count / run, expected: scores) { index in
            try await inbox.post(rows.slice(from: index * run, count: run), until: .buffered)
        }
        let measured: Measured
        do {
            measured = try await posting.measure(seconds: seconds)
        } catch {
            await node.shutDown()
            throw error
        }
        await node.shutDown()
        return measured
    }
}

/// The rows in batches, as the C function takes them, and its own answers.
private final class BareBatches: Sendable {
    private let raw: RawXGBoost
    private let rows: Rows<Float>
    private let interfaces: [[CChar]]
    let scores: [Float]
    private let sums: [Float]

    init(_ raw: RawXGBoost, _ rows: Rows<Float>) {
        self.raw = raw
        self.rows = rows
        interfaces = stride(from: 0, to: rows.count, by: ModelsSuite.batch).map { first in
            rows.slice(from: first, count: ModelsSuite.batch).withElements { elements in
                Array(RawXGBoost.interface(elements, width: Dataset.width).utf8CString)
            }
        }
        scores = interfaces.flatMap { raw.predict($0) }
        sums = stride(from: 0, to: rows.count, by: ModelsSuite.batch).map { [scores] first in
            scores[first..<first + ModelsSuite.batch].withUnsafeBufferPointer(Self.sum)
        }
    }

    private static func sum(_ scores: UnsafeBufferPointer<Float>) -> Float {
        scores.baseAddress.map { Dataset.sum($0, count: scores.count) } ?? 0
    }

    /// Each thread predicts and sums every fourth batch until the time is up.
    func measure(seconds: Double) throws -> Measured {
        let tally = Tally()
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        onThreads(ModelsSuite.threads) { [self] thread in
            var batch = thread
            var count = 0
            var total: Float = 0
            while monotonicNanoseconds() < end {
                total += Self.sum(raw.predict(interfaces[batch]))
                count += ModelsSuite.batch
                batch = (batch + ModelsSuite.threads) % interfaces.count
            }
            tally.add(items: count, sum: Double(total))
        }
        return try meter.stop(items: tally.items)
    }

    /// The bounded job over the same batches, again and again until the time is up.
    func job(_ pipeline: Pipeline<Row, Float>, seconds: Double) async throws -> Measured {
        let turn = Counter()
        let done = Counter()
        let wrong = Counter()
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        let source = GeneratedSource<Row> { [self] in
            guard monotonicNanoseconds() < end else { return nil }
            let block = turn.next() % sums.count
            var batch = Batch(rows.slice(from: block * ModelsSuite.batch, count: ModelsSuite.batch))
            batch.position = block
            return batch
        }
        let sink = ClosureSink<Float> { [self] batch in
            done.add(batch.count)
            if abs(batch.withScores(Self.sum) - sums[batch.position]) > 1e-3 { wrong.add(1) }
        }
        let report = try await pipeline.run(from: source, into: sink, lanes: ModelsSuite.threads)
        let measured = try meter.stop(items: done.value)
        guard wrong.value == 0, report.failed == 0, report.items == done.value else {
            throw BenchmarkError("\(wrong.value) batches with a wrong sum, \(report.items) in, \(done.value) out")
        }
        return measured
    }
}
