// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import FlockCluster
import FlockTestKit
import FlockTransport
import FlockWire
import Flockwork
import Foundation
import Logging
import Synchronization
import Testing

@testable import Launcher

@Suite("A cluster in a bad network", .serialized, .timeLimit(.minutes(3)))
struct LinkFaultTests {
    /// Nodes in this process, with faults of their connections.
    private final class Flock: Sendable {
        static let seed = UInt64.random(in: 1...UInt64(UInt32.max))
        let logs = LogCapture()
        private let started = Mutex<[Node]>([])
        let ports: [Int]
        let names: [String]
        private let tokens: (nodes: String, clients: String)?

        init(_ count: Int, tokens: (nodes: String, clients: String)?) throws {
            self.tokens = tokens
            ports = try FreePorts.find(count + 1)
            names = (1...count).map { "node-\($0)" }
        }

        func configuration(_ place: Int) -> NodeConfiguration {
            let id = NodeID("node-\(place + 1)")
            var limits = Limits()
            limits.partitions = 16
            var configuration = NodeConfiguration(
                id: id, port: ports[place], limits: limits, logger: logs.logger(for: id), cores: 1)
            configuration.join = names.indices.map { "127.0.0.1:\(ports[$0])" }
            configuration.tokenFile = tokens?.nodes
            configuration.clientTokenFile = tokens?.clients
            configuration.faultSeed = Self.seed &+ UInt64(place)
            return configuration
        }

        func start(_ configuration: NodeConfiguration, _ pipeline: any ServablePipeline) async throws -> Node {
            let node = Node(pipelines: [pipeline], configuration: configuration)
            try await node.start()
            started.withLock { $0.append(node) }
            return node
        }

        func stop() async { for node in started.withLock({ $0 }) { await node.abandon() } }
    }

    private func withFlock(
        _ count: Int = 3, tokens: (nodes: String, clients: String)? = nil,
        _ body: (Flock, [LinkFaults], ViewWatch, CheckedLoad) async throws -> Void
    ) async throws {
        let flock = try Flock(count, tokens: tokens)
        print("faults of seed \(Flock.seed)")
        try await flock.logs.printingOnFailure {
            do {
                var nodes: [Node] = []
                for place in 0..<count {
                    var configuration = flock.configuration(place)
                    configuration.bootstrap = count
                    nodes.append(try await flock.start(configuration, diagnosisPipeline(model: .logistic)))
                }
                for node in nodes { try await node.joined() }
                let faults = try nodes.map { try #require($0.faults) }
                var configuration = ClientConfiguration()
                configuration.window = 1024
                configuration.tokenFile = tokens?.clients
                configuration.logger = flock.logs.logger(for: "client")
                try await withCheckedLoad(on: ["127.0.0.1:\(flock.ports[0])"], flock.names, configuration) {
                    try await body(flock, faults, $0, $1)
                }
                await flock.stop()
            } catch {
                await flock.stop()
                throw error
            }
        }
    }

    enum Way: String, CaseIterable { case deaf, mute, stuck }

    @Test(
        "a node that hears nobody, is heard by nobody, or stands still, loses its lead, and is back afterwards",
        arguments: Way.allCases)
    func cutOff(way: Way) async throws {
        try await withFlock { flock, faults, views, load in
            // The first name calls all others, the last one waits to be called.
            let place = way == .deaf ? 0 : way == .mute ? 1 : 2
            let number = try await views.numbers()[flock.names[place]]
            var fault = LinkFault()
            switch way {
            case .deaf: fault = .deaf
            case .mute: fault.dropsOutgoing = 1
            case .stuck: fault = .halfOpen
            }
            faults[place].setForOthers(fault)
            try await views.leadsNothing(flock.names[place])
            try await load.goesOn()
            try await views.isGone(number)
            faults[place].setForOthers(nil)
            try await views.whole(flock.names)
        }
    }

    @Test("while two nodes do not hear each other, but others do, requests go on")
    func pair() async throws {
        try await withFlock { flock, faults, views, load in
            faults[0].set(.halfOpen, for: "node-2")
            try await load.goesOn(400)
            faults[0].set(nil, for: "node-2")
            try await views.whole(flock.names)
        }
    }

    @Test("a slow node stays a member, and requests go on")
    func slow() async throws {
        try await withFlock { flock, faults, views, load in
            let before = try await views.numbers()
            var fault = LinkFault()
            fault.delay = .milliseconds(60)
            faults[1].setForOthers(fault)
            try await load.goesOn(800)
            faults[1].setForOthers(nil)
            try await views.whole(flock.names)
            #expect(try await views.numbers() == before)
        }
    }

    @Test("frames between nodes that are lost and doubled change nothing")
    func lossy() async throws {
        try await withFlock { flock, faults, views, load in
            var fault = LinkFault()
            fault.dropsIncoming = 0.1
            fault.duplicates = 0.1
            for (place, own) in faults.enumerated() {
                for (other, name) in flock.names.enumerated() where other != place { own.set(fault, for: NodeID(name)) }
            }
            try await load.goesOn(800)
            for own in faults { for name in flock.names { own.set(nil, for: NodeID(name)) } }
            try await views.whole(flock.names)
        }
    }

    @Test("connections that are reset are made again, and the processes stay members")
    func reset() async throws {
        try await withFlock { flock, faults, views, load in
            let before = try await views.numbers()
            for place in 0..<3 {
                for name in flock.names { faults[place].reset(NodeID(name)) }
                try await load.goesOn(100)
            }
            try await views.whole(flock.names)
            #expect(try await views.numbers() == before)
        }
    }

    @Test("a node of another build or of another cluster is told why it is refused")
    func strangers() async throws {
        try await withFlock { flock, _, views, load in
            let before = try await views.numbers()
            let pipeline = diagnosisPipeline(model: .logistic)
            let build = Pipeline("diagnosis", of: Int.self).map { $0 + 1 }
            try await expectRefusal(of: flock, build, "runs other versions of diagnosis") { _ in }
            try await expectRefusal(of: flock, pipeline, "cluster") { $0.clusterID = "another" }
            #expect(try await views.numbers() == before)
        }
    }

    @Test("a node with another token, with that of clients or with none is refused, and both sides say why")
    func tokens() async throws {
        let files = try TokenFiles(["nodes", "clients", "others"])
        defer { files.remove() }
        try await withFlock(tokens: (files["nodes"], files["clients"])) { flock, _, views, load in
            let before = try await views.numbers()
            let pipeline = diagnosisPipeline(model: .logistic)
            for name in ["others", "clients"] {
                try await expectRefusal(of: flock, pipeline, "another token than node") {
                    $0.tokenFile = files[name]
                    $0.clientTokenFile = nil
                }
            }
            try await expectRefusal(of: flock, pipeline, "asks for the cluster's token") {
                $0.tokenFile = nil
                $0.clientTokenFile = nil
            }
            #expect(try await views.numbers() == before)
            // The nodes that refused have it in their logs, and no log has a token.
            let heard = flock.logs.entries.filter { flock.names.contains($0.node) }.map { "\($0.metadata)" }
            for reason in ["another token than node", "asks for the cluster's token"] {
                #expect(heard.contains { $0.contains("unauthenticated") && $0.contains(reason) })
            }
            #expect(!flock.logs.text.contains(TokenFiles.mark))
        }
    }

    private func expectRefusal(
        of flock: Flock, _ pipeline: any ServablePipeline, _ reason: String,
        change: (inout NodeConfiguration) -> Void
    ) async throws {
        var configuration = flock.configuration(flock.names.count)
        change(&configuration)
        let node = try await flock.start(configuration, pipeline)
        do {
            try await node.joined()
            Issue.record("taken in although: \(reason)")
        } catch let error as FlockError {
            #expect(error.code == .incompatibleNode || error.code == .unauthenticated, "\(error)")
            #expect(error.message.contains(reason), "\(error)")
        }
        await node.abandon()
    }
}

/// Files with a token each, in a folder of their own.
private struct TokenFiles {
    /// In each of the tokens.
    static let mark = "no-log-has-this"
    private let folder = FileManager.default.temporaryDirectory.appending(path: "flockwork-tokens-\(UUID())")

    init(_ names: [String]) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for name in names {
            try Data("\(Self.mark) \(name)".utf8).write(to: folder.appending(path: name))
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: self[name])
        }
    }

    subscript(name: String) -> String { folder.appending(path: name).path }

    func remove() { #expect(throws: Never.self) { try FileManager.default.removeItem(at: folder) } }
}
