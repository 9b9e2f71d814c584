// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation

/// What a model's `requirements.txt` asks for, with the files that it names, in a form in which comments, spacing and
/// the order of lines make no difference.
struct Requirements: Sendable, Equatable {
    /// Sorted, none twice.
    let lines: [String]

    /// Files that name each other.
    private static let depth = 8
    /// Bytes of one file.
    private static let largest = 1 << 20

    /// Reads a file of a model's folder. To be called on a thread that may wait.
    /// - Throws: `invalidInput` for a file outside of the folder, or a requirement that is a path: what is at its end
    ///   may change without notice.
    init(_ name: String, in folder: String) throws(FlockError) {
        var found: Set<String> = []
        try Self.read(name, in: folder, depth: 0, into: &found)
        lines = found.sorted()
    }

    private static func read(
        _ name: String, in folder: String, depth: Int, into found: inout Set<String>
    ) throws(FlockError) {
        guard !name.hasPrefix("/"), !name.split(separator: "/").contains(".."), depth < Self.depth else {
            throw FlockError(.invalidInput, "\(name) in \(folder): requirements lie in the model's folder.")
        }
        guard let data = FileManager.default.contents(atPath: "\(folder)/\(name)"), data.count <= largest else {
            throw FlockError(.invalidInput, "\(name) in \(folder) cannot be read, or is larger than \(largest) bytes.")
        }
        for line in logicalLines(String(decoding: data, as: UTF8.self)) {
            var words = line.split { $0 == " " || $0 == "=" }.map(String.init)
            // "-rmore.txt" is "-r more.txt".
            if line.count > 2, line.hasPrefix("-"), !line.hasPrefix("--"), words.count == 1 {
                words = [String(line.prefix(2)), String(line.dropFirst(2))]
            }
            switch words[0] {
            case "-r", "--requirement", "-c", "--constraint":
                guard words.count == 2 else { throw refusal(line, name) }
                let base = name.lastIndex(of: "/").map { name[...$0] } ?? ""
                var inner: Set<String> = []
                try read(base + words[1], in: folder, depth: depth + 1, into: &inner)
                let isConstraint = words[0] == "-c" || words[0] == "--constraint"
                found.formUnion(isConstraint ? Set(inner.map { "-c " + $0 }) : inner)
            case "-e", "--editable": throw refusal(line, name)
            default:
                guard !line.hasPrefix("."), !line.hasPrefix("/"), !line.contains("file:") else {
                    throw refusal(line, name)
                }
                found.insert(line.hasPrefix("-") ? line : normalized(line))
            }
        }
    }

    private static func refusal(_ line: String, _ name: String) -> FlockError {
        FlockError(
            .invalidInput,
            "\(name): \"\(line.prefix(80))\" is a path; put a wheel of it into the folder wheels instead.")
    }

    /// Without comments, and with those lines joined that end in a backslash.
    private static func logicalLines(_ text: String) -> [String] {
        let text = text.replacing("\r\n", with: "\n").replacing("\\\n", with: " ")
        return text.split(separator: "\n").compactMap { line in
            var rest = line
            // A # within a word belongs to it.
            if rest.hasPrefix("#") { return nil }
            for mark in [" #", "\t#"] { if let comment = rest.range(of: mark) { rest = rest[..<comment.lowerBound] } }
            let words = rest.split { $0 == " " || $0 == "\t" }
            return words.isEmpty ? nil : words.joined(separator: " ")
        }
    }

    /// `Scikit_Learn >= 1.4` and `scikit-learn>=1.4` are the same.
    private static func normalized(_ line: String) -> String {
        let isName: (Character) -> Bool = { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
        let name = line.prefix(while: isName)
        var short = ""
        for letter in name.lowercased() {
            let plain: Character = "-_.".contains(letter) ? "-" : letter
            if plain != "-" || short.last != "-" { short.append(plain) }
        }
        // Markers keep their words apart; before them, spaces mean nothing.
        let parts = line[name.endIndex...].split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)
        let version = parts[0].split(separator: " ").map { $0.hasPrefix("--") || $0.hasPrefix("@") ? " " + $0 : $0 }
        return short + version.joined() + parts.dropFirst().map { ";" + $0.trimmingPrefix(" ") }.joined()
    }
}
