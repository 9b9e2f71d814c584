// Flockwork · Apache-2.0 · see LICENSE

// Rows that no model was trained on, through a whole node: what each kind of model makes of them, and that the rows
// beside them get what they get without them.

import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

@Suite("Through a node, a model of each kind", .timeLimit(.minutes(1)), .serialized)
struct OddInputTests {
    /// A kind whose good file takes four features, with as many scores as classes.
    private func pipeline(_ kind: ModelKind) async throws -> Pipeline<Row, Row> {
        let model = try await kind.source(kind.good).load()
        return Pipeline("odd", rowsOf: model.inputWidth)
            .model(kind.source(kind.good), outputs: model.outputWidth, batch: .upTo(256))
    }

    private func rows(_ count: Int, width: Int) -> [Row] {
        (0..<count).map { row in Row((0..<width).map { Float((row * 7 + $0 * 3) % 31) / 8 }) }
    }

    private func outcomes(_ inbox: Inbox<Row, Row>, _ rows: [Row]) async throws -> [Outcome<Row>] {
        let tickets = try await inbox.post(rows)
        let places = Dictionary(uniqueKeysWithValues: zip(tickets, rows.indices))
        var outcomes: [Int: Outcome<Row>] = [:]
        for await (ticket, outcome) in inbox.outbox() {
            outcomes[try #require(places[ticket])] = outcome
            if outcomes.count == rows.count { break }
        }
        return try rows.indices.map { try #require(outcomes[$0]) }
    }

    @Test("takes NaN and infinities in its rows, and the rows beside them are as ever", arguments: ModelKind.here)
    func notFinite(kind: ModelKind) async throws {
        let pipeline = try await pipeline(kind)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let width = try await kind.source(kind.good).load().inputWidth
            let good = rows(256, width: width)
            let clean = try await outcomes(inbox, good)
            var odd = good
            odd[7].values[1] = .nan
            odd[13].values[2] = .infinity
            odd[21].values[0] = -.infinity
            odd[22] = Row(Array(repeating: .nan, count: width))
            let found = try await outcomes(inbox, odd)
            check(kind, missing: [found[7], found[22]], infinite: [found[13], found[21]])
            for index in good.indices where ![7, 13, 21, 22].contains(index) {
                guard case .value(let one) = clean[index], case .value(let other) = found[index] else {
                    Issue.record("row \(index): \(clean[index]), \(found[index])")
                    return
                }
                #expect(zip(one.values, other.values).allSatisfy { abs($0 - $1) <= 1e-5 * max(1, abs($0)) })
            }
        }
    }

    /// Sums of products with them are no numbers; trees take NaN for missing and compare infinities as they are.
    private func check(_ kind: ModelKind, missing: [Outcome<Row>], infinite: [Outcome<Row>]) {
        for (outcome, isInfinite) in missing.map({ ($0, false) }) + infinite.map({ ($0, true) }) {
            switch (kind, outcome) {
            case (.linear, .value(let scores)), (.onnx, .value(let scores)):
                #expect(scores.values.allSatisfy { $0.isNaN })
            case (.xgboostUBJ, .value(let scores)), (.lightgbm, .value(let scores)):
                #expect(scores.values.allSatisfy { $0 > 0 && $0 < 1 })
            case (.xgboostJSON, .value(let scores)): #expect(!isInfinite && scores.values[0].isFinite)
            case (.xgboostJSON, .failure(let error)):
                // A linear booster goes by a matrix, and that takes no infinities.
                #expect(isInfinite && error == .stageFailed && error.message.contains("`inf`"))
            default: Issue.record("\(kind): \(outcome)")
            }
        }
    }

    @Test("takes no rows of another width, nor of none: the caller hears of both widths", arguments: ModelKind.here)
    func widths(kind: ModelKind) async throws {
        let right = try await kind.source(kind.good).load()
        let width = right.inputWidth
        let wrong = Pipeline("wrong", rowsOf: width + 1)
            .model(kind.source(kind.good), outputs: right.outputWidth, batch: .upTo(256))
        let mixed = Pipeline("mixed", of: Int.self)
            .map { Row(Array(repeating: 1, count: $0)) }
            .model(kind.source(kind.good), outputs: right.outputWidth)
        try await testCluster(wrong, mixed) { flock in
            let inbox = try await flock.client.inbox(of: wrong)
            for width in [0, width, width + 2] {
                let error = await #expect(throws: FlockError.self) {
                    try await inbox.post([Row(Array(repeating: 1, count: width))])
                }
                #expect(error?.code == .invalidInput)
            }
            let error = await #expect(throws: FlockError.self) {
                try await inbox.ask(Row(Array(repeating: 1, count: width + 1)))
            }
            #expect(error?.code == .invalidInput)
            #expect(error?.message.contains("rows of \(width) floats, not of \(width + 1)") == true)

            // Made by a stage: one row without a number and one too wide among 64.
            let items = (0..<64).map { [5: 0, 40: width + 1][$0] ?? width }
            let other = try await flock.client.inbox(of: mixed)
            let tickets = try await other.post(items)
            let sizes = Dictionary(uniqueKeysWithValues: zip(tickets, items))
            var seen = 0
            for await (ticket, outcome) in other.outbox() {
                seen += 1
                if case .failure(let error) = outcome {
                    #expect(sizes[ticket] != width && error == .invalidInput, "\(error)")
                } else {
                    #expect(sizes[ticket] == width)
                }
                if seen == items.count { break }
            }
        }
    }

    @Test("computes on threads of its instances if a library does", arguments: ModelKind.here)
    func threads(kind: ModelKind) async throws {
        let model = try await kind.source(kind.good).load()
        let name = String(String(describing: type(of: model)).prefix(13))
        let pipeline = Pipeline("threads", rowsOf: model.inputWidth)
            .model(kind.source(kind.good), outputs: model.outputWidth, instances: .perNode(3))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            #expect(try await outcomes(inbox, rows(9, width: model.inputWidth)).allSatisfy { $0 != .filtered })
            // A thread gives itself its name when it first runs. Other tests may have nodes with such models.
            try await eventually { try kind == .linear || threadCount(name + "-") >= 3 }
            if kind == .linear { #expect(try threadCount(name + "-") == 0) }
        }
    }

    private func threadCount(_ prefix: String) throws -> Int {
        let tasks = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")
        // A thread may end between the two looks.
        let names = tasks.compactMap { try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8) }
        return names.filter { $0.hasPrefix(prefix) }.count
    }

    @Test("is in a library whose file can be asked for")
    func libraries() throws {
        if Cases.hasXGBoost { #expect(try ModelLibrary.xgboost.load().contains("libxgboost.so")) }
        if Cases.hasLightGBM { #expect(try ModelLibrary.lightGBM.load().contains("lib_lightgbm.so")) }
        if Cases.hasONNX { #expect(try ModelLibrary.onnxRuntime.load().contains("libonnxruntime.so")) }
    }

    @Test("is not called for empty batches", arguments: ModelKind.here)
    func empty(kind: ModelKind) async throws {
        let model = try await kind.source(kind.good).load()
        #expect(try model.score(Rows([Float](), width: model.inputWidth)).count == 0)
        let pipeline = try await pipeline(kind)
        let left = Empty(batches: [0, 3, 0], width: model.inputWidth)
        let sink = ArraySink<Row>()
        let report = try await pipeline.run(from: GeneratedSource { left.next() }, into: sink, lanes: 1)
        #expect(report.items == 3 && report.batches == 3 && report.failed == 0 && sink.items.count == 3)
        let none = Pipeline("none", rowsOf: model.inputWidth)
            .filter { _ in false }.model(kind.source(kind.good), outputs: model.outputWidth)
        try await testCluster(none) { flock in
            let inbox = try await flock.client.inbox(of: none)
            #expect(try await inbox.post([Row]()).count == 0)
            #expect(try await outcomes(inbox, rows(9, width: model.inputWidth)).allSatisfy { $0 == .filtered })
        }
    }
}

/// Batches of rows of ones, so many in each.
private final class Empty: Sendable {
    private let sizes: Mutex<[Int]>
    private let width: Int

    init(batches: [Int], width: Int) {
        sizes = Mutex(batches)
        self.width = width
    }

    func next() -> Batch<Row>? {
        let size = sizes.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        return size.map { Batch(Rows(Array(repeating: 1, count: $0 * width), width: width)) }
    }
}
