// Flockwork · Apache-2.0 · see LICENSE

import Testing

@Suite("documents")
struct DocumentTests {
    @Test("a Markdown file begins with a title")
    func titles() {
        hold(
            Repository.markdown, to: DocumentRules.title, at: "Docs/SAMPLE.md",
            bad: ["", "Text without a title\n", "## Only a second level\n", "\n# Late\n"], good: ["# A title\n\nText\n"]
        )
    }

    @Test("Swift snippets of the README stand in compiled sources")
    func snippets() {
        let source = TextFile(
            path: "Samples/X/X.swift", text: "import Y\n\n    let a = f(1) {\n        $0 + 1\n    }\n\n    print(a)\n")
        let read: (String) -> TextFile? = { $0 == source.path ? source : nil }
        let mark = "<!-- snippet: Samples/X/X.swift -->\n"
        let check: Rule = { file in DocumentRules.snippets(file) { read($0) ?? Repository.read($0) } }
        hold(
            [Repository.read("README.md"), Repository.read("CONTRIBUTING.md")].compactMap(\.self), to: check,
            at: "README.md",
            bad: [
                "```swift\nlet a = 1\n```\n", mark + "```swift\nlet a = f(2) {\n```\n",
                mark + "```swift\n    print(a)\n    let a = f(1) {\n```\n",
                "<!-- snippet: Samples/X/Missing.swift -->\n```swift\nprint(a)\n```\n",
                "<!-- snippet: Docs/X.swift -->\n```swift\nprint(a)\n```\n", mark + "```swift\n```\n",
            ],
            good: [
                mark + "```swift\nlet a = f(1) {\n    $0 + 1\n}\nprint(a)\n```\n",
                mark + "```swift\nimport Y\n// …\nprint(a)\n```\n", "```sh\nmake demo\n```\n",
            ])
    }

    @Test("links between the documents lead to files that exist")
    func links() {
        let paths = Set(Repository.paths)
        let check: Rule = { DocumentRules.links($0, paths: paths.union(["LICENSE", "Docs/WIRE.md"])) }
        hold(
            Repository.markdown, to: check, at: "Docs/SAMPLE.md", bad: ["# T\n[x](missing.md)\n", "[x](../Nothing)\n"],
            good: ["[x](../LICENSE) [y](https://swift.org) [z](#part) [w](WIRE.md#frames) [v](../Docs/)\n"])
    }
}

enum DocumentRules {
    static func title(_ file: TextFile) -> [Finding] {
        file.lines[0].hasPrefix("# ") ? [] : [Finding(path: file.path, line: 1, text: "no title")]
    }

    /// Each block of Swift follows `<!-- snippet: path -->`; its lines stand in that file in one run, whatever the
    /// indentation and blank lines. A line `// …` leaves something out.
    static func snippets(_ file: TextFile, read: (String) -> TextFile?) -> [Finding] {
        var findings: [Finding] = []
        var index = 0
        while index < file.lines.count {
            defer { index += 1 }
            guard file.lines[index].hasPrefix("```swift") else { continue }
            let start = index
            let mark = start > 0 ? file.lines[start - 1].wholeMatch(of: #/<!-- snippet: (\S+) -->/#) : nil
            var runs: [[String]] = [[]]
            index += 1
            while index < file.lines.count, !file.lines[index].hasPrefix("```") {
                let line = trimmed(file.lines[index])
                if line == "// …" { runs.append([]) } else if !line.isEmpty { runs[runs.count - 1].append(line) }
                index += 1
            }
            if let problem = problem(mark.map { String($0.1) }, runs: runs, read: read) {
                findings.append(Finding(path: file.path, line: start + 1, text: problem))
            }
        }
        return findings
    }

    private static func problem(_ path: String?, runs: [[String]], read: (String) -> TextFile?) -> String? {
        guard let path else { return "no <!-- snippet: path --> on the line above" }
        guard ["Sources/", "Samples/", "Tests/"].contains(where: path.hasPrefix) else {
            return "\(path) is not compiled"
        }
        guard let source = read(path) else { return "\(path) does not exist" }
        let lines = source.lines.map(trimmed).filter { !$0.isEmpty }
        if runs.allSatisfy(\.isEmpty) { return "an empty snippet" }
        var from = 0
        for run in runs where !run.isEmpty {
            guard let at = (from..<max(from, lines.count)).first(where: { lines[$0...].starts(with: run) }) else {
                return "these lines do not stand in \(path): \(run[0])"
            }
            from = at + run.count
        }
        return nil
    }

    private static func trimmed(_ line: String) -> String {
        String(line.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    static func links(_ file: TextFile, paths: Set<String>) -> [Finding] {
        file.lines.enumerated().flatMap { index, line in
            line.matches(of: #/\]\(([^)\s#]+)(?:#[^)\s]*)?\)/#).compactMap { match -> Finding? in
                let link = String(match.1)
                if link.contains(":") { return nil }
                var parts = file.path.split(separator: "/").dropLast().map(String.init)
                for part in link.split(separator: "/") where part != "." {
                    if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
                }
                let path = parts.joined(separator: "/")
                if paths.contains(path) || paths.contains(where: { $0.hasPrefix(path + "/") }) { return nil }
                return Finding(path: file.path, line: index + 1, text: "\(link) does not exist")
            }
        }
    }
}
