// Flockwork · Apache-2.0 · see LICENSE

import FlockModels
import FlockWire
import Foundation
import Testing

@Suite struct ModelFileTests {
    private static let good = """
        { "format": "flockwork-linear", "version": 1, "link": "identity", "inputs": 2, "outputs": 1,
          "weights": [[0.5, -1.25]], "bias": [0.25], "trainedBy": "hand" }
        """

    /// The error of loading a file with these contents, by way of `ModelSource`.
    private func failure(_ contents: String) async throws -> FlockError {
        let file = FileManager.default.temporaryDirectory.appending(path: "model-\(UUID()).json")
        try Data(contents.utf8).write(to: file)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: file) } }
        let error = try await #require(throws: FlockError.self) { try await ModelSource.linear(file.path).load() }
        #expect(error == .modelLoadFailed && error.message.contains(file.path))
        return error
    }

    @Test("a file is read; keys that are not known are allowed")
    func good() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "model-\(UUID()).json")
        try Data(Self.good.utf8).write(to: file)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: file) } }
        let model = try await ModelSource.linear(file.path).load()
        #expect(model.inputWidth == 2 && model.outputWidth == 1)
        #expect(try model.score(Rows([2, 1], width: 2)).elements == [0])
    }

    @Test(
        "a file that is wrong is refused with what is wrong",
        arguments: [
            ("\"version\": 1", "\"version\": 2", "version 2; this reads"),
            ("flockwork-linear", "pickle", "format \"pickle\""),
            ("identity", "probit", "unknown link \"probit\"; there are identity, logistic, softmax"),
            ("\"inputs\": 2", "\"inputs\": 3", "2 weights of output 0 for 3 inputs"),
            ("\"inputs\": 2", "\"inputs\": -2", "2 weights of output 0 for -2 inputs"),
            ("\"outputs\": 1", "\"outputs\": 2", "1 lists of weights and 1 biases for 2 outputs"),
            ("[0.25]", "[0.25, 1]", "1 lists of weights and 2 biases for 1 outputs"),
            ("[[0.5, -1.25]]", "[]", "0 lists of weights"),
            ("-1.25", "1e300", "weight 1 of output 0 is inf, not a finite number"),
            ("[0.25]", "[-1e39]", "bias 0 is -inf, not a finite number"),
            ("-1.25", "NaN", "not JSON"),
            ("-1.25", "\"x\"", "\"weights.Index 0.Index 1\""),
            ("\"bias\"", "\"basi\"", "the key \"bias\" is missing"),
            ("{", "", "not JSON"),
        ])
    func wrong(replace: String, with: String, says: String) async throws {
        let error = try await failure(Self.good.replacingOccurrences(of: replace, with: with))
        #expect(error.message.contains(says), "\(error.message)")
    }

    @Test("an empty file is said to be empty")
    func empty() async throws {
        #expect(try await failure("").message.contains("the file is empty"))
    }

    @Test("a missing file and a directory are named")
    func missing() async throws {
        let path = "/nowhere/model.json"
        let absent = try await #require(throws: FlockError.self) { try await ModelSource.linear(path).load() }
        #expect(absent == .modelLoadFailed && absent.message.contains("\(path): there is no such file"))
        let directory = try #require(throws: FlockError.self) { try LinearModel(path: "/tmp") }
        #expect(directory == .modelLoadFailed && directory.message.contains("/tmp: the file cannot be read"))
    }

    @Test("weights that are not finite or do not fit are refused in memory too")
    func inMemory() throws {
        func message(_ weights: [Float], _ bias: [Float], _ inputs: Int) throws -> String {
            let error = try #require(throws: FlockError.self) {
                try LinearModel(weights: weights, bias: bias, inputWidth: inputs)
            }
            #expect(error == .modelLoadFailed)
            return error.message
        }
        #expect(try message([1, .nan], [0], 2).contains("weight 1 of output 0 is nan"))
        #expect(try message([1], [0], 2).contains("1 weights; 1 outputs of 2 inputs need 2"))
        #expect(try message([], [], 2).contains("at least one"))
        #expect(try message([], [0], 0).contains("at least one"))
        #expect(try message([1], [0, 0], .max).contains("need"))
    }

    @Test("a user's own model is a source as it is")
    func ownModel() async throws {
        struct Doubling: Model {
            let inputWidth = 2
            let outputWidth = 2
            func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) {
                for (index, element) in rows.elements.enumerated() { scores[index] = 2 * element }
            }
        }
        let source = ModelSource.swift(Doubling())
        #expect(source.name == "swift Doubling")
        #expect(try await source.load().score(Rows([1, 2], width: 2)).elements == [2, 4])
    }
}
