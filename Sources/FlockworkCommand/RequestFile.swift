// Flockwork · Apache-2.0 · see LICENSE

// A file of requests, one a line: text as it stands, or numbers between commas.

internal import Flockwork
internal import Foundation

/// A line that is a request, or says why it is none.
struct RequestLine<Item: Sendable>: Sendable {
    /// From 1.
    let number: Int
    let item: Result<Item, FlockError>
}

/// The lines of a file, or of standard input.
struct RequestFile {
    let name: String
    private var lines: [Substring]

    /// - Parameter path: `-` for standard input.
    /// - Throws: `invalidInput` when it cannot be read, or is no UTF-8.
    init(_ path: String) throws(FlockError) {
        guard let file = path == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: path) else {
            throw FlockError(.invalidInput, "\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        let data: Data
        do {
            data = try file.readToEnd() ?? Data()
        } catch {
            throw FlockError(.invalidInput, "\(path) cannot be read: \(error.localizedDescription)", cause: error)
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw FlockError(.invalidInput, "\(path) is no UTF-8 text; one request a line is wanted")
        }
        self.init(name: path == "-" ? "standard input" : path, text: text)
    }

    init(name: String, text: String) {
        self.name = name
        // A carriage return with a line feed is one character.
        lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        if lines.last?.isEmpty == true { lines.removeLast() }
    }

    /// Each line as it stands.
    var texts: [RequestLine<String>] {
        lines.enumerated().map { RequestLine(number: $0.offset + 1, item: .success(String($0.element))) }
    }

    /// Each line's bytes.
    var bytes: [RequestLine<Bytes>] {
        lines.enumerated().map {
            RequestLine(number: $0.offset + 1, item: .success(Bytes(Array($0.element.utf8))))
        }
    }

    /// Each line as `width` numbers between commas. A first line without any number is a heading, and is left out.
    func rows(width: Int) -> [RequestLine<Row>] {
        let heading = lines.first.map { line in Self.cells(line).allSatisfy { Float($0) == nil } } ?? false
        return lines.enumerated().dropFirst(heading ? 1 : 0).map { index, line in
            RequestLine(number: index + 1, item: Self.row(line, width: width))
        }
    }

    private static func cells(_ line: Substring) -> [Substring] {
        line.split(separator: ",", omittingEmptySubsequences: false).map { cell in
            let start = cell.drop { $0 == " " || $0 == "\t" }
            return start.prefix(start.reversed().drop { $0 == " " || $0 == "\t" }.count)
        }
    }

    private static func row(_ line: Substring, width: Int) -> Result<Row, FlockError> {
        let cells = cells(line)
        var values: [Float] = []
        values.reserveCapacity(cells.count)
        for (column, cell) in cells.enumerated() {
            guard let value = Float(cell) else {
                return .failure(FlockError(.invalidInput, "column \(column + 1) is no number: \"\(cell.prefix(40))\""))
            }
            values.append(value)
        }
        guard values.count == width else {
            return .failure(FlockError(.invalidInput, "\(values.count) numbers; the pipeline takes rows of \(width)"))
        }
        return .success(Row(values))
    }
}
