// Flockwork · Apache-2.0 · see LICENSE

// Model files that are not what they should be, of every kind. Loading one must end in `modelLoadFailed` that names the
// file and says what is wrong, or, where the damage cannot be told from a model, in a model that scores or throws.

import FlockModels
import FlockTestKit
import FlockWire
import Foundation
import Testing

/// A kind of model with a good file of it.
enum ModelKind: String, CaseIterable, Sendable {
    case linear, onnx, xgboostJSON, xgboostUBJ, lightgbm

    var good: String {
        switch self {
        case .linear: Fixture.path("../../FlockModelsTests/Fixtures/iris-softmax.json")
        case .onnx: Fixture.path("iris-tensor.onnx")
        case .xgboostJSON: Fixture.path("diabetes-gblinear.json")
        case .xgboostUBJ: Fixture.path("iris-softprob.ubj")
        case .lightgbm: Fixture.path("iris-lightgbm.txt")
        }
    }

    func source(_ path: String) -> ModelSource {
        switch self {
        case .linear: .linear(path)
        case .onnx: .onnx(path)
        case .xgboostJSON, .xgboostUBJ: .xgboost(path)
        case .lightgbm: .lightgbm(path)
        }
    }

    /// The kinds whose library is here.
    static let here = allCases.filter { kind in
        switch kind {
        case .linear: true
        case .onnx: Cases.hasONNX
        case .xgboostJSON, .xgboostUBJ: Cases.hasXGBoost
        case .lightgbm: Cases.hasLightGBM
        }
    }
}

@Suite("A model file", .timeLimit(.minutes(2)))
struct DamagedModelTests {
    /// Writes a file for the time of `body`.
    private func file(_ contents: Data, _ body: (String) async throws -> Void) async throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "damaged-\(UUID())")
        try contents.write(to: url)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: url) } }
        try await body(url.path)
    }

    /// The message of a load that must fail.
    private func refusal(_ kind: ModelKind, _ path: String) async throws -> String {
        let error = try await #require(throws: FlockError.self, "\(kind) \(path)") {
            _ = try await kind.source(path).load()
        }
        #expect(error == .modelLoadFailed)
        #expect(error.message.contains("\(path): "), "\(error.message)")
        return error.message
    }

    @Test("that is missing, empty, a folder or a pipe is refused with that", arguments: ModelKind.allCases)
    func places(kind: ModelKind) async throws {
        #expect(try await refusal(kind, "/nowhere/model").contains("there is no such file"))
        let relative = try await refusal(kind, "nowhere/model")
        #expect(relative.contains("no such file in \(FileManager.default.currentDirectoryPath)"))
        #expect(try await refusal(kind, "/tmp").contains("it is a folder; name the file in it"))
        #expect(try await refusal(kind, "/dev/zero").contains("no ordinary file"))
        try await file(Data()) { path in
            let text = try await refusal(kind, path)
            #expect(text.contains("the file is empty"))
        }
        let folder = FileManager.default.temporaryDirectory.appending(path: "places-\(UUID())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(atPath: folder) } }
        try #require(mkfifo("\(folder)/pipe", 0o600) == 0)
        #expect(try await refusal(kind, "\(folder)/pipe").contains("a pipe"))
        try FileManager.default.createSymbolicLink(atPath: "\(folder)/loop", withDestinationPath: "\(folder)/loop")
        #expect(try await refusal(kind, "\(folder)/loop").contains("Too many levels of symbolic links"))
        try Data("x".utf8).write(to: URL(filePath: "\(folder)/secret"))
        try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: "\(folder)/secret")
        let denied = try await refusal(kind, "\(folder)/secret")
        // Root may read everything, and then sees that it is no model.
        #expect(geteuid() == 0 || denied.contains("Permission denied; this process runs as user \(geteuid())"))
    }

    @Test("that is of another kind is refused", arguments: ModelKind.here)
    func wrongKind(kind: ModelKind) async throws {
        for other in ModelKind.allCases where String(other.rawValue.prefix(6)) != String(kind.rawValue.prefix(6)) {
            let text = try await refusal(kind, other.good)
            #expect(!text.contains("not installed"))
        }
    }

    @Test("that is random bytes is refused", arguments: ModelKind.here)
    func random(kind: ModelKind) async throws {
        var random = SeededRandom(seed: 0x0DD_F11E)
        for size in [1, 2, 17, 256, 4096, 100_000] {
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) }
            try await file(Data(bytes)) { _ = try await refusal(kind, $0) }
        }
    }

    @Test("that is cut short anywhere is refused", arguments: ModelKind.here)
    func truncated(kind: ModelKind) async throws {
        let good = try Data(contentsOf: URL(filePath: kind.good))
        // What LightGBM writes behind its trees is not needed.
        let needed = kind == .lightgbm ? good.firstRange(of: Data("end of trees".utf8))?.lowerBound ?? 0 : good.count
        // A line end behind the last bracket is no part of JSON.
        let last = kind == .linear || kind == .xgboostJSON ? needed - 3 : needed - 1
        for part in 0..<60 {
            try await file(good.prefix(1 + (last - 1) * part / 59)) { _ = try await refusal(kind, $0) }
        }
    }

    // Not the others: XGBoost and LightGBM follow indices in the file without a look at them, and may crash.
    @Test("with a few wrong bytes is refused, or scores or throws", arguments: [ModelKind.linear, .onnx])
    func flipped(kind: ModelKind) async throws {
        guard ModelKind.here.contains(kind) else { return }
        var random = SeededRandom(seed: 0xF11_9ED)
        let good = try Data(contentsOf: URL(filePath: kind.good))
        for round in 0..<200 {
            var bytes = good
            for _ in 0...Int.random(in: 0...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            try await file(bytes) { path in
                do {
                    let model = try await kind.source(path).load()
                    let rows = Rows((0..<model.inputWidth * 64).map { Float($0 % 17) / 4 - 2 }, width: model.inputWidth)
                    _ = try model.score(rows)
                } catch let error as FlockError {
                    #expect([.modelLoadFailed, .stageFailed].contains(error.code), "round \(round): \(error)")
                }
            }
        }
    }
}
