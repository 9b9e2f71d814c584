// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Logging

/// The pipelines that both processes know, and the answers that the model itself gives.
enum Served {
    static let clusterID = "flockbench"
    static let tolerance: Float = 1e-5

    static let source = ModelSource(name: "linear16") {
        try LinearModel(weights: Dataset.weights, bias: [Dataset.bias], inputWidth: Dataset.width)
    }

    /// Raw rows through the library's linear model.
    static let rows = Pipeline("linear16", rowsOf: Dataset.width).model(source)

    /// The same with one instance only, so that all producers meet in one mailbox.
    static let mailbox = Pipeline("mailbox16", rowsOf: Dataset.width).model(source, instances: .total(1))

    /// A `Codable` struct and a closure per item.
    static let structs = Pipeline("struct16", of: Features.self).map { $0.score }

    static let items: [Features] = (0..<65_536).map { Features(Dataset.rows[$0]) }

    /// Rows to ask with.
    static let questions: [[Float]] = (0..<65_536).map { Dataset.rows[$0] }

    /// The answer of each row of the dataset.
    static let expected: [Float] = Dataset.rows.withElements { elements in
        [Float](unsafeUninitializedCapacity: Dataset.rowCount) { target, count in
            if let rows = elements.baseAddress, let scores = target.baseAddress {
                Dataset.score(rows, count: Dataset.rowCount, into: scores)
                count = Dataset.rowCount
            }
        }
    }

    /// The sum of the answers of each block of 1,024 rows.
    static let blockSums: [Float] = expected.withUnsafeBufferPointer { expected in
        stride(from: 0, to: expected.count, by: Dataset.batch).map { block in
            expected.baseAddress.map { Dataset.sum($0 + block, count: Dataset.batch) } ?? 0
        }
    }

    /// What the node process runs.
    static func serve(busyPoll: Bool) async throws {
        var configuration = NodeConfiguration()
        configuration.id = NodeID("bench-node")
        configuration.port = 0
        configuration.clusterID = clusterID
        configuration.logger = .quiet
        configuration.busyPoll = busyPoll
        let node = Node(pipelines: rows, structs, configuration: configuration)
        try await node.start()
        guard let port = node.port else { throw BenchmarkError("the node has no port") }
        ChildProcess.isReady(port: port)
        try await ChildProcess.waitForTheEnd()
    }
}

/// 16 features as a user would write them.
struct Features: Codable, Sendable {
    var a: Float, b: Float, c: Float, d: Float, e: Float, f: Float, g: Float, h: Float
    var i: Float, j: Float, k: Float, l: Float, m: Float, n: Float, o: Float, p: Float

    init(_ row: some Collection<Float>) {
        let row = Array(row)
        (a, b, c, d, e, f, g, h) = (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
        (i, j, k, l, m, n, o, p) = (row[8], row[9], row[10], row[11], row[12], row[13], row[14], row[15])
    }

    /// The linear model, written out.
    @inline(__always)
    var score: Float {
        let w = Weights.all
        let left = (a * w.0 + b * w.1) + (c * w.2 + d * w.3) + ((e * w.4 + f * w.5) + (g * w.6 + h * w.7))
        let right = (i * w.8 + j * w.9) + (k * w.10 + l * w.11) + ((m * w.12 + n * w.13) + (o * w.14 + p * w.15))
        return left + right + Dataset.bias
    }

    private enum Weights {
        typealias Sixteen = (
            Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float,
            Float
        )
        static let all: Sixteen = {
            let w = Dataset.weights
            return (
                w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]
            )
        }()
    }
}

extension Logger {
    /// Warnings only: the table is what people came for.
    static var quiet: Logger {
        var logger = Logger(label: "flockbench")
        logger.logLevel = .warning
        return logger
    }
}
