// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork
internal import Foundation
internal import UnixSignals

/// Shows what nodes and their worker processes do.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Shows the view, what each node does, each stage, and each worker process.",
        discussion: """
            Rates, batch sizes and times are those of the moment between two looks (--over seconds). `wait` is how \
            long the oldest item of a batch waited for an instance, `compute` what a batch took, both on average.

            Asks the node of --admin, and through it all others; without it, the nodes of --to, as any client may.
            """)

    @Flag(help: "Shows it again and again, until Ctrl-C.")
    var watch = false
    @Flag(help: "Also lists each partition with its primary, and who is in sync.")
    var partitions = false
    @Option(
        help: ArgumentHelp(
            "Returns when the node is a member, all copies are made and nobody is about to come or go; fails "
                + "after that time. Also waits for a node that is being started.",
            valueName: "seconds"))
    var wait: Double?
    @Flag(help: "One JSON object a node, each on a line, with the totals since the start.")
    var json = false
    @Option(help: ArgumentHelp("Time between two looks.", valueName: "seconds"))
    var over = 1.0
    @OptionGroup(title: "Node") var admin: AdminFlags
    @OptionGroup(title: "Cluster") var target: TargetFlags
    @OptionGroup(title: "Cluster") var cluster: ClusterFlags

    func validate() throws {
        guard over >= 0.1, over <= 3600 else { throw ValidationError("--over is 0.1 to 3600 seconds.") }
        if let wait, !(0...86_400).contains(wait) { throw ValidationError("--wait is 0 to 86400 seconds.") }
        if wait != nil, watch { throw ValidationError("--wait and --watch exclude each other.") }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            if admin.admin != nil || (target.isDefault && admin.path != nil) {
                let source = AdminSource(path: admin.path ?? "")
                defer { source.close() }
                try await show { try await source.look() }
            } else if wait != nil {
                // The node may be started again meanwhile: each look is a connection of its own.
                try await show { try await target.withClient(cluster) { try await $0.status() } }
            } else {
                try await target.withClient(cluster) { client in try await show { try await client.status() } }
            }
        }
    }

    private func show(_ look: @escaping () async throws -> [NodeStatus]) async throws {
        if let wait { return try await waitUntilWhole(wait, look) }
        guard watch else { return try await showOnce(look) }
        let screen = Screen()
        if !json { screen.enter() }
        defer { if !json { screen.leave() } }
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let stop = Task { for await _ in signals { return } }
        defer { stop.cancel() }
        let ended = Ended()
        let watcher = Task {
            await stop.value
            ended.set()
        }
        defer { watcher.cancel() }
        try await watch(screen, until: ended, look)
    }

    private func waitUntilWhole(_ seconds: Double, _ look: () async throws -> [NodeStatus]) async throws {
        let end = ContinuousClock.now + .milliseconds(Int64(seconds * 1000))
        while true {
            var reason: String
            do {
                let nodes = try await look()
                reason = Self.whatIsMissing(nodes)
                if reason.isEmpty {
                    if json { return try printJSON(nodes) }
                    return Screen().print(StatusReport(nodes, nodes, seconds: 1).header)
                }
            } catch let error as FlockError where error.code == .unavailable || error.code == .deadlineExceeded {
                // It ends, or is not there yet, or has no time.
                reason = error.message
            }
            guard ContinuousClock.now < end else {
                throw FlockError(.deadlineExceeded, "after \(String(format: "%g", seconds)) s: \(reason)")
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    /// Why the next node may not be stopped yet; empty if it may.
    static func whatIsMissing(_ nodes: [NodeStatus]) -> String {
        let views = nodes.compactMap(\.cluster)
        guard let view = views.max(by: { $0.version < $1.version }) else {
            return "the node is in no cluster that makes copies"
        }
        // One that was let go still answers until its process has ended, and so does one that is not let in yet.
        let strangers = nodes.filter { node in
            !(node.cluster?.members.contains { $0.node == node.node && $0.number == node.cluster?.member } ?? false)
        }
        guard strangers.isEmpty else {
            return "\(strangers.map(\.node.rawValue).joined(separator: ", ")) is no member"
        }
        return view.isWhole ? "" : "not all copies are made"
    }

    private func showOnce(_ look: () async throws -> [NodeStatus]) async throws {
        let before = try await look()
        if json { return try printJSON(before) }
        let start = ContinuousClock.now
        try await Task.sleep(for: .milliseconds(Int64(over * 1000)))
        let after = try await look()
        Screen().print(report(before, after, since: start))
    }

    private func watch(_ screen: Screen, until ended: Ended, _ look: () async throws -> [NodeStatus]) async throws {
        var before: [NodeStatus] = []
        var lookedAt = ContinuousClock.now
        while !ended.isSet {
            let now = ContinuousClock.now
            do {
                let after = try await look()
                if json {
                    try printJSON(after)
                } else {
                    // The first table has no rates yet, and is there at once.
                    screen.show([banner(nil)] + report(before.isEmpty ? after : before, after, since: lookedAt))
                }
                (before, lookedAt) = (after, now)
            } catch let error as FlockError where !before.isEmpty {
                // The node that is asked went; it may come back.
                if json {
                    FlockworkCommand.complain("\(error)")
                } else {
                    screen.show([banner(error)] + report(before, before, since: lookedAt))
                }
            }
            let next = now + .milliseconds(Int64(over * 1000))
            while !ended.isSet, ContinuousClock.now < next {
                try await Task.sleep(for: min(.milliseconds(50), next - ContinuousClock.now))
            }
        }
    }

    /// When this is, or since when nothing is known any more.
    private func banner(_ error: FlockError?) -> TextLine {
        if let error { return TextLine(Cell("no answer, trying again: \(error.message)", .red)) }
        let time = Date.now.formatted(.iso8601.time(includingFractionalSeconds: false).timeSeparator(.colon))
        return TextLine(Cell("\(time) UTC, every \(String(format: "%g", over)) s, Ctrl-C ends", .dim))
    }

    private func report(
        _ before: [NodeStatus], _ after: [NodeStatus], since start: ContinuousClock.Instant
    ) -> [TextLine] {
        StatusReport(before, after, seconds: (ContinuousClock.now - start) / .seconds(1))
            .lines(.init(showsPartitions: partitions))
    }

    private func printJSON(_ nodes: [NodeStatus]) throws {
        let lines = try nodes.map { try JSONText.line($0) + "\n" }
        FileHandle.standardOutput.write(Data(lines.joined().utf8))
    }
}
