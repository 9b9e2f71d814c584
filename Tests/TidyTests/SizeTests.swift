// Flockwork · Apache-2.0 · see LICENSE

import Testing

@Suite("size")
struct SizeTests {
    @Test("a line has at most 120 columns")
    func lineLength() {
        hold(
            Repository.swift, to: SizeRules.lineLength, bad: [String(repeating: "x", count: 121)],
            good: [String(repeating: "·", count: 120)])
    }

    @Test("a Swift file has at most 600 lines")
    func fileLength() {
        hold(
            Repository.swift, to: SizeRules.fileLength, bad: [String(repeating: "\n", count: 601)],
            good: [String(repeating: "\n", count: 600)])
    }

    @Test("a function has at most 70 lines")
    func functionLength() {
        let filler = String(repeating: "    x()\n", count: 69)
        hold(
            Repository.swift, to: SizeRules.functionLength,
            bad: [
                "func long() {\n\(filler)}\n",
                "init(\n    of x: () -> Void = { }\n)\nasync throws\n{\n\(filler)}",
                "deinit {\n\(filler)}", "subscript(x: Int) -> Int {\n\(filler)}",
            ],
            good: [
                "func fits() {\n\(String(repeating: "    x()\n", count: 68))}\n",
                "protocol P {\n    func noBody() -> Int\n    init(from: Int) throws\n}\nstruct S {\n\(filler)}",
                "let x = S.init(1)\nstruct S {\n\(filler)}",
                "func text() { print(\"\"\"\n    {\n    \"\"\") }\nstruct S {\n\(filler)}",
            ])
    }

    @Test("no file is over 1 MB")
    func blobs() throws {
        #expect(SizeRules.isBlob(bytes: 1_000_001))
        #expect(!SizeRules.isBlob(bytes: 1_000_000))
        for path in Repository.paths {
            let bytes = try Repository.size(path)
            if SizeRules.isBlob(bytes: bytes) { Issue.record("\(path): \(bytes) bytes") }
        }
    }
}

enum SizeRules {
    static func isBlob(bytes: Int) -> Bool { bytes > 1_000_000 }

    static func lineLength(_ file: TextFile) -> [Finding] {
        file.lines.enumerated().compactMap { index, line in
            guard line.utf8.count > 120, line.count > 120 else { return nil }
            return Finding(path: file.path, line: index + 1, text: "\(line.count) columns, at most 120")
        }
    }

    static func fileLength(_ file: TextFile) -> [Finding] {
        let count = file.text.utf8.count(where: { $0 == UInt8(ascii: "\n") })
        return count <= 600 ? [] : [Finding(path: file.path, line: 601, text: "\(count) lines, at most 600")]
    }

    static func functionLength(_ file: TextFile) -> [Finding] {
        var findings: [Finding] = []
        for (index, line) in file.swift.code.enumerated() {
            guard line.contains("func") || line.contains("init") || line.contains("subscript") else { continue }
            for match in line.matches(of: #/(?:^|[^.\w`])(?:func|init|deinit|subscript)\b/#) {
                let column = line.utf8.distance(from: line.startIndex, to: match.range.upperBound)
                guard let end = bodyEnd(file.swift.code, line: index, column: column) else { continue }
                let count = end - index + 1
                if count > 70 {
                    findings.append(Finding(path: file.path, line: index + 1, text: "\(count) lines, at most 70"))
                }
            }
        }
        return findings
    }

    /// The line where the body ends of a declaration whose keyword ends at `column`; nil if it has no body.
    private static func bodyEnd(_ code: [String], line: Int, column: Int) -> Int? {
        var braces = 0
        var brackets = 0
        var last: UInt8 = 0
        for index in line..<code.count {
            let bytes = Array(code[index].utf8)
            for byte in bytes.dropFirst(index == line ? column : 0) {
                switch byte {
                case UInt8(ascii: "("), UInt8(ascii: "["): brackets += 1
                case UInt8(ascii: ")"), UInt8(ascii: "]"): brackets -= 1
                case UInt8(ascii: "{") where brackets == 0 || braces > 0: braces += 1
                case UInt8(ascii: "}") where brackets == 0 || braces > 0:
                    braces -= 1
                    if braces == 0 { return index }
                    if braces < 0 { return nil }
                default: break
                }
                if byte != UInt8(ascii: " ") { last = byte }
            }
            // Before the body, a line that ends outside of brackets ends a requirement, unless the next one goes on.
            guard braces == 0, brackets == 0, index + 1 < code.count else { continue }
            if last == UInt8(ascii: ",") || last == UInt8(ascii: "&") { continue }
            let next = code[index + 1].drop { $0 == " " }
            let goesOn = ["{", "->", "where", "async", "throws", "rethrows", "("].contains { next.hasPrefix($0) }
            if !goesOn { return nil }
        }
        return nil
    }
}
