// Flockwork · Apache-2.0 · see LICENSE

// What the demo says at its end. Everything that is judged comes from the checker; batch sizes and shares are what the
// nodes report.

import BreastCancer
import Foundation

/// What a node did, by its own account.
struct NodeShare: Sendable {
    var node: String
    var items: Int
    var batches: Int
    /// How many batches had 2^i ... 2^(i+1)-1 items.
    var batchSizes: [UInt64]
}

/// The figures of a run.
struct Summary: Sendable {
    var checker: Checker
    var seconds: Double
    var latencies: LatencyHistogram
    var shares: [NodeShare]
    /// Why the run ended before its end, if it did.
    var interruption: String?
    /// What changes of the cluster took, where there were any.
    var changes: ChangeTimes?

    var isSuccess: Bool { checker.isPerfect && interruption == nil }

    /// The lines, without a line end.
    func lines(for terminal: Terminal) -> [String] {
        var lines: [String] = [""]
        func add(_ name: String, _ text: String) {
            lines.append("  " + terminal.styled(Text.padded(name, to: 12), .dim) + text)
        }
        func judged(_ number: Int, _ what: String) -> String {
            let style: Terminal.Style = number == 0 ? .green : .red
            return terminal.styled(Text.count(number), .bold, style) + "  " + terminal.styled(what, .dim)
        }
        add("requests", "\(Text.count(checker.acceptedCount)) accepted of \(Text.count(checker.total))")
        add("outcomes", outcomes)
        add("lost", judged(checker.lost, "accepted, and no outcome came"))
        add("doubled", judged(checker.doubled, "more than one outcome"))
        add(
            "wrong",
            judged(checker.wrong, "not \(checker.reference.maker)'s label and probability (±\(Reference.tolerance))"))
        if checker.strays > 0 { add("strays", judged(checker.strays, "outcomes for tickets that nobody holds")) }
        if checker.reused > 0 { add("reused", judged(checker.reused, "request numbers accepted twice")) }
        add("accuracy", accuracy)
        add(
            "throughput",
            "\(Text.count(Int(Double(checker.answeredCount) / max(seconds, 1e-9)))) requests/s over "
                + String(format: "%.2f s", seconds))
        add("latency", latency)
        for (name, text) in changeTexts { add(name, text) }
        lines += batchLines(terminal) + shareLines(terminal) + exampleLines(terminal)
        return lines + ["", verdict(terminal)]
    }

    private var outcomes: String {
        var parts = ["\(Text.count(checker.values)) values", "\(Text.count(checker.filtered)) filtered"]
        if checker.failures.isEmpty { parts.append("0 failures") }
        parts += checker.failures.sorted { $0.key < $1.key }.map { "\(Text.count($0.value)) \($0.key)" }
        return parts.joined(separator: " · ")
    }

    private var accuracy: String {
        let reference = zip(checker.reference.labels, checker.diagnoses).count { $0 == $1 }
        return Text.percent(checker.right, of: checker.values, digits: 2) + " of the labels are the diagnosis "
            + "(\(checker.reference.maker) on the \(checker.diagnoses.count) rows: "
            + Text.percent(reference, of: checker.diagnoses.count, digits: 2) + ")"
    }

    private var latency: String {
        guard latencies.count > 0 else { return "-" }
        let parts = [("p50", 50.0), ("p90", 90), ("p99", 99)].map {
            "\($0.0) \(Text.time(nanoseconds: latencies.percentile($0.1)))"
        }
        return (parts + ["max \(Text.time(nanoseconds: latencies.maximum))"]).joined(separator: " · ")
    }

    private var changeTexts: [(String, String)] {
        guard let changes else { return [] }
        func time(_ nanoseconds: UInt64?) -> String { nanoseconds.map { Text.time(nanoseconds: $0) } ?? "-" }
        return [
            ("join", "\(time(changes.joined)) from its start to its share of partitions"),
            (
                "kill -9",
                "noticed after \(time(changes.detected)) · gap \(time(changes.gap)) · all copies again after "
                    + time(changes.replicated)
            ),
            ("leave", "\(time(changes.left)) from SIGTERM to its end, with 0"),
        ]
    }

    private func batchLines(_ terminal: Terminal) -> [String] {
        var sizes: [UInt64] = []
        for share in shares {
            for (power, count) in share.batchSizes.enumerated() {
                while sizes.count <= power { sizes.append(0) }
                sizes[power] += count
            }
        }
        guard let most = sizes.max(), most > 0, let first = sizes.firstIndex(where: { $0 > 0 }),
            let last = sizes.lastIndex(where: { $0 > 0 })
        else { return [] }
        return (first...last).map { power in
            let low = 1 << power
            let range = power == 0 ? "1" : "\(Text.count(low))-\(Text.count(2 * low - 1))"
            let bar = String(repeating: "▇", count: Int((24 * Double(sizes[power]) / Double(most)).rounded(.up)))
            let name = power == first ? "batch size" : ""
            return "  " + terminal.styled(Text.padded(name, to: 12), .dim) + Text.right(range, to: 13) + " "
                + terminal.styled(Text.padded(bar, to: 24), .cyan) + " " + Text.count(Int(sizes[power]))
        }
    }

    private func shareLines(_ terminal: Terminal) -> [String] {
        let all = shares.reduce(0) { $0 + $1.items }
        let width = shares.map(\.node.count).max() ?? 0
        return shares.enumerated().map { index, share in
            let mean = share.batches > 0 ? String(format: "%.1f", Double(share.items) / Double(share.batches)) : "-"
            return "  " + terminal.styled(Text.padded(index == 0 ? "nodes" : "", to: 12), .dim)
                + Text.padded(share.node, to: width) + "  " + Text.right(Text.percent(share.items, of: all), to: 7)
                + "  \(Text.count(share.items)) items in \(Text.count(share.batches)) batches, \(mean) each"
        }
    }

    private func exampleLines(_ terminal: Terminal) -> [String] {
        var lines = checker.examples.map { "  " + terminal.styled($0, .yellow) }
        if checker.lost > 0 {
            let numbers = checker.lostExamples.map { Text.count($0) }.joined(separator: ", ")
            lines.append("  " + terminal.styled("lost, for example: requests \(numbers)", .yellow))
        }
        return lines.isEmpty ? [] : [""] + lines
    }

    private func verdict(_ terminal: Terminal) -> String {
        if let interruption { return terminal.styled("✘ ended early: \(interruption)", .bold, .red) }
        if isSuccess {
            return terminal.styled(
                "✔ every request was answered once, with \(checker.reference.maker)'s value", .bold, .green)
        }
        return terminal.styled("✘ the run is not right: see above", .bold, .red)
    }
}
