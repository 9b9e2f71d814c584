// Flockwork · Apache-2.0 · see LICENSE

// What the demo does to its cluster while requests go on: a fourth node joins, one is killed, one leaves. Times are
// those that a client of the cluster sees, asking every few milliseconds.

import Flockwork
import Foundation

/// What was measured, in nanoseconds; nil for what did not come to pass.
struct ChangeTimes: Sendable {
    /// From the start of the fourth node to its share of partitions.
    var joined: UInt64?
    /// From the kill to a view without the victim as primary of anything.
    var detected: UInt64?
    /// The longest time after the kill in which a session had no outcome.
    var gap: UInt64?
    /// From the kill to as many copies of everything as the nodes that are left can hold.
    var replicated: UInt64?
    /// From SIGTERM to the end of the process that leaves.
    var left: UInt64?
}

/// Drives the changes.
struct ClusterChanges: Sendable {
    let client: Client
    let flock: LocalFlock
    let run: DemoRun
    let settings: Settings
    let terminal: Terminal

    private var views: ViewWatch { ViewWatch(client: client, patience: .seconds(30)) }

    func play() async throws -> ChangeTimes {
        var times = ChangeTimes()
        let first = flock.nodes.map(\.id)
        try await views.wait("all copies are made") { $0.isWhole(members: first) }
        try await load()
        tell("node-\(first.count + 1) joins")
        var start = DemoRun.now()
        let port = try Ports.free(1)[0]
        try await flock.join(port: port, host: "127.0.0.1", settings: settings) { node, line in
            if !line.hasPrefix(ReadyLine.prefix) { terminal.line("  \(node) | \(line)") }
        }
        let four = flock.nodes.map(\.id)
        try await views.wait("the new node has its share") { $0.isWhole(members: four) }
        times.joined = DemoRun.now() - start
        try await load()

        let victim = flock.nodes[1]
        tell("kill -9 \(victim.id)")
        start = DemoRun.now()
        run.watchGaps(from: start)
        flock.kill(victim)
        try await views.wait("the kill is noticed") { !$0.partitions.contains { $0.primary?.rawValue == victim.id } }
        times.detected = DemoRun.now() - start
        let three = flock.nodes.map(\.id)
        try await views.wait("all copies are made again") { $0.isWhole(members: three) }
        times.replicated = DemoRun.now() - start
        try await load()
        times.gap = run.longestGap()

        let leaver = flock.nodes[flock.nodes.count - 1]
        tell("\(leaver.id) leaves")
        start = DemoRun.now()
        let status = await flock.leave(leaver)
        guard status == 0 else {
            throw FlockError(.system, "\(leaver.id) ended with status \(status) when it was asked to leave")
        }
        times.left = DemoRun.now() - start
        try await load()
        return times
    }

    private func tell(_ text: String) { terminal.line("  " + terminal.styled("→ \(text)", .bold)) }

    /// A while of requests with nothing else going on.
    private func load() async throws { try await Task.sleep(for: .seconds(1)) }
}

extension ClusterStatus {
    /// These nodes are the members, each leads something, and all partitions have the copies that they should.
    func isWhole(members wanted: [String]) -> Bool {
        guard Set(members.map(\.node.rawValue)) == Set(wanted) else { return false }
        return partitions.allSatisfy {
            $0.primary != nil && $0.inSync.count == min(wanted.count, 3) && $0.learners.isEmpty
        } && Set(partitions.map(\.primary)).count == wanted.count
    }
}
