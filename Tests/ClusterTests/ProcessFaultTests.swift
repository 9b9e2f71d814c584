// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Logging
import Synchronization
import Testing

@testable import Launcher

/// Nodes as operators run them: processes with a folder each.
@Suite("A cluster of processes", .serialized, .timeLimit(.minutes(3)))
struct ProcessFaultTests {
    private struct Cluster: Sendable {
        let flock: LocalFlock
        let views: ViewWatch
        let load: CheckedLoad
        let lines: Lines

        var names: [String] { flock.nodes.map(\.id).sorted() }
        func node(_ name: String) throws -> ChildNode { try #require(flock.nodes.first { $0.id == name }) }
        func whole() async throws { try await views.whole(names) }

        func restart(_ node: ChildNode) async throws {
            try await flock.restart(node) { lines.add($0, $1) }
            try await whole()
        }
    }

    /// What the nodes say, for a test that fails.
    private final class Lines: Sendable {
        private let all = Mutex<[String]>([])
        var text: String { all.withLock { $0.joined(separator: "\n") } }
        func add(_ node: String, _ line: String) { all.withLock { $0.append("\(node) | \(line)") } }
    }

    private func withCluster(_ body: (Cluster) async throws -> Void) async throws {
        let flock = LocalFlock(program: Programs.url("launcher"))
        let lines = Lines()
        let folder = FileManager.default.temporaryDirectory.appending(path: "flockwork-cluster-\(UUID())")
        try FileManager.default.createDirectory(
            at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: folder) } }
        let settings = try await Settings.resolve(
            flags: [.cores: "1", .logLevel: "notice"], file: nil, environment: [:])
        do {
            try await flock.start(ports: try FreePorts.find(3), host: "127.0.0.1", settings: settings, folder: folder) {
                lines.add($0, $1)
            }
            var configuration = try settings.clientConfiguration()
            configuration.logger.logLevel = .critical
            try await withCheckedLoad(on: flock.addresses, flock.nodes.map(\.id), configuration) { views, load in
                try await body(Cluster(flock: flock, views: views, load: load, lines: lines))
            }
        } catch {
            print(lines.text)
            flock.killNow()
            _ = await flock.stop()
            throw error
        }
        let statuses = await flock.stop()
        #expect(statuses.allSatisfy { $0 == 0 }, "\(statuses)\n\(lines.text)")
    }

    @Test("a process that is stopped for a moment, and goes on, stays a member")
    func shortStop() async throws {
        try await withCluster { cluster in
            let before = try await cluster.views.numbers()
            let clock = ContinuousClock()
            for name in cluster.names {
                let node = try cluster.node(name)
                kill(node.pid, SIGSTOP)
                // How long it stands still is what is tested: less than the 300 ms after which it is suspected.
                try await clock.sleep(until: .now + .milliseconds(100))
                kill(node.pid, SIGCONT)
                try await cluster.load.goesOn(100)
            }
            try await cluster.whole()
            #expect(try await cluster.views.numbers() == before)
        }
    }

    @Test("a process that is stopped for long loses its lead, and is back as a new member when it goes on")
    func longStop() async throws {
        try await withCluster { cluster in
            let node = try cluster.node("node-3")
            let number = try await cluster.views.numbers()[node.id]
            kill(node.pid, SIGSTOP)
            try await cluster.views.leadsNothing(node.id)
            try await cluster.load.goesOn()
            try await cluster.views.isGone(number)
            kill(node.pid, SIGCONT)
            try await cluster.whole()
            #expect(try await cluster.views.numbers()[node.id] != number)
        }
    }

    @Test("a voter that is killed votes again when it is back, so that another one may be killed then")
    func oneAfterTheOther() async throws {
        try await withCluster { cluster in
            for name in ["node-1", "node-2"] {
                let node = try cluster.node(name)
                cluster.flock.kill(node)
                try await cluster.views.leadsNothing(name)
                try await cluster.load.goesOn()
                _ = await node.ended.value()
                try await cluster.restart(node)
            }
        }
    }

    @Test("all nodes are restarted, one after the other, while requests go on")
    func rollingRestart() async throws {
        try await withCluster { cluster in
            for name in cluster.names {
                let node = try cluster.node(name)
                #expect(await cluster.flock.leave(node) == 0)
                try await cluster.load.goesOn(50)
                try await cluster.restart(node)
            }
        }
    }
}
