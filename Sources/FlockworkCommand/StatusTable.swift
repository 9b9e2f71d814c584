// Flockwork · Apache-2.0 · see LICENSE

internal import Flockwork
internal import Foundation

/// Two looks at the same nodes, for people.
struct StatusTable {
    let lines: [String]

    /// - Parameter seconds: Between the looks.
    init(_ before: [NodeStatus], _ after: [NodeStatus], seconds: Double) {
        var lines: [String] = []
        if let view = after.compactMap(\.cluster).max(by: { $0.version < $1.version }) { lines += Self.view(view) }
        for node in after {
            let earlier = before.first { $0.node == node.node }
            let done = node.completed - min(node.completed, earlier?.completed ?? node.completed)
            lines.append(
                "\(node.node): \(node.accepted) accepted, \(node.completed) completed (\(node.failed) failures), "
                    + "\(node.openRequests) open, \(node.refused) refused; \(Self.rate(done, seconds)) now")
            if node.children.isEmpty {
                lines.append("  no worker processes")
                continue
            }
            lines += Self.table([Self.titles] + node.children.map { Self.cells($0, earlier, seconds) })
            var said: Set<String> = []
            for child in node.children where !child.lastError.isEmpty && said.insert(child.stage).inserted {
                lines.append("  last error of \(child.pipeline): \(child.lastError)")
            }
        }
        self.lines = lines
    }

    /// The newest view that a node has: its members, and how many partitions each leads and copies.
    private static func view(_ view: ClusterStatus) -> [String] {
        let whole = view.partitions.count { $0.primary != nil && $0.inSync.count > view.toleratedFailures }
        var rows = [["member", "number", "address", "state", "leads", "in sync", "learns"]]
        for member in view.members {
            let state = (member.isSuspected ? "suspected" : member.phase) + (member.isVoter ? ", votes" : "")
            rows.append([
                member.node.rawValue, "m\(member.number)", "\(member.host):\(member.port)", state,
                "\(view.partitions.count { $0.primary == member.node })",
                "\(view.partitions.count { $0.inSync.contains(member.node) })",
                "\(view.partitions.count { $0.learners.contains(member.node) })",
            ])
        }
        return [
            "view \(view.version): \(whole) of \(view.partitions.count) partitions served with enough copies; each "
                + "survives \(view.toleratedFailures) failures, control \(view.toleratedVoterFailures)"
        ] + table(rows)
    }

    private static let titles = [
        "pipeline", "child", "pid", "state", "batches", "items", "items/s", "busy", "restarts", "memory",
    ]

    private static func cells(_ child: ChildStatus, _ earlier: NodeStatus?, _ seconds: Double) -> [String] {
        let old = earlier?.children.first {
            $0.pipeline == child.pipeline && $0.stage == child.stage && $0.number == child.number
        }
        let items = child.items - min(child.items, old?.items ?? 0)
        let busy = child.busyNanoseconds - min(child.busyNanoseconds, old?.busyNanoseconds ?? 0)
        return [
            child.pipeline, "\(child.number)", child.process == 0 ? "-" : "\(child.process)", child.state,
            "\(child.batches)", "\(child.items)", rate(items, seconds),
            String(format: "%.0f %%", min(100, Double(busy) / 1e7 / seconds)), "\(child.restarts)",
            child.residentBytes == 0 ? "-" : String(format: "%.0f MB", Double(child.residentBytes) / 1e6),
        ]
    }

    private static func rate(_ items: UInt64, _ seconds: Double) -> String {
        let rate = Double(items) / seconds
        return rate < 10_000 ? String(format: "%.0f/s", rate) : String(format: "%.0f k/s", rate / 1000)
    }

    /// The first and fourth columns to the left, all others to the right.
    private static func table(_ rows: [[String]]) -> [String] {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            "  "
                + row.enumerated().map { column, cell in
                    let blanks = String(repeating: " ", count: widths[column] - cell.count)
                    return column == 0 || column == 3 ? cell + blanks : blanks + cell
                }.joined(separator: "  ")
        }
    }
}
