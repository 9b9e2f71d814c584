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

    /// The same struct as its own bytes.
    static let records = Pipeline("record16", of: PlainFeatures.self).map { $0.score }

    static let items: [Features] = (0..<65_536).map { Features(Dataset.rows[$0]) }

    static let plainItems: [PlainFeatures] = (0..<65_536).map { PlainFeatures(Dataset.rows[$0]) }

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
        let node = Node(pipelines: rows, structs, records, configuration: configuration)
        try await node.start()
        guard let port = node.port else { throw BenchmarkError("the node has no port") }
        ChildProcess.isReady(port: port)
        try await ChildProcess.waitForTheEnd()
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
