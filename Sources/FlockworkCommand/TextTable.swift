// Flockwork · Apache-2.0 · see LICENSE

// Text for a terminal: cells in columns, styles only where a terminal shows them, and never as the only sign of
// anything.

/// How a piece of text looks.
enum TextStyle: String, Sendable {
    case bold = "1"
    case dim = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
}

/// A piece of a line.
struct Cell: ExpressibleByStringInterpolation, Equatable {
    var text: String
    var style: TextStyle?

    init(_ text: String, _ style: TextStyle? = nil) {
        self.text = text
        self.style = style
    }

    init(stringLiteral text: String) { self.init(text) }
}

/// A line of cells that stand side by side.
struct TextLine: Equatable {
    var cells: [Cell]

    init(_ cells: Cell...) { self.cells = cells }
    init(cells: [Cell]) { self.cells = cells }

    /// As it is written: with control codes if `isStyled`, and at most `columns` characters of text.
    func text(isStyled: Bool, columns: Int = .max) -> String {
        var room = columns
        var out = ""
        for (place, cell) in cells.enumerated() {
            // Blanks at the end of a line are in nobody's way but in files.
            let isLast = place == cells.count - 1
            var text = String(cell.text.prefix(room))
            if isLast { while text.last == " " { text.removeLast() } }
            room -= text.count
            if isStyled, let style = cell.style, !text.isEmpty {
                out += "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m"
            } else {
                out += text
            }
        }
        return out
    }
}

/// Rows under titles, each column as wide as its widest cell.
struct TextTable {
    /// What a column is called; numbers stand to the right.
    struct Column {
        var title: String
        var isNumber: Bool

        static func words(_ title: String) -> Column { Column(title: title, isNumber: false) }
        static func number(_ title: String) -> Column { Column(title: title, isNumber: true) }
    }

    let columns: [Column]
    var rows: [[Cell]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// Nothing for a table without rows.
    var lines: [TextLine] {
        guard !rows.isEmpty else { return [] }
        let widths = columns.indices.map { column in
            rows.map { $0[column].text.count }.reduce(columns[column].title.count, max)
        }
        let titles = columns.map { Cell($0.title.uppercased(), .dim) }
        return ([titles] + rows).map { row in
            TextLine(
                cells: row.enumerated().map { column, cell in
                    let blanks = String(repeating: " ", count: widths[column] - cell.text.count)
                    let gap = column == 0 ? "" : "  "
                    return Cell(
                        gap + (columns[column].isNumber ? blanks + cell.text : cell.text + blanks), cell.style)
                })
        }
    }
}

/// Numbers as people read them, in few characters.
enum Short {
    /// `0`, `950`, `12.3k`, `4.56M`
    static func count(_ value: Double) -> String {
        switch value {
        case ..<0.05: return "0"
        case ..<9.95: return String(tenths(value))
        case ..<9999.5: return String(Int(value.rounded()))
        case ..<999_950: return tenths(value / 1e3) + "k"
        default: return tenths(value / 1e6) + "M"
        }
    }

    /// `840 ns`, `12.3 µs`, `4.5 ms`, `1.2 s`
    static func time(nanoseconds: Double) -> String {
        switch nanoseconds {
        case ..<999.5: return "\(Int(nanoseconds.rounded())) ns"
        case ..<999_500: return tenths(nanoseconds / 1e3) + " µs"
        case ..<999_500_000: return tenths(nanoseconds / 1e6) + " ms"
        default: return tenths(nanoseconds / 1e9) + " s"
        }
    }

    /// `0 B`, `12.3 kB`, `4.5 MB`
    static func bytes(_ bytes: Double) -> String {
        switch bytes {
        case ..<999.5: return "\(Int(bytes.rounded())) B"
        case ..<999_500: return tenths(bytes / 1e3) + " kB"
        case ..<999_500_000: return tenths(bytes / 1e6) + " MB"
        default: return tenths(bytes / 1e9) + " GB"
        }
    }

    private static func tenths(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return value < 99.95 ? "\(tenths / 10).\(tenths % 10)" : "\(Int(value.rounded()))"
    }
}
