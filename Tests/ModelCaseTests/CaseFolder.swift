// Flockwork · Apache-2.0 · see LICENSE

// Third-party models with inputs and expected outputs lie beside the repository, not in it (their licences differ).
// `make test-libs` runs all of them and fails without them; a plain `make test` runs the first few of each kind where
// they and the libraries are there, and says aloud where they are not.

import FlockModels
import FlockWire
import Foundation
import Testing

enum Cases {
    /// `FLOCKWORK_CASES`, or `../shared/cases` beside the repository.
    static let root: URL = {
        if let path = ProcessInfo.processInfo.environment["FLOCKWORK_CASES"], !path.isEmpty {
            return URL(filePath: path)
        }
        let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardized
        return repository.appending(path: "../shared/cases").standardized
    }()

    /// `make test-libs` asks for all of them; what is missing is a failure then.
    static let wantsAll = ProcessInfo.processInfo.environment["FLOCKWORK_CASES_ALL"] == "1"

    /// Cases of a kind that the short form runs.
    private static let few = 4

    /// The folders of a kind's cases that hold a model, in order; in the short form a few, spread over all.
    static func folders(_ kind: String, holding file: String) -> [CaseFolder] {
        let root = root.appending(path: kind)
        guard let walk = FileManager.default.enumerator(atPath: root.path) else { return [] }
        let paths = walk.compactMap { $0 as? String }.filter { $0.hasSuffix("/" + file) }.sorted()
        let all = paths.map { CaseFolder(path: root.appending(path: $0).deletingLastPathComponent().path) }
        guard !wantsAll, all.count > few else { return all }
        return (0..<few).map { all[$0 * all.count / few] }
    }

    /// Whether a kind's cases can run here; says so if they cannot.
    static func canRun(_ kind: String, _ folders: [CaseFolder], library: () throws -> Void) -> Bool {
        var reason: String?
        if folders.isEmpty {
            reason = "no cases in \(root.appending(path: kind).path); FLOCKWORK_CASES names another folder"
        } else {
            do { try library() } catch { reason = "\(error)" }
        }
        guard let reason else { return true }
        print("*** ModelCaseTests: the cases of \(kind) are NOT RUN: \(reason)")
        return wantsAll
    }
}

/// The folder of one case.
struct CaseFolder: Sendable, CustomTestStringConvertible {
    let path: String

    var testDescription: String { URL(filePath: path).lastPathComponent }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: file(name)) }

    /// A comma-separated file: its first line and the others.
    func table(_ name: String) throws -> (names: [String], rows: [[String]]) {
        let text = try String(contentsOfFile: file(name), encoding: .utf8)
        let lines = text.split(whereSeparator: \.isNewline).map { line in
            line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        }
        let names = try #require(lines.first)
        let rows = Array(lines.dropFirst())
        try #require(!rows.isEmpty && rows.allSatisfy { $0.count == names.count }, "\(file(name)) is no table")
        return (names, rows)
    }

    /// The input rows.
    func rows() throws -> Rows<Float> {
        let table = try table("input.csv")
        let elements = try table.rows.flatMap { row in
            try row.map { Float(try #require(Double($0), "\($0) is no number")) }
        }
        return Rows(elements, width: table.names.count)
    }
}
