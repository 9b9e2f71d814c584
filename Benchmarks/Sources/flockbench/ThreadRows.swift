// Flockwork · Apache-2.0 · see LICENSE

// What a thread of its own costs an instance: the same pipeline with batches of one row, on Swift's pool and on a
// thread. Its model is one multiplication, so that nothing but the way to it is measured.

import Flockwork

enum ThreadRows {
    static let names = ["ask-pool", "ask-own", "job-pool", "job-own"]

    private struct Doubling: Model {
        let inputWidth = 1
        let outputWidth = 1
        func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) {
            rows.withElements { elements in
                for row in elements.indices { scores[row] = 2 * elements[row] }
            }
        }
    }

    private static func pipeline(_ thread: StageThread) -> Pipeline<Row, Float> {
        Pipeline("thread-\(thread)", rowsOf: 1).model(.swift(Doubling()), batch: .upTo(1), thread: thread)
    }

    static func measure(_ run: Run) async throws {
        let pool = try await run.latency("models", names[0], must: "one request at a time, in process, on the pool") {
            try await ask(pipeline(.pool), seconds: $0)
        }
        try await run.latency("models", names[1], limit: pool, must: "the same on a thread of the instance") {
            try await ask(pipeline(.own), seconds: $0)
        }
        try await run.ratesByTurns(
            "models",
            [
                .init(name: names[2], must: "a job of batches of one row, 4 lanes, on the pool") {
                    try await job(pipeline(.pool), seconds: $0)
                },
                .init(name: names[3], must: "the same on threads of the lanes") {
                    try await job(pipeline(.own), seconds: $0)
                },
            ])
    }

    private static func ask(_ pipeline: Pipeline<Row, Float>, seconds: Double) async throws -> Measured {
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        let inbox = try await node.inbox(of: pipeline)
        let measured = try await ClosedLoop.measure(tasks: 1, seconds: seconds, children: []) { turn in
            let number = Float(turn % 1000)
            guard try await inbox.ask([number]) == 2 * number else { throw BenchmarkError("a wrong answer") }
            return 1
        }
        await node.shutDown()
        return measured
    }

    private static func job(_ pipeline: Pipeline<Row, Float>, seconds: Double) async throws -> Measured {
        let row = Rows<Float>([21], width: 1)
        let done = Counter()
        let wrong = Counter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        let meter = try Meter()
        let source = GeneratedSource<Row> { monotonicNanoseconds() < end ? Batch(row) : nil }
        let sink = ClosureSink<Float> { batch in
            done.add(batch.count)
            if batch.withScores({ $0.first }) != 42 { wrong.add(1) }
        }
        _ = try await pipeline.run(from: source, into: sink, lanes: ModelsSuite.threads)
        guard wrong.value == 0 else { throw BenchmarkError("\(wrong.value) wrong answers") }
        return try meter.stop(items: done.value)
    }
}
