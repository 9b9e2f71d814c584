// Flockwork · Apache-2.0 · see LICENSE

internal import Foundation
internal import Synchronization

/// Standard output: a terminal, or a file.
struct Screen: Sendable {
    /// It is a terminal on which lines can be rewritten.
    let isInteractive: Bool
    let hasColor: Bool

    init(environment: [String: String] = ProcessInfo.processInfo.environment, isTerminal: Bool = isatty(1) == 1) {
        isInteractive = isTerminal && environment["TERM"] != "dumb"
        hasColor = isInteractive && (environment["NO_COLOR"] ?? "").isEmpty
    }

    /// Columns and rows now; a window may change.
    private var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard isInteractive, ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 1 else {
            return (.max, .max)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    func print(_ lines: [TextLine]) {
        write(lines.map { $0.text(isStyled: hasColor) + "\n" }.joined())
    }

    /// Takes the whole window, until `leave`.
    func enter() { if isInteractive { write("\u{1B}[?1049h\u{1B}[?25l") } }
    func leave() { if isInteractive { write("\u{1B}[?25h\u{1B}[?1049l") } }

    /// Shows these lines in the place of the ones before: in one write, over what is there, so that nothing flickers.
    func show(_ lines: [TextLine]) {
        guard isInteractive else { return print(lines + [TextLine()]) }
        let (columns, rows) = size
        var shown = lines
        if shown.count > rows {
            let hidden = shown.count - (rows - 1)
            shown = shown.prefix(rows - 1) + [TextLine(Cell("… \(hidden) more lines: make the window higher", .dim))]
        }
        let text = shown.map { $0.text(isStyled: hasColor, columns: columns) + "\u{1B}[K" }
        write("\u{1B}[H" + text.joined(separator: "\r\n") + "\u{1B}[J")
    }

    private func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }
}

/// Set once, from any thread.
final class Ended: Sendable {
    private let flag = Atomic(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}
