// Flockwork · Apache-2.0 · see LICENSE

// Small models of our own, made by Samples/BreastCancer/recipe with the reference libraries, whose predictions are
// beside them. They need the libraries but no third-party cases.

import FlockModels
import FlockWire
import Foundation
import Testing

/// A model of the recipe and what the library that made it predicts.
private struct Fixture: Decodable {
    let rows: [[Double?]]
    let scores: [[Double]]

    static func path(_ name: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/\(name)").path
    }

    init(_ name: String) throws {
        let data = try Data(contentsOf: URL(filePath: Self.path("\(name)-expected.json")))
        self = try JSONDecoder().decode(Fixture.self, from: data)
    }

    var input: Rows<Float> {
        Rows(rows.flatMap { $0.map { Float($0 ?? .nan) } }, width: rows[0].count)
    }

    /// Checks every score, and that the batch size does not change one.
    func check(_ model: any Model, relative: Double = 1e-6) throws {
        let input = input
        let found = try model.score(input).elements
        let expected = scores.flatMap(\.self)
        try #require(found.count == expected.count && model.inputWidth == input.width)
        for (index, (found, expected)) in zip(found, expected).enumerated() {
            #expect(
                abs(Double(found) - expected) <= relative * abs(expected) + 1e-6,
                "score \(index): \(found), \(expected)")
        }
        var single: [Float] = []
        for row in 0..<input.count { single += try model.score(input.slice(from: row, count: 1)).elements }
        #expect(zip(single, found).allSatisfy { abs($0 - $1) <= 1e-6 * max(1, abs($1)) })
        #expect(try model.score(Rows([Float](), width: input.width)).count == 0)
    }
}

private func message(of load: () async throws -> any Model) async throws -> String {
    let error = try await #require(throws: FlockError.self) { _ = try await load() }
    #expect(error == .modelLoadFailed)
    return error.message
}

/// A copy of a fixture with other contents.
private func changed(_ name: String, _ change: (inout Data) -> Void, _ body: (String) async throws -> Void) async throws
{
    var data = try Data(contentsOf: URL(filePath: Fixture.path(name)))
    change(&data)
    let copy = FileManager.default.temporaryDirectory.appending(path: "\(UUID())-\(name)")
    try data.write(to: copy)
    defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: copy) } }
    try await body(copy.path)
}

extension Cases {
    /// Whether a library is here; says so if it is not.
    static func has(_ name: String, _ load: () throws -> Void) -> Bool {
        do {
            try load()
            return true
        } catch {
            print("*** ModelCaseTests: the tests of \(name) are NOT RUN: \(error)")
            return wantsAll
        }
    }

    static let hasXGBoost = has("XGBoost", loadXGBoost)
    static let hasLightGBM = has("LightGBM", loadLightGBM)
    static let hasONNX = has("ONNX Runtime", loadONNX)
}

@Suite(.enabled(if: Cases.hasXGBoost, "see the line NOT RUN above")) struct XGBoostModelTests {
    @Test(
        "trees, dropped-out trees and linear boosters predict as in Python",
        arguments: ["iris-softprob.ubj", "diabetes-dart.ubj", "diabetes-gblinear.json"])
    func predictions(name: String) async throws {
        let model = try await ModelSource.xgboost(Fixture.path(name)).load()
        try Fixture(String(name.prefix { $0 != "." })).check(model)
    }

    @Test("many threads share a booster and get the same bits", arguments: ["iris-softprob", "diabetes-gblinear"])
    func threads(name: String) async throws {
        let suffix = name == "iris-softprob" ? "ubj" : "json"
        try await expectSameBits(
            try await ModelSource.xgboost(Fixture.path("\(name).\(suffix)")).load(), Fixture(name).input)
    }

    @Test("rows of another width are refused")
    func width() async throws {
        let model = try await ModelSource.xgboost(Fixture.path("iris-softprob.ubj")).load()
        #expect(throws: FlockError(.invalidInput, "")) { try model.score(Rows([1, 2, 3], width: 3)) }
    }

    @Test("a model of a newer XGBoost is refused, in JSON and in UBJSON")
    func newer() async throws {
        // The version is the last value of both files: 3, 2, 0.
        try await changed("diabetes-gblinear.json") { data in
            data = Data(String(decoding: data, as: UTF8.self).replacing("[3,2,0]", with: "[99,0,1]").utf8)
        } _: { path in
            let text = try await message { try await ModelSource.xgboost(path).load() }
            #expect(text.contains("\(path): it was saved by XGBoost 99.0.1, and "))
            #expect(text.contains("xgboost-cpu 99.0.1"))
        }
        try await changed("iris-softprob.ubj") { data in
            data[data.count - 6] = 99
        } _: { path in
            let text = try await message { try await ModelSource.xgboost(path).load() }
            #expect(text.contains("saved by XGBoost 99.2.0"))
        }
    }

    @Test("files that are cut short or are something else are refused by name")
    func broken() async throws {
        for share in [1, 10, 50, 90, 99] {
            for name in ["iris-softprob.ubj", "diabetes-gblinear.json"] {
                try await changed(name) { data in
                    data = data.prefix(data.count * share / 100)
                } _: { path in
                    let text = try await message { try await ModelSource.xgboost(path).load() }
                    #expect(text.contains(path))
                }
            }
        }
        let text = try await message { try await ModelSource.xgboost(Fixture.path("iris-lightgbm.txt")).load() }
        #expect(text.contains("neither JSON nor UBJSON"))
    }
}

@Suite(.enabled(if: Cases.hasLightGBM, "see the line NOT RUN above")) struct LightGBMModelTests {
    @Test("classes with missing values get the probabilities of Python")
    func predictions() async throws {
        try Fixture("iris-lightgbm").check(try await ModelSource.lightgbm(Fixture.path("iris-lightgbm.txt")).load())
    }

    @Test("many threads share a booster and get the same bits")
    func threads() async throws {
        try await expectSameBits(
            try await ModelSource.lightgbm(Fixture.path("iris-lightgbm.txt")).load(), Fixture("iris-lightgbm").input)
    }

    @Test("files that are cut short or are something else are refused by name")
    func broken() async throws {
        for share in [10, 50, 90] {
            try await changed("iris-lightgbm.txt") { data in
                data = data.prefix(data.count * share / 100)
            } _: { path in
                // The last tenth holds the parameters, which a model does without.
                guard share < 90 else { return }
                let text = try await message { try await ModelSource.lightgbm(path).load() }
                #expect(text.contains(path) && text.contains("cut short"))
            }
        }
        let text = try await message { try await ModelSource.lightgbm(Fixture.path("iris-softprob.ubj")).load() }
        #expect(text.contains("not a LightGBM model"))
    }
}

@Suite(.enabled(if: Cases.hasONNX, "see the line NOT RUN above")) struct ONNXModelTests {
    @Test(
        "a classifier gives the same with tensors, with maps (zipmap) and with a fixed number of rows",
        arguments: ["iris-tensor", "iris-zipmap", "iris-four"])
    func predictions(name: String) async throws {
        let model = try await ModelSource.onnx(Fixture.path("\(name).onnx")).load()
        #expect(model.outputWidth == 3)
        try Fixture("iris-onnx").check(model)
    }

    @Test("the labels are scores too, if they are asked for")
    func labels() async throws {
        let fixture = try Fixture("iris-onnx")
        let model = try await ModelSource.onnx(Fixture.path("iris-tensor.onnx"), output: "label").load()
        let labels = try model.score(fixture.input).elements
        let expected = fixture.scores.map { row in row.indices.max { row[$0] < row[$1] } ?? -1 }
        #expect(labels == expected.map { Float($0) })
    }

    @Test("many threads share a session and get the same bits", arguments: ["iris-tensor", "iris-zipmap"])
    func threads(name: String) async throws {
        try await expectSameBits(
            try await ModelSource.onnx(Fixture.path("\(name).onnx")).load(), Fixture("iris-onnx").input)
    }

    @Test(
        "graphs that do not take rows of floats are refused with what they take",
        arguments: [
            ("iris-double", nil, "its input is \"rows\": float64 [?, 4]; a model of rows takes float32"),
            ("sum", nil, "it has 2 inputs (\"a\": float32 [?, 2], \"b\": float32 [?, 2])"),
            (
                "iris-tensor", "margin",
                "no output \"margin\"; there are \"label\": int64 [?], \"probabilities\": float32"
            ),
        ] as [(String, String?, String)])
    func refused(name: String, output: String?, says: String) async throws {
        let path = Fixture.path("\(name).onnx")
        let text = try await message { try await ModelSource.onnx(path, output: output).load() }
        #expect(text.contains("\(path): \(says)"), "\(text)")
    }

    @Test("graphs that a model of rows cannot take run as sessions")
    func session() throws {
        let session = try ONNXSession(path: Fixture.path("sum.onnx"))
        let one = ONNXValue.tensor(.float32, [Float(1), 2], shape: [1, 2])
        #expect(try session.run([one, one]) == [.tensor(.float32, [Float(2), 4], shape: [1, 2])])
        #expect(throws: FlockError(.invalidInput, "")) { try session.run([one, one, one]) }
        #expect(throws: FlockError(.stageFailed, "")) { try session.run([one]) }
        #expect(throws: FlockError(.stageFailed, "")) {
            try session.run([one, .tensor(.float64, [1.0, 2.0], shape: [1, 2])])
        }
        #expect(throws: FlockError(.invalidInput, "")) {
            try session.run([one, .tensor(.float32, [Float(1)], shape: [1, 2])])
        }
    }

    @Test("files that are cut short or are something else are refused by name")
    func broken() async throws {
        for share in [1, 50, 90] {
            try await changed("iris-tensor.onnx") { data in
                data = data.prefix(max(data.count * share / 100, 1))
            } _: { path in
                let text = try await message { try await ModelSource.onnx(path).load() }
                #expect(text.contains(path))
            }
        }
    }
}

/// Scores the same rows in eight tasks at once; each must get what one alone gets with a batch of that size (ONNX
/// Runtime multiplies a single row in another order than several).
private func expectSameBits(_ model: any Model, _ rows: Rows<Float>) async throws {
    let alone = try (1...rows.count).map { try model.score(rows.slice(from: 0, count: $0)).elements }
    let wrong = try await withThrowingTaskGroup(of: Int.self) { group in
        for task in 0..<8 {
            group.addTask {
                var wrong = 0
                for turn in 0..<50 {
                    let count = 1 + (task * 7 + turn) % rows.count
                    let scores = try model.score(rows.slice(from: 0, count: count)).elements
                    if scores != alone[count - 1] { wrong += 1 }
                }
                return wrong
            }
        }
        return try await group.reduce(0, +)
    }
    #expect(wrong == 0, "\(wrong) of 400 batches")
}
