// Flockwork · Apache-2.0 · see LICENSE

internal import Flockwork

/// Two looks at the same nodes, for people.
struct StatusReport {
    /// Which tables.
    struct Choice {
        var showsPartitions = false
    }

    private let before: [NodeStatus]
    private let after: [NodeStatus]
    private let seconds: Double

    /// - Parameter seconds: Between the looks.
    init(_ before: [NodeStatus], _ after: [NodeStatus], seconds: Double) {
        self.before = before
        self.after = after
        self.seconds = max(seconds, 0.001)
    }

    /// The newest view that a node has.
    private var view: ClusterStatus? { after.compactMap(\.cluster).max { $0.version < $1.version } }

    func lines(_ choice: Choice = Choice()) -> [TextLine] {
        var blocks = [header, members, stages, children].filter { !$0.isEmpty }
        if choice.showsPartitions, let view { blocks.append(partitions(view)) }
        return Array(blocks.joined(separator: [TextLine()]))
    }

    /// What is said of the view.
    var header: [TextLine] {
        guard let view else { return waiting }
        let whole = view.partitions.count { $0.primary != nil && $0.inSync.count > view.toleratedFailures }
        let all = view.partitions.count
        let (copies, votes) = (Self.failures(view.toleratedFailures), Self.failures(view.toleratedVoterFailures))
        var line = TextLine(
            Cell("view \(view.version)", .bold), "  \(view.members.count) members  ",
            Cell("\(whole) of \(all) partitions served with enough copies", whole == all ? .green : .red),
            "  each survives \(copies), control \(votes)"
        )
        if let coming = view.comingVoter { line.cells.append(Cell("  \(coming) is becoming a voter", .yellow)) }
        var lines = [line]
        if !view.suspended.isEmpty {
            lines.append(TextLine(Cell("suspended: \(view.suspended.joined(separator: ", "))", .yellow)))
        }
        return lines + waiting
    }

    /// Pipelines whose requests wait for somebody who could execute them.
    private var waiting: [TextLine] {
        PipelinesCommand.lines(after).flatMap { line in
            line.unplaced.map { TextLine(Cell("requests of \(line.name) wait: \($0)", .red)) }
        }
    }

    private static func failures(_ count: Int) -> String { count == 1 ? "1 failure" : "\(count) failures" }

    // MARK: Members

    private var members: [TextLine] {
        var table = TextTable([
            .words("node"), .words("state"), .number("leads"), .number("copies"), .number("learns"),
            .number("accepted/s"), .number("done/s"), .number("failed/s"), .number("refused/s"), .number("open"),
            .number("held"), .words("address"),
        ])
        guard let view else {
            for node in after {
                table.rows.append([Cell(node.node.rawValue), "-", "-", "-", "-"] + flow(node) + ["-"])
            }
            return table.lines
        }
        for member in view.members.sorted(by: { $0.node < $1.node }) {
            let node = after.first { $0.node == member.node }
            table.rows.append(
                [
                    Cell(member.node.rawValue), state(member, isHeard: node != nil),
                    "\(view.partitions.count { $0.primary == member.node })",
                    "\(view.partitions.count { $0.inSync.contains(member.node) })",
                    "\(view.partitions.count { $0.learners.contains(member.node) })",
                ] + (node.map(flow) ?? Array(repeating: "-", count: 6)) + ["\(member.host):\(member.port)"])
        }
        return table.lines
    }

    private func state(_ member: ClusterStatus.Member, isHeard: Bool) -> Cell {
        let labels = member.labels.isEmpty ? "" : " [\(member.labels.joined(separator: ", "))]"
        let vote = (member.isVoter ? ", votes" : "") + labels
        if member.isSuspected { return Cell("suspected\(vote)", .red) }
        if !isHeard { return Cell("no answer\(vote)", .red) }
        return Cell(member.phase + vote, member.phase == "up" ? nil : .yellow)
    }

    private func flow(_ node: NodeStatus) -> [Cell] {
        let old = before.first { $0.node == node.node } ?? node
        return [
            rate(node.accepted, old.accepted), rate(node.completed, old.completed), rate(node.failed, old.failed),
            rate(node.refused, old.refused), Cell(Short.count(Double(node.openRequests))),
            Cell(Short.bytes(Double(node.openBytes))),
        ]
    }

    /// What a counter grew by, a second; nothing for one that began again.
    private func rate(_ new: UInt64, _ old: UInt64) -> Cell {
        Cell(Short.count(Double(new - min(old, new)) / seconds))
    }

    // MARK: Stages

    /// A stage of a pipeline on all nodes: the sum of what they did between the looks.
    private struct StageSum {
        var pipeline, stage: String
        var nodes = 0
        var instances = 0
        var waiting = 0
        var batches: UInt64 = 0
        var items: UInt64 = 0
        var busy: UInt64 = 0
        var waited: UInt64 = 0
        var sizes = [UInt64](repeating: 0, count: 64)
    }

    private var sums: [StageSum] {
        var sums: [StageSum] = []
        for node in after {
            let old = before.first { $0.node == node.node }
            for stage in node.stages {
                let place =
                    sums.firstIndex { $0.pipeline == stage.pipeline && $0.stage == stage.stage } ?? sums.count
                if place == sums.count { sums.append(StageSum(pipeline: stage.pipeline, stage: stage.stage)) }
                let earlier = old?.stages.first { $0.pipeline == stage.pipeline && $0.stage == stage.stage }
                func grown(_ value: (StageStatus) -> UInt64) -> UInt64 {
                    let before = earlier.map(value) ?? value(stage)
                    return value(stage) - min(before, value(stage))
                }
                sums[place].nodes += 1
                sums[place].instances += stage.instances
                sums[place].waiting += stage.waiting
                sums[place].batches += grown(\.batches)
                sums[place].items += grown(\.items)
                sums[place].busy += grown(\.busyNanoseconds)
                sums[place].waited += grown(\.waitedNanoseconds)
                for size in stage.batchSizes.indices.prefix(64) {
                    sums[place].sizes[size] += grown { $0.batchSizes[size] }
                }
            }
        }
        return sums
    }

    private var stages: [TextLine] {
        var table = TextTable([
            .words("pipeline"), .words("stage"), .number("nodes"), .number("instances"), .number("backlog"),
            .number("items/s"), .number("batches/s"), .number("mean batch"), .number("largest"), .number("wait"),
            .number("compute"),
        ])
        for sum in sums {
            let batches = Double(max(sum.batches, 1))
            func mean(_ value: Double, _ text: (Double) -> String) -> Cell {
                sum.batches == 0 ? "-" : Cell(text(value / batches))
            }
            let largest = sum.sizes.lastIndex { $0 > 0 }
            let isSuspended = after.contains { node in
                node.pipelines.contains { $0.name == sum.pipeline && $0.isSuspended }
            }
            table.rows.append([
                Cell(sum.pipeline + (isSuspended ? " (suspended)" : ""), isSuspended ? .yellow : nil),
                Cell(Self.short(sum.stage)),
                "\(sum.nodes)", "\(sum.instances)", Cell(Short.count(Double(sum.waiting))),
                Cell(Short.count(Double(sum.items) / seconds)), Cell(Short.count(Double(sum.batches) / seconds)),
                mean(Double(sum.items), Short.count), largest.map { "<\(2 << $0)" } ?? "-",
                mean(Double(sum.waited)) { Short.time(nanoseconds: $0) },
                mean(Double(sum.busy)) { Short.time(nanoseconds: $0) },
            ])
        }
        return table.lines
    }

    /// A stage is called by what it runs, perhaps a file: its folder says nothing here.
    private static func short(_ stage: String) -> String {
        stage.split(separator: " ").map { word in
            word.hasPrefix("/") ? word.split(separator: "/").last.map { String($0) } ?? "/" : String(word)
        }.joined(separator: " ")
    }

    // MARK: Worker processes

    private var children: [TextLine] {
        var table = TextTable([
            .words("node"), .words("pipeline"), .number("child"), .number("pid"), .words("state"), .number("batches"),
            .number("items"), .number("items/s"), .number("busy"), .number("restarts"), .number("memory"),
        ])
        var errors: [TextLine] = []
        for node in after {
            var said: Set<String> = []
            for child in node.children {
                table.rows.append(cells(child, of: node))
                guard !child.lastError.isEmpty, said.insert(child.stage).inserted else { continue }
                errors.append(
                    TextLine(Cell("last error of \(child.pipeline) on \(node.node): \(child.lastError)", .red)))
            }
        }
        return table.lines + errors
    }

    private func cells(_ child: ChildStatus, of node: NodeStatus) -> [Cell] {
        let old = before.first { $0.node == node.node }?.children.first {
            $0.pipeline == child.pipeline && $0.stage == child.stage && $0.number == child.number
        }
        let busy = child.busyNanoseconds - min(child.busyNanoseconds, old?.busyNanoseconds ?? 0)
        let isWell = child.state == "serving" || child.state == "spare"
        return [
            Cell(node.node.rawValue), Cell(child.pipeline), "\(child.number)",
            child.process == 0 ? "-" : "\(child.process)", Cell(child.state, isWell ? nil : .yellow),
            "\(child.batches)", "\(child.items)", rate(child.items, old?.items ?? 0),
            "\(Int(min(100, Double(busy) / 1e7 / seconds).rounded())) %", "\(child.restarts)",
            child.residentBytes == 0 ? "-" : Cell(Short.bytes(Double(child.residentBytes))),
        ]
    }

    // MARK: Partitions

    private static func names(_ nodes: [NodeID]) -> String { nodes.map(\.rawValue).sorted().joined(separator: " ") }

    private func partitions(_ view: ClusterStatus) -> [TextLine] {
        var table = TextTable([
            .number("partition"), .number("epoch"), .words("primary"), .words("in sync"), .words("learning"),
        ])
        for (number, partition) in view.partitions.enumerated() {
            let isShort = partition.inSync.count <= view.toleratedFailures
            table.rows.append([
                "\(number)", "\(partition.epoch)",
                partition.primary.map { Cell($0.rawValue) } ?? Cell("nobody", .red),
                Cell(Self.names(partition.inSync), isShort ? .red : nil), Cell(Self.names(partition.learners), .yellow),
            ])
        }
        return table.lines
    }
}
