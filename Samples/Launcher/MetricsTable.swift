// Flockwork · Apache-2.0 · see LICENSE

// `--metrics`: what the nodes do right now, from two of their status reports.

import Flockwork
import Foundation

/// A live table of nodes and stages. Takes one report after the other; figures are those since the report before.
struct MetricsTable {
    private struct Totals {
        var items: UInt64 = 0
        var batches: UInt64 = 0
        var busy: UInt64 = 0
        var waited: UInt64 = 0

        init() {}

        init(_ stage: StageStatus) {
            items = stage.items
            batches = stage.batches
            busy = stage.busyNanoseconds
            waited = stage.waitedNanoseconds
        }

        /// A node that started again begins at zero.
        func since(_ earlier: Totals) -> Totals {
            guard items >= earlier.items, batches >= earlier.batches, busy >= earlier.busy, waited >= earlier.waited
            else { return self }
            var difference = Totals()
            difference.items = items - earlier.items
            difference.batches = batches - earlier.batches
            difference.busy = busy - earlier.busy
            difference.waited = waited - earlier.waited
            return difference
        }
    }

    private struct Key: Hashable {
        let node: NodeID
        let place: Int
    }

    private var stages: [Key: Totals] = [:]
    private var completed: [NodeID: UInt64] = [:]
    private var at: UInt64?

    /// The table's lines, at most `columns` wide, for a report that was made at `now`, in nanoseconds.
    mutating func lines(
        for nodes: [NodeStatus], at now: UInt64, columns: Int, terminal: Terminal
    ) -> [String] {
        let seconds = at.map { Double(now &- $0) / 1e9 } ?? 0
        at = now
        func row(_ cells: [String]) -> String { Self.row(cells, columns) }
        var lines = [terminal.styled(row(Self.nodeHeader), .dim)]
        for node in nodes { lines.append(row(nodeCells(node, seconds))) }
        lines.append(terminal.styled(row(Self.stageHeader), .dim))
        let hasPipelines = Set(nodes.flatMap(\.stages).map(\.pipeline)).count > 1
        for node in nodes {
            for (place, stage) in node.stages.enumerated() {
                // What is the same in all rows is left out.
                let name = [
                    nodes.count > 1 ? node.node.rawValue : nil, hasPipelines ? stage.pipeline : nil, stage.label,
                ]
                let key = Key(node: node.node, place: place)
                lines.append(row([name.compactMap(\.self).joined(separator: " ")] + stageCells(stage, key, seconds)))
            }
        }
        return lines
    }

    private static let nodeHeader = ["node", "done/s", "open", "bytes", "refused", "failed", "sessions"]
    private static let stageHeader = ["stage", "items/s", "queue", "batch", "compute", "waited", "busy"]

    /// The first column is text, the others are figures.
    private static func row(_ cells: [String], _ columns: Int) -> String {
        let figures = cells.dropFirst().map { " " + Text.right($0, to: 9) }.joined()
        let width = max(8, min(30, columns - 2 - figures.count))
        return String(("  " + Text.padded(String(cells[0].prefix(width)), to: width) + figures).prefix(max(columns, 0)))
    }

    private mutating func nodeCells(_ node: NodeStatus, _ seconds: Double) -> [String] {
        let earlier = completed.updateValue(node.completed, forKey: node.node) ?? 0
        let done = node.completed >= earlier ? node.completed - earlier : node.completed
        return [
            node.node.rawValue, Self.rate(done, seconds), Text.count(node.openRequests), Self.bytes(node.openBytes),
            Text.count(Int(node.refused)), Text.count(Int(node.failed)), Text.count(node.sessions),
        ]
    }

    private mutating func stageCells(_ stage: StageStatus, _ key: Key, _ seconds: Double) -> [String] {
        let totals = Totals(stage)
        let recent = totals.since(stages.updateValue(totals, forKey: key) ?? Totals())
        let batches = recent.batches
        let capacity = seconds * 1e9 * Double(max(stage.instances, 1))
        return [
            Self.rate(recent.items, seconds), Text.count(stage.waiting),
            batches == 0 ? "-" : String(format: "%.1f", Double(recent.items) / Double(batches)),
            batches == 0 ? "-" : Text.time(nanoseconds: recent.busy / batches),
            batches == 0 ? "-" : Text.time(nanoseconds: recent.waited / batches),
            capacity == 0 ? "-" : String(format: "%.0f %%", 100 * Double(recent.busy) / capacity),
        ]
    }

    private static func rate(_ count: UInt64, _ seconds: Double) -> String {
        seconds > 0 ? Text.count(Int(Double(count) / seconds)) : "-"
    }

    private static func bytes(_ count: Int) -> String {
        let value = Double(count)
        return switch count {
        case ..<10_000: "\(count) B"
        case ..<10_000_000: String(format: "%.1f KiB", value / 1024)
        default: String(format: "%.1f MiB", value / 1_048_576)
        }
    }
}

/// Lines that are rewritten in place on a terminal, and printed one after the other elsewhere.
struct LiveLines {
    let terminal: Terminal
    private var shown = 0

    init(_ terminal: Terminal) { self.terminal = terminal }

    /// How wide a line may be: one that wraps could not be found again.
    var columns: Int { terminal.isInteractive ? terminal.columns - 1 : 120 }

    /// Shows `lines` instead of those before.
    mutating func show(_ lines: [String]) {
        let text = lines.map { $0 + "\n" }.joined()
        guard terminal.isInteractive else { return terminal.write(text) }
        terminal.write(Self.back(shown) + text)
        shown = lines.count
    }

    /// To the first of the lines shown, and nothing below.
    private static func back(_ lines: Int) -> String {
        "\r" + (lines > 0 ? "\u{1B}[\(lines)A" : "") + "\u{1B}[J"
    }
}

/// Shows the table about once a second until the task is cancelled.
struct MetricsWatch {
    /// What the nodes say; nil if one does not answer now.
    let status: @Sendable () async -> [NodeStatus]?
    let terminal: Terminal

    /// The same table, for the nodes of a client.
    init(_ client: Client, _ terminal: Terminal) {
        self.init(terminal) { await Self.status(of: client) }
    }

    init(_ terminal: Terminal, status: @escaping @Sendable () async -> [NodeStatus]?) {
        self.terminal = terminal
        self.status = status
    }

    static func status(of client: Client) async -> [NodeStatus]? {
        do { return try await client.status() } catch { return nil }
    }

    func run() async {
        var table = MetricsTable()
        var lines = LiveLines(terminal)
        while !Task.isCancelled {
            if let nodes = await status() {
                lines.show(table.lines(for: nodes, at: DemoRun.now(), columns: lines.columns, terminal: terminal))
            }
            do { try await Task.sleep(for: .seconds(1)) } catch { return }
        }
    }
}
