// Flockwork · Apache-2.0 · see LICENSE

// Rules about code must not trip over comments and string literals (this target's own samples are such literals), so
// a small lexer takes them apart first. It knows nested block comments, escapes, interpolation, raw and multi-line
// strings; it does not know regex literals, so those must not hold a quotation mark.

/// A Swift file with code and comments apart, line by line. What is not in a view is a blank in it.
struct SwiftText: Sendable {
    /// Code; of a string literal only the quotation marks are left.
    private(set) var code: [String] = []
    /// Comments, with their slashes.
    private(set) var comments: [String] = []

    private var input: [UInt8]
    private var at = 0
    private var codeLine: [UInt8] = []
    private var commentLine: [UInt8] = []

    init(_ text: String) {
        input = Array(text.utf8)
        guard !input.isEmpty else { return }
        scanCode(untilParenthesis: false)
        endLine()
        input = []
    }

    private func sees(_ text: StaticString) -> Bool {
        guard at + text.utf8CodeUnitCount <= input.count else { return false }
        return (0..<text.utf8CodeUnitCount).allSatisfy { input[at + $0] == text.utf8Start[$0] }
    }

    private mutating func endLine() {
        code.append(String(decoding: codeLine, as: UTF8.self))
        comments.append(String(decoding: commentLine, as: UTF8.self))
        codeLine.removeAll(keepingCapacity: true)
        commentLine.removeAll(keepingCapacity: true)
    }

    private enum Part { case code, comment, literal }

    private mutating func take(as part: Part) {
        let byte = input[at]
        at += 1
        if byte == UInt8(ascii: "\n") { return endLine() }
        codeLine.append(part == .code ? byte : UInt8(ascii: " "))
        commentLine.append(part == .comment ? byte : UInt8(ascii: " "))
    }

    private mutating func scanCode(untilParenthesis: Bool) {
        var depth = 0
        while at < input.count {
            if sees("//") {
                while at < input.count, input[at] != UInt8(ascii: "\n") { take(as: .comment) }
            } else if sees("/*") {
                scanBlockComment()
            } else if sees("\"") || sees("#") {
                scanStringOrHash()
            } else {
                if sees("(") { depth += 1 }
                if sees(")") {
                    if untilParenthesis && depth == 0 { return }
                    depth -= 1
                }
                take(as: .code)
            }
        }
    }

    private mutating func scanBlockComment() {
        var depth = 0
        repeat {
            if sees("/*") || sees("*/") {
                depth += sees("/*") ? 1 : -1
                take(as: .comment)
            }
            if at < input.count { take(as: .comment) }
        } while depth > 0 && at < input.count
    }

    private mutating func scanStringOrHash() {
        var hashes = 0
        while at + hashes < input.count, input[at + hashes] == UInt8(ascii: "#") { hashes += 1 }
        guard at + hashes < input.count, input[at + hashes] == UInt8(ascii: "\"") else {
            for _ in 0..<max(hashes, 1) { take(as: .code) }
            return
        }
        for _ in 0..<hashes { take(as: .code) }
        let quotes = sees("\"\"\"") ? 3 : 1
        for _ in 0..<quotes { take(as: .code) }
        let fence = Array(repeating: UInt8(ascii: "#"), count: hashes)
        let end = Array(repeating: UInt8(ascii: "\""), count: quotes) + fence
        let escape = [UInt8(ascii: "\\")] + fence
        while at < input.count {
            if input[at...].starts(with: end) {
                for _ in end { take(as: .code) }
                return
            }
            // A string that never ends would blank the rest of the file: its line is where it stops.
            if quotes == 1 && input[at] == UInt8(ascii: "\n") { return }
            guard input[at...].starts(with: escape) else {
                take(as: .literal)
                continue
            }
            for _ in escape { take(as: .literal) }
            guard at < input.count else { return }
            let interpolation = sees("(")
            take(as: .literal)
            if interpolation { scanCode(untilParenthesis: true) }
        }
    }
}
