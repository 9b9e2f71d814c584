// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import Flockwork
@testable import Launcher

@Suite("The table of metrics") struct MetricsTableTests {
    private let plain = Terminal(environment: [:], isTerminal: false)

    private func node(items: UInt64, batches: UInt64, busy: UInt64) -> NodeStatus {
        NodeStatus(
            node: "node-1", accepted: items, completed: items, failed: 3, refused: 7, openRequests: 42,
            openBytes: 20_480, sessions: 2, peers: [],
            stages: [
                StageStatus(
                    pipeline: "p", stage: "Score", instances: 2, waiting: 9, batches: batches, items: items,
                    bisected: 0, busyNanoseconds: busy, waitedNanoseconds: busy / 2, batchSizes: [])
            ])
    }

    private func cells(_ line: String) -> [String] {
        line.split(separator: " ").map { String($0) }
    }

    @Test("shows what happened between two reports, and what is now")
    func rates() {
        var table = MetricsTable()
        let first = table.lines(
            for: [node(items: 1000, batches: 10, busy: 5_000_000)], at: 0, columns: 120, terminal: plain)
        #expect(first.count == 4 && cells(first[1])[1] == "-", "no rate without an earlier report")
        let second = table.lines(
            for: [node(items: 5000, batches: 30, busy: 405_000_000)], at: 2_000_000_000, columns: 120, terminal: plain)
        #expect(cells(second[0]) == ["node", "done/s", "open", "bytes", "refused", "failed", "sessions"])
        #expect(cells(second[1]) == ["node-1", "2,000", "42", "20.0", "KiB", "7", "3", "2"])
        #expect(cells(second[2]) == ["stage", "items/s", "queue", "batch", "compute", "waited", "busy"])
        // 4,000 items in 20 batches of 20 ms, by two instances in 2 s.
        #expect(
            cells(second[3]) == ["Score", "2,000", "9", "200.0", "20.0", "ms", "10.0", "ms", "10", "%"])
    }

    @Test("a node that started again begins at zero")
    func restart() {
        var table = MetricsTable()
        _ = table.lines(for: [node(items: 5000, batches: 30, busy: 9)], at: 0, columns: 120, terminal: plain)
        let lines = table.lines(
            for: [node(items: 100, batches: 1, busy: 9)], at: 1_000_000_000, columns: 120, terminal: plain)
        #expect(cells(lines[1])[1] == "100" && cells(lines[3])[1] == "100")
    }

    @Test("no line is wider than the terminal", arguments: [8, 40, 79, 100, 200])
    func width(columns: Int) {
        var table = MetricsTable()
        let nodes = [node(items: 10_000_000, batches: 1, busy: 1), node(items: 0, batches: 0, busy: 0)]
        for line in table.lines(for: nodes, at: 0, columns: columns, terminal: plain) {
            #expect(line.count <= columns)
        }
    }
}
