// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork

/// What can be asked for.
struct PipelinesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pipelines", abstract: "Lists the pipelines of the cluster, and which of them are suspended.")

    @Flag(help: "One JSON object a pipeline, each on a line.")
    var json = false
    @OptionGroup(title: "Node") var admin: AdminFlags

    /// A pipeline on all nodes.
    struct Line: Encodable, Equatable {
        var name: String
        var form: String?
        var isSuspended: Bool
        var nodes: [String]
        var instances: Int
        /// Of all its stages, by node; nodes without any are left out.
        var hosts: [String: Int] = [:]
        /// Why its requests wait, where a stage has no instances anywhere.
        var unplaced: [String] = []
        var backlog: Int
        var items: UInt64

        fileprivate var state: Cell {
            if isSuspended { return Cell("suspended", .yellow) }
            return unplaced.isEmpty ? Cell("open") : Cell("waits", .red)
        }

        /// Each node with its instances; of many, the first.
        fileprivate var hostText: String {
            let names = hosts.keys.sorted()
            let shown = names.prefix(5).map { "\($0) \(hosts[$0] ?? 0)" }.joined(separator: ", ")
            return shown.isEmpty ? "-" : names.count > 5 ? shown + ", …" : shown
        }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            let lines = Self.lines(try await admin.withOperator { try await $0.status() })
            if json {
                for line in lines { print(try JSONText.line(line)) }
                return
            }
            var table = TextTable([
                .words("pipeline"), .words("state"), .number("nodes"), .number("instances"), .number("backlog"),
                .number("items"), .words("form"), .words("on"),
            ])
            for line in lines {
                table.rows.append([
                    Cell(line.name), line.state,
                    "\(line.nodes.count)", "\(line.instances)", "\(line.backlog)", "\(line.items)",
                    Cell(line.form ?? "private"), Cell(line.hostText),
                ])
            }
            let waiting = lines.flatMap { line in
                line.unplaced.map { TextLine(Cell("requests of \(line.name) wait: \($0)", .red)) }
            }
            Screen().print(table.lines + waiting)
        }
    }

    static func lines(_ nodes: [NodeStatus]) -> [Line] {
        var lines: [Line] = []
        for node in nodes {
            for pipeline in node.pipelines {
                let place = lines.firstIndex { $0.name == pipeline.name } ?? lines.count
                if place == lines.count {
                    lines.append(
                        Line(
                            name: pipeline.name, form: pipeline.form, isSuspended: false, nodes: [], instances: 0,
                            backlog: 0, items: 0))
                }
                let stages = node.stages.filter { $0.pipeline == pipeline.name }
                lines[place].isSuspended = lines[place].isSuspended || pipeline.isSuspended
                lines[place].nodes.append(node.node.rawValue)
                let instances = stages.reduce(0) { $0 + $1.instances }
                lines[place].instances += instances
                if instances > 0 { lines[place].hosts[node.node.rawValue] = instances }
                let unplaced = Set(lines[place].unplaced + pipeline.unplaced)
                lines[place].unplaced = unplaced.sorted()
                lines[place].backlog += stages.reduce(0) { $0 + $1.waiting }
                lines[place].items += stages.last?.items ?? 0
            }
        }
        return lines.sorted { $0.name < $1.name }
    }
}

/// Shuts a pipeline.
struct SuspendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "suspend",
        abstract: "Has a pipeline accept nothing new, on all nodes.",
        discussion: """
            Callers hear `suspended` before anything is accepted, and may try again later. What was accepted before is \
            finished and can be fetched. It stays so until `resume`, also when nodes restart one by one.
            """)

    @Argument(help: "The pipeline's name.") var pipeline: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("suspend", pipeline, done: "\(pipeline) accepts nothing new") {
            try await $0.suspend(pipeline)
        }
    }
}

/// Opens it again.
struct ResumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Has a suspended pipeline accept requests again.")

    @Argument(help: "The pipeline's name.") var pipeline: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("resume", pipeline, done: "\(pipeline) accepts requests") {
            try await $0.resume(pipeline)
        }
    }
}
