// Flockwork · Apache-2.0 · see LICENSE

import FlockModels
import FlockWire
import Foundation
import Testing

/// Trees: a table of inputs and a table of what the reference library predicts.
@Suite struct TableCaseTests {
    private static let xgboostCases = Cases.folders("xgboost", holding: "model.json")
    private static let lightGBMCases = Cases.folders("lightgbm", holding: "model.txt")

    @Test(
        "XGBoost predicts what the reference does, from JSON and from UBJSON",
        .enabled(
            if: Cases.canRun("xgboost", xgboostCases) { try Cases.loadXGBoost() },
            "see the line NOT RUN above"), arguments: xgboostCases)
    func xgboost(folder: CaseFolder) async throws {
        for name in ["model.json", "model.ubj"] where folder.has(name) {
            let model = try await ModelSource.xgboost(folder.file(name)).load()
            try check(model, folder, relative: 2e-6)
        }
    }

    @Test(
        "LightGBM predicts what the reference does",
        .enabled(
            if: Cases.canRun("lightgbm", lightGBMCases) { try Cases.loadLightGBM() },
            "see the line NOT RUN above"), arguments: lightGBMCases)
    func lightGBM(folder: CaseFolder) async throws {
        try check(try await ModelSource.lightgbm(folder.file("model.txt")).load(), folder, relative: 2e-6)
    }

    @Test("all cases are asked for where the cases are", .enabled(if: Cases.wantsAll, "only with `make test-libs`"))
    func present() {
        #expect(!Self.xgboostCases.isEmpty && !Self.lightGBMCases.isEmpty, "no cases in \(Cases.root.path)")
    }

    /// Compares the scores of one batch with the table, and other batch sizes with that batch.
    private func check(_ model: any Model, _ folder: CaseFolder, relative: Double) throws {
        let rows = try folder.rows()
        let expected = try Expected(folder.table("expected.csv"))
        try #require(rows.count == expected.count && rows.width == model.inputWidth)
        let scores = try model.score(rows).elements
        try #require(scores.count == rows.count * model.outputWidth)
        expected.check(scores, width: model.outputWidth, relative: relative)
        for size in [1, 7] {
            var first = 0
            while first < rows.count {
                let count = min(size, rows.count - first)
                let part = try model.score(rows.slice(from: first, count: count)).elements
                let whole = scores[first * model.outputWidth..<(first + count) * model.outputWidth]
                #expect(part.elementsEqual(whole), "rows \(first) to \(first + count) in a batch of their own")
                first += count
            }
        }
    }
}

extension Cases {
    // A model that is here: some formats are looked into before their library is looked for.
    static func loadXGBoost() throws { _ = try XGBoostModel(path: Fixture.path("iris-softprob.ubj")) }
    static func loadLightGBM() throws { _ = try LightGBMModel(path: Fixture.path("iris-lightgbm.txt")) }
    static func loadONNX() throws { _ = try ONNXSession(path: Fixture.path("iris-tensor.onnx")) }
}

/// The table of expected outputs: `_target`, `_target1` … are values, or with `probability(…)` columns a label.
private struct Expected {
    private let labels: [String]
    private let values: [[Double]]
    private let hasProbabilities: Bool

    var count: Int { values.count }

    init(_ table: (names: [String], rows: [[String]])) throws {
        let probabilities = table.names.indices.filter { table.names[$0].hasPrefix("probability(") }
        let targets = table.names.indices.filter { table.names[$0].hasPrefix("_target") }
        hasProbabilities = !probabilities.isEmpty
        let columns = hasProbabilities ? probabilities : targets
        try #require(!columns.isEmpty)
        values = try table.rows.map { row in try columns.map { try #require(Double(row[$0])) } }
        labels = table.rows.map { row in targets.first.map { row[$0] } ?? "" }
    }

    func check(_ scores: [Float], width: Int, relative: Double) {
        var wrong = 0
        var worst = 0.0
        var classes: [String: Int] = [:]
        for row in values.indices {
            let found = scores[row * width..<(row + 1) * width].map { Double($0) }
            // A model with two classes gives the probability of the second.
            let full = hasProbabilities && width == 1 ? [1 - found[0], found[0]] : found
            guard full.count == values[row].count else {
                Issue.record("\(full.count) scores where \(values[row].count) are expected")
                return
            }
            for (score, value) in zip(full, values[row]) {
                // Scores are floats, and a probability near zero is a difference from one.
                let bound = relative * abs(value) + 1.5e-7
                worst = max(worst, abs(score - value) / bound)
                if !(abs(score - value) <= bound) { wrong += 1 }
            }
            guard hasProbabilities, let best = full.indices.max(by: { full[$0] < full[$1] }) else { continue }
            // Each label belongs to one class.
            if classes[labels[row], default: best] != best { wrong += 1 }
            classes[labels[row]] = best
        }
        #expect(wrong == 0, "\(wrong) of \(values.count) rows differ, the worst by \(worst) of the tolerance")
    }
}
