// Flockwork · Apache-2.0 · see LICENSE

// Whoever feeds a file to a model wants to know which line was bad, not that one was. So every field is read through
// here, and every error names the file, the line and the column.

import Flockwork
import Foundation

/// The lines of a comma-separated file without quoting, which is all that this data needs.
struct CSVFile {
    /// A file beyond this is not the data that this sample ships.
    static let largestBytes = 64 << 20

    let path: String
    /// The fields of each line; the first line of the file is line 1.
    let lines: [[Substring]]

    /// Reads a file of UTF-8 text. Lines end with LF or CRLF; the last line may lack its end.
    init(path: String) throws(FlockError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
        } catch {
            let missing = !FileManager.default.fileExists(atPath: path)
            throw FlockError(
                .invalidInput, "\(path): \(missing ? "there is no such file" : "cannot be read: \(error)")",
                cause: error)
        }
        guard data.count <= Self.largestBytes else {
            throw FlockError(.invalidInput, "\(path): \(data.count) bytes; at most \(Self.largestBytes) are read")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw FlockError(.invalidInput, "\(path): not UTF-8 text")
        }
        self.init(path: path, text: text)
    }

    init(path: String, text: String) {
        self.path = path
        var lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        if lines.last?.isEmpty == true { lines.removeLast() }
        self.lines = lines.map { $0.split(separator: ",", omittingEmptySubsequences: false) }
    }

    /// An error at a line (from 0) and perhaps a field (from 0); the text counts both from 1.
    func error(_ line: Int, _ column: Int? = nil, _ what: String) -> FlockError {
        let place = column.map { "line \(line + 1), column \($0 + 1)" } ?? "line \(line + 1)"
        return FlockError(.invalidInput, "\(path): \(place): \(what)")
    }

    /// The fields of a line, of which there must be `count`.
    func fields(_ line: Int, count: Int) throws(FlockError) -> [Substring] {
        guard lines.indices.contains(line) else { throw error(line, nil, "the file ends here") }
        let fields = lines[line]
        guard fields.count == count else {
            let found = fields == [""] ? "the line is empty" : "\(fields.count) fields"
            throw error(line, min(fields.count, count), "\(found); \(count) are expected")
        }
        return fields
    }

    /// A field as a finite number.
    func number(_ field: Substring, _ line: Int, _ column: Int) throws(FlockError) -> Double {
        guard let number = Double(field) else {
            throw error(line, column, field.isEmpty ? "the field is empty" : "\"\(field.prefix(40))\" is not a number")
        }
        guard number.isFinite, Float(number).isFinite else {
            throw error(line, column, "\"\(field.prefix(40))\" is not a finite number")
        }
        return number
    }

    /// A field as a whole number within a range.
    func count(
        _ field: Substring, _ line: Int, _ column: Int, in range: ClosedRange<Int>
    ) throws(FlockError) -> Int {
        guard let number = Int(field), range.contains(number) else {
            throw error(
                line, column,
                "\"\(field.prefix(40))\" is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
