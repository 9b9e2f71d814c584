// Flockwork · Apache-2.0 · see LICENSE

import FlockModels
import FlockWire
import Foundation
import Testing

/// What the recipe wrote: rows and scikit-learn's own predictions for them.
private struct Expectation: Decodable {
    let rows: [[Float]]
    let scores: [[Double]]
}

private func folder(_ path: String) -> URL {
    URL(filePath: #filePath).deletingLastPathComponent().appending(path: path)
}

@Suite struct LinearModelTests {
    @Test(
        "scores are scikit-learn's",
        arguments: [("iris-softmax", 5e-7), ("diabetes-identity", 1e-4), ("random16-logistic", 2e-7)])
    func scikitLearn(name: String, tolerance: Double) throws {
        let model = try LinearModel(path: folder("Fixtures/\(name).json").path)
        let expected = try JSONDecoder().decode(
            Expectation.self, from: Data(contentsOf: folder("Fixtures/\(name)-expected.json")))
        let rows = Rows<Float>(expected.rows.flatMap { $0 }, width: model.inputWidth)
        let scores = try model.score(rows)
        try #require(scores.count == expected.scores.count && scores.width == expected.scores[0].count)
        for (row, wanted) in expected.scores.enumerated() {
            for (score, wanted) in zip(scores[row], wanted) { #expect(abs(Double(score) - wanted) <= tolerance) }
        }
    }

    @Test("all 569 rows of the sample get scikit-learn's probability and label")
    func breastCancer() throws {
        struct Normalization: Decodable {
            let mean: [Float]
            let scale: [Float]
        }
        let data = folder("../../Samples/BreastCancer/Data")
        let scaler = try JSONDecoder().decode(
            Normalization.self, from: Data(contentsOf: data.appending(path: "normalization.json")))
        let model = try LinearModel(path: data.appending(path: "model.json").path)
        func lines(_ name: String) throws -> [[Substring]] {
            try String(contentsOf: data.appending(path: name), encoding: .utf8)
                .split(separator: "\n").dropFirst().map { $0.split(separator: ",") }
        }
        let rows = try lines("breast_cancer.csv").map { try $0.prefix(30).map { try #require(Float($0)) } }
        let normalized = rows.flatMap { row in row.indices.map { (row[$0] - scaler.mean[$0]) / scaler.scale[$0] } }
        let scores = try model.score(Rows(normalized, width: 30)).elements
        let expected = try lines("expected.csv")
        try #require(scores.count == 569 && expected.count == 569)
        for (score, wanted) in zip(scores, expected) {
            #expect(abs(Double(score) - (try #require(Double(wanted[2])))) <= 1e-6)
            #expect((score >= 0.5 ? "benign" : "malignant") == wanted[1])
        }
    }

    @Test(
        "every width and row count agrees with a plain loop",
        arguments: [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 30, 33, 128])
    func plainLoop(width: Int) throws {
        var numbers = SeededNumbers(seed: 0x5EED)
        for outputs in [1, 3] {
            for count in [0, 1, 3, 31, 32, 33, 70] {
                let weights = numbers.next(outputs * width)
                let bias = numbers.next(outputs)
                let rows = Rows<Float>(numbers.next(count * width), width: width)
                let model = try LinearModel(weights: weights, bias: bias, inputWidth: width)
                let scores = try model.score(rows)
                #expect(scores.count == count && scores.width == outputs)
                for row in 0..<count {
                    for output in 0..<outputs {
                        let products = (0..<width).map { Double(rows[row][$0]) * Double(weights[output * width + $0]) }
                        let wanted = products.reduce(Double(bias[output]), +)
                        #expect(abs(Double(scores[row][output]) - wanted) < 1e-5, "seed \(numbers.seed)")
                    }
                }
            }
        }
    }

    @Test("a row's score does not depend on its neighbours or its place in the batch", arguments: [16, 30, 3])
    func neighbours(width: Int) throws {
        var numbers = SeededNumbers(seed: 99)
        let model = try LinearModel(
            weights: numbers.next(width), bias: [0.5], inputWidth: width, link: .logistic)
        let rows = Rows<Float>(numbers.next(100 * width), width: width)
        let together = try model.score(rows).elements.map(\.bitPattern)
        for first in 0..<100 {
            let some = try model.score(rows.slice(from: first, count: min(7, 100 - first))).elements
            #expect(some.map(\.bitPattern) == Array(together[first..<first + some.count]), "from row \(first)")
        }
    }

    @Test("infinities and NaN stay in their own row", arguments: [5, 16, 30])
    func notFinite(width: Int) throws {
        let model = try LinearModel(weights: [Float](repeating: 1, count: width), bias: [0], inputWidth: width)
        for column in 0..<width {
            var elements = [Float](repeating: 1, count: 3 * width)
            elements[width + column] = .infinity
            #expect(try model.score(Rows(elements, width: width)).elements == [Float(width), .infinity, Float(width)])
            elements[width + column] = .nan
            let scores = try model.score(Rows(elements, width: width)).elements
            #expect(scores[0] == Float(width) && scores[1].isNaN && scores[2] == Float(width))
        }
    }

    @Test("links stay finite for extreme sums")
    func extremeSums() throws {
        let logistic = try LinearModel(weights: [1], bias: [0], inputWidth: 1, link: .logistic)
        #expect(try logistic.score(Rows([-1e30, -200, 0, 200, 1e30], width: 1)).elements == [0, 0, 0.5, 1, 1])
        let softmax = try LinearModel(weights: [1, -1], bias: [0, 0], inputWidth: 1, link: .softmax)
        #expect(try softmax.score(Rows([1e30, -1e30, 0], width: 1)).elements == [1, 0, 0, 1, 0.5, 0.5])
    }

    @Test("the logistic link has a relative error of at most 3e-7 over its whole range")
    func logisticAccuracy() throws {
        let model = try LinearModel(weights: [1], bias: [0], inputWidth: 1, link: .logistic)
        let sums = stride(from: Float(-100), through: 100, by: 0.0137).map { $0 }
        for (sum, score) in zip(sums, try model.score(Rows(sums, width: 1)).elements) {
            let exact = 1 / (1 + exp(-Double(sum)))
            #expect(abs(Double(score) - exact) <= 3e-7 * exact + 1e-38, "at \(sum)")
        }
    }

    @Test("rows of another width are refused")
    func wrongWidth() throws {
        let model = try LinearModel(weights: [1, 2], bias: [0], inputWidth: 2)
        let error = try #require(throws: FlockError.self) { try model.score(Rows<Float>([1, 2, 3], width: 3)) }
        #expect(error == .invalidInput && error.message.contains("2 numbers, not of 3"))
    }
}

/// A small generator, so that a failing run is repeated exactly.
struct SeededNumbers {
    let seed: UInt64
    private var state: UInt64

    init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// Floats in -1 ..< 1.
    mutating func next(_ count: Int) -> [Float] {
        (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Float(state >> 40) / 8_388_608 - 1
        }
    }
}
