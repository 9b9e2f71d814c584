// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Logging
import Synchronization
import Testing

@testable import Launcher

/// Nodes that kill themselves in a chosen moment while requests go on, as processes.
@Suite("A process that dies in the worst moment", .serialized, .timeLimit(.minutes(3)))
struct CrashTests {
    private struct Cluster {
        let flock: LocalFlock
        let settings: Settings
        let views: ViewWatch
        let load: CheckedLoad
        let lines: Lines

        func node(_ name: String) throws -> ChildNode { try #require(flock.nodes.first { $0.id == name }) }

        /// The next such moment is that node's last one.
        func arm(_ name: String) throws { kill(try node(name).pid, SIGUSR1) }

        /// The node's moment came. It is none of the flock any more.
        func died(_ name: String, in moment: CrashMoment) async throws {
            let node = try node(name)
            let status = await first(within: .seconds(20)) { await node.ended.value() }
            flock.kill(node)
            try #require(status == 128 + SIGKILL, "\(name) had no such moment: \(moment)")
            try await eventually { lines.all.contains("\(name) | dies: \(moment.rawValue)") }
        }

        /// A fourth node comes, and dies in its moment if it is armed.
        func join(isArmed: Bool = false) async throws {
            let port = try #require(try FreePorts.find(1).first)
            try await flock.join(
                port: port, host: "127.0.0.1", settings: settings, extra: isArmed ? ["--armed"] : []
            ) { [lines] in lines.add($0, $1) }
        }
    }

    /// What the nodes say.
    private final class Lines: Sendable {
        private let said = Mutex<[String]>([])
        var all: [String] { said.withLock { $0 } }
        func add(_ node: String, _ line: String) { said.withLock { $0.append("\(node) | \(line)") } }
    }

    /// Three nodes that die in that moment, each as soon as it is armed. What they say to each other takes so long.
    private func withCluster(
        dyingIn moment: CrashMoment, delay milliseconds: Int? = nil, _ body: (Cluster) async throws -> Void
    ) async throws {
        let delay = milliseconds.map { ["--delay", "\($0)"] } ?? []
        let flock = LocalFlock(program: Programs.url("CrashNode"), extra: ["--crash", moment.rawValue] + delay)
        let lines = Lines()
        let settings = try await Settings.resolve(flags: [.cores: "1"], file: nil, environment: [:])
        do {
            try await flock.start(ports: try FreePorts.find(3), host: "127.0.0.1", settings: settings) {
                lines.add($0, $1)
            }
            var configuration = try settings.clientConfiguration()
            configuration.logger.logLevel = .critical
            try await withCheckedLoad(on: flock.addresses, flock.nodes.map(\.id), configuration) { views, load in
                try await body(Cluster(flock: flock, settings: settings, views: views, load: load, lines: lines))
            }
        } catch {
            print(lines.all.joined(separator: "\n"))
            await end(flock)
            throw error
        }
        await end(flock)
    }

    private func end(_ flock: LocalFlock) async {
        flock.killNow()
        for node in flock.nodes { _ = await node.ended.value() }
    }

    @Test(
        "a primary dies in the middle of a request, and each request has its one outcome all the same",
        arguments: [
            CrashMoment.submitCame, .acceptSent, .acceptCopied, .acceptCommitted, .runTaken, .outcomeMade, .outcomeSent,
            .outcomeCopied, .outcomeCommitted, .outcomeTaken,
        ])
    func primary(moment: CrashMoment) async throws {
        try await withCluster(dyingIn: moment) { cluster in
            try cluster.arm("node-2")
            try await cluster.died("node-2", in: moment)
            try await cluster.views.leadsNothing("node-2")
        }
    }

    @Test(
        "what a client was told is with others already, so that it stands when the primary dies at once",
        arguments: [CrashMoment.acceptSaid, .outcomeSaid])
    func said(moment: CrashMoment) async throws {
        // What the primary said to the others after that, or just before, is lost.
        try await withCluster(dyingIn: moment, delay: 10) { cluster in
            try cluster.arm("node-2")
            try await cluster.died("node-2", in: moment)
            try await cluster.views.leadsNothing("node-2")
        }
    }

    @Test("a learner dies while it syncs; it comes back and gets its copies")
    func learner() async throws {
        try await withCluster(dyingIn: .snapshotCame) { cluster in
            do { try await cluster.join(isArmed: true) } catch let error as FlockError where error.code == .unavailable
            {
                // It ended before it could say that it is a member.
            }
            try await cluster.died("node-4", in: .snapshotCame)
            try await cluster.load.goesOn()
            try await cluster.join()
            try await cluster.views.whole(["node-1", "node-2", "node-3", "node-4"])
        }
    }

    @Test(
        "a primary dies while a learner syncs, or once it has reported it; the learner gets its copies from others",
        arguments: [CrashMoment.snapshotSent, .learnerReported])
    func primaryOfLearner(moment: CrashMoment) async throws {
        try await withCluster(dyingIn: moment) { cluster in
            try cluster.arm("node-2")
            try await cluster.join()
            try await cluster.died("node-2", in: moment)
            try await cluster.views.whole(["node-1", "node-3", "node-4"])
        }
    }
}
