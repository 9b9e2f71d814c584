// Flockwork · Apache-2.0 · see LICENSE

// The style is a test: what a machine can check of CONTRIBUTING.md is checked here, over the files as they lie in the
// working copy, so that a review never has to speak about it.

import Foundation
import Testing

/// A text file of the repository, or a sample that stands for one.
struct TextFile: Sendable {
    /// Relative to the repository's root.
    let path: String
    let text: String
    /// The text, line by line.
    let lines: [String]
    /// Code and comments apart; only of Swift files.
    let swift: SwiftText

    init(path: String, text: String) {
        self.path = path
        self.text = text
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        swift = path.hasSuffix(".swift") ? SwiftText(text) : SwiftText("")
    }

    /// `Sources/FlockWire/Bytes.swift` → `FlockWire`; nil outside of a target's folder.
    var target: String? {
        let parts = path.split(separator: "/")
        guard parts.count > 2, ["Sources", "Tests", "Samples"].contains(parts[0]) else { return nil }
        let folder = String(parts[1])
        return folder
    }
}

/// What a rule found, and where.
struct Finding: CustomStringConvertible {
    let path: String
    let line: Int
    let text: String
    var description: String { "\(path):\(line): \(text)" }
}

/// A rule looks at one file.
typealias Rule = (TextFile) -> [Finding]

/// The working copy that this test was compiled from.
enum Repository {
    /// `…/Tests/TidyTests/Repository.swift`, three levels up.
    static let root = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Paths of all files, relative to the root, without what builds make.
    static let paths: [String] = {
        guard let walk = FileManager.default.enumerator(atPath: root.path) else { return [] }
        var paths: [String] = []
        while let path = walk.nextObject() as? String {
            let name = path.split(separator: "/").last ?? ""
            if isBuildProduct(name) {
                walk.skipDescendants()
            } else if walk.fileAttributes?[.type] as? FileAttributeType == .typeRegular {
                paths.append(path)
            }
        }
        return paths.sorted()
    }()

    private static func isBuildProduct(_ name: Substring) -> Bool {
        [".git", ".swiftpm", "__pycache__", "Package.resolved"].contains(name)
            || [".build", ".venv"].contains { name.hasPrefix($0) } || name.hasSuffix(".whl")
    }

    /// Every Swift file, the manifests too.
    static let swift: [TextFile] = paths.filter { $0.hasSuffix(".swift") }.compactMap(read)
    /// Every Markdown file.
    static let markdown: [TextFile] = paths.filter { $0.hasSuffix(".md") }.compactMap(read)

    static func read(_ path: String) -> TextFile? {
        guard let data = FileManager.default.contents(atPath: root.appending(path: path).path) else { return nil }
        return TextFile(path: path, text: String(decoding: data, as: UTF8.self))
    }

    static func size(_ path: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: root.appending(path: path).path)
        return (attributes[.size] as? NSNumber)?.intValue ?? 0
    }
}

/// Shows that the rule fails on each bad sample and passes on each good one, then holds the repository to it.
func hold(
    _ files: [TextFile], to rule: Rule, at path: String = "Sources/FlockWire/Sample.swift", bad: [String],
    good: [String] = [], sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(!bad.isEmpty, "a rule without a bad sample proves nothing", sourceLocation: sourceLocation)
    for sample in bad where rule(TextFile(path: path, text: sample)).isEmpty {
        Issue.record("the rule lets this pass:\n\(sample)", sourceLocation: sourceLocation)
    }
    for sample in good {
        for finding in rule(TextFile(path: path, text: sample)) {
            Issue.record("the rule refuses a good sample: \(finding)\n\(sample)", sourceLocation: sourceLocation)
        }
    }
    #expect(!files.isEmpty, "no file was read from \(Repository.root.path)", sourceLocation: sourceLocation)
    for finding in files.flatMap(rule) { Issue.record("\(finding)", sourceLocation: sourceLocation) }
}
