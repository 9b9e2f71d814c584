// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockTestKit
import Flockwork
import Testing

struct Doubling: Model {
    var inputWidth: Int { 4 }
    var outputWidth: Int { 1 }
    func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        rows.withElements { elements in
            for row in 0..<rows.count { scores[row] = 2 * elements[row * 4] }
        }
    }
}

@Suite("The spine")
struct SmokeTests {
    static func configuration() -> NodeConfiguration {
        NodeConfiguration(id: "node-1", port: 0)
    }

    @Test("an ask over TCP comes back with the model's score")
    func askOverTCP() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        let node = Node(pipelines: pipeline, configuration: Self.configuration())
        try await node.start()
        let port = try #require(node.port)
        let client = try await Client.connect(to: "127.0.0.1:\(port)")
        let inbox = try await client.inbox(of: pipeline)
        for value in 0..<100 {
            #expect(try await inbox.ask([Float(value), 0, 0, 0]) == Float(2 * value))
        }
        await client.close()
        await node.shutDown()
    }

    @Test("a bounded job scores every row once")
    func boundedJob() async throws {
        let rows = Rows((0..<40_000).map { Float($0 / 4) }, width: 4)
        let sink = ArraySink<Float>()
        let report = try await Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
            .run(from: RowsSource(rows, batchSize: 128), into: sink, lanes: 4)
        #expect(report.items == 10_000)
        #expect(sink.items == (0..<10_000).map { Float(2 * $0) })
    }
}
