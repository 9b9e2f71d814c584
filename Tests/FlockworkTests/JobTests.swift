// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Testing

@Suite("A bounded job", .timeLimit(.minutes(1)))
struct JobTests {
    @Test("scores every row once, and its sink has them in the order of the source")
    func rows() async throws {
        let rows = Rows((0..<40_000).map { Float($0 / 4) }, width: 4)
        let sink = ArraySink<Float>()
        let report = try await Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
            .run(from: RowsSource(rows, batchSize: 128), into: sink, lanes: 4)
        #expect(report.items == 10_000 && report.batches == 79 && report.failed == 0)
        #expect(sink.items == (0..<10_000).map { Float(2 * $0) })
    }

    @Test("goes on behind a bad item, and reports where it was")
    func badItem() async throws {
        let sink = ArraySink<Int>()
        let report = try await Pipeline("unlucky", of: Int.self).stage(Superstitious.init)
            .run(from: ArraySource(Array(0..<100), batchSize: 32), into: sink, lanes: 2)
        #expect(report.failed == 1)
        #expect(report.failures.map(\.position) == [13])
        #expect(sink.items == (0..<100).filter { $0 != 13 })
    }

    @Test("filters through several lanes and keeps count")
    func filter() async throws {
        let sink = ArraySink<Int>()
        let report = try await Pipeline("lanes", of: Int.self).filter { $0 % 2 == 0 }
            .stage(instances: .perNode(1), AddOne.init).filter { $0 % 3 != 0 }
            .stage(instances: .perNode(2), AddOne.init)
            .run(from: ArraySource(Array(0..<100), batchSize: 7), into: sink, lanes: 3)
        let expected = (0..<100).filter { $0 % 2 == 0 && ($0 + 1) % 3 != 0 }.map { $0 + 2 }
        #expect(sink.items == expected)
        #expect(report.filtered == 100 - expected.count, "\(report)")
    }

    @Test("ends with the error of its sink")
    func sinkFails() async throws {
        await #expect(throws: Bad.self) {
            try await Pipeline("one", of: Int.self)
                .run(from: ArraySource(Array(0..<100)), into: ClosureSink<Int> { _ in throw Bad() }, lanes: 2)
        }
    }

    @Test("of an empty source does nothing")
    func empty() async throws {
        let report = try await Pipeline("one", of: Int.self)
            .run(from: ArraySource([Int]()), into: ArraySink<Int>(), lanes: 2)
        #expect(report == JobReport())
    }
}
