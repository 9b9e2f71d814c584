// Flockwork · Apache-2.0 · see LICENSE

// One line that is rewritten on a terminal, and a plain line about each second elsewhere.

/// What the run has reached.
struct Progress: Sendable {
    var done: Int
    var total: Int
    /// Requests per second, lately.
    var rate: Double
    /// Items of a batch, lately; nil before the first.
    var batch: Double?

    /// Seconds to go at this rate.
    var remaining: Double { rate > 0 ? Double(total - done) / rate : .infinity }
}

/// Shows a `Progress`.
struct ProgressLine {
    let terminal: Terminal

    /// The line, at most `columns` wide.
    func text(_ progress: Progress, columns: Int) -> String {
        let share = progress.total > 0 ? Double(progress.done) / Double(progress.total) : 1
        let percent = Text.right("\(Int(100 * share)) %", to: 5)
        var parts = [
            "\(Text.count(progress.done)) of \(Text.count(progress.total))",
            "\(Text.count(Int(progress.rate)))/s",
        ]
        if progress.done < progress.total { parts.append("ETA \(Text.wait(seconds: progress.remaining))") }
        if let batch = progress.batch { parts.append("batch \(Int(batch.rounded()))") }
        let room = columns - 1
        var text = parts.joined(separator: " · ")
        while text.count + percent.count + 2 > room, parts.count > 1 {
            parts.removeLast()
            text = parts.joined(separator: " · ")
        }
        let width = min(30, room - text.count - percent.count - 4)
        guard terminal.isInteractive, width >= 8 else { return String("\(percent)  \(text)".prefix(max(room, 0))) }
        let filled = Int(share * Double(width))
        let bar =
            terminal.styled(String(repeating: "█", count: filled), .cyan)
            + terminal.styled(String(repeating: "░", count: width - filled), .dim)
        return "\(bar) \(percent)  \(text)"
    }

    func show(_ progress: Progress) {
        if terminal.isInteractive {
            terminal.write("\r\u{1B}[2K" + text(progress, columns: terminal.columns))
        } else {
            terminal.line(text(progress, columns: 120))
        }
    }

    /// Ends the rewritten line.
    func finish() {
        if terminal.isInteractive { terminal.write("\r\u{1B}[2K") }
    }
}

/// The rate over the last second or so: smooth enough to read, quick enough to follow.
struct RateMeter {
    private var samples: [(at: UInt64, done: Int)] = []

    /// Takes a sample and returns the rate per second since the oldest one of the last 1.5 s.
    mutating func rate(done: Int, at now: UInt64) -> Double {
        samples.append((now, done))
        while samples.count > 2, now - samples[0].at > 1_500_000_000 { samples.removeFirst() }
        guard let first = samples.first, now > first.at else { return 0 }
        return Double(done - first.done) * 1e9 / Double(now - first.at)
    }
}
