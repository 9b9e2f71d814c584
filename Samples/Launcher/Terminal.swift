// Flockwork · Apache-2.0 · see LICENSE

// What the launcher knows about where its output goes. Colour is for terminals only and never without a word that says
// the same; NO_COLOR (https://no-color.org) turns it off.

import Foundation
import Synchronization

/// Standard output, as people see it.
struct Terminal: Sendable {
    enum Style: String {
        case bold = "1"
        case dim = "2"
        case red = "31"
        case green = "32"
        case yellow = "33"
        case cyan = "36"
    }

    /// Output goes to a terminal that can rewrite a line.
    let isInteractive: Bool
    /// Colour is wanted.
    let hasColor: Bool

    init(environment: [String: String] = ProcessInfo.processInfo.environment, isTerminal: Bool = isatty(1) == 1) {
        isInteractive = isTerminal && environment["TERM"] != "dumb"
        hasColor = isInteractive && (environment["NO_COLOR"] ?? "").isEmpty
    }

    func styled(_ text: String, _ styles: Style...) -> String {
        guard hasColor, !styles.isEmpty else { return text }
        return "\u{1B}[" + styles.map(\.rawValue).joined(separator: ";") + "m" + text + "\u{1B}[0m"
    }

    /// Columns of the terminal, 80 if it does not say.
    var columns: Int {
        var size = winsize()
        guard ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Writes at once, so that lines of several processes do not mix. A reader that went away is no error here.
    func write(_ text: String) {
        FileDescriptors.write(text, to: 1)
    }

    func line(_ text: String = "") { write(text + "\n") }

    /// A line for people who look for what went wrong.
    func complain(_ text: String) { FileDescriptors.write(text + "\n", to: 2) }
}

private enum FileDescriptors {
    // One write at a time: standard output is shared by the progress line and the children's lines.
    private static let turn = Mutex(())

    static func write(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        turn.withLock { _ in
            var written = 0
            while written < bytes.count {
                let count = bytes.withUnsafeBytes {
                    unistdWrite(descriptor, $0.baseAddress! + written, bytes.count - written)
                }
                if count < 0 {
                    if errno == EINTR || errno == EAGAIN { continue }
                    return
                }
                written += count
            }
        }
    }

    private static func unistdWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
        Foundation.write(descriptor, bytes, count)
    }
}

/// Numbers as people read them.
enum Text {
    /// `1,000,000`
    static func count(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var groups: [Substring] = []
        var end = digits.endIndex
        while end > digits.startIndex {
            let start = digits.index(end, offsetBy: -3, limitedBy: digits.startIndex) ?? digits.startIndex
            groups.append(digits[start..<end])
            end = start
        }
        return (number < 0 ? "-" : "") + groups.reversed().joined(separator: ",")
    }

    /// Three significant digits and a unit: `842 ns`, `1.24 ms`, `12.0 s`.
    static func time(nanoseconds: UInt64) -> String {
        let value = Double(nanoseconds)
        return switch nanoseconds {
        case ..<1000: "\(nanoseconds) ns"
        case ..<1_000_000: "\(digits(value / 1e3)) µs"
        case ..<1_000_000_000: "\(digits(value / 1e6)) ms"
        default: "\(digits(value / 1e9)) s"
        }
    }

    /// `41 s`, `3:05`, `1:02:07`
    static func wait(seconds: Double) -> String {
        guard seconds.isFinite, seconds < 360_000 else { return "-" }
        let whole = Int(seconds.rounded(.up))
        let two = { (number: Int) in number < 10 ? "0\(number)" : "\(number)" }
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60):\(two(whole % 60))" }
        return "\(whole / 3600):\(two(whole / 60 % 60)):\(two(whole % 60))"
    }

    static func percent(_ part: Int, of whole: Int, digits: Int = 1) -> String {
        guard whole > 0 else { return "-" }
        return String(format: "%.\(digits)f %%", 100 * Double(part) / Double(whole))
    }

    static func padded(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    static func right(_ text: String, to width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    private static func digits(_ value: Double) -> String {
        String(format: value < 10 ? "%.2f" : value < 100 ? "%.1f" : "%.0f", value)
    }
}
