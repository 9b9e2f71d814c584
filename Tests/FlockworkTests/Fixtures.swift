// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import Flockwork
import Logging
import Synchronization

/// Twice the first of four numbers.
struct Doubling: Model {
    var inputWidth: Int { 4 }
    var outputWidth: Int { 1 }
    func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        rows.withElements { elements in
            for row in 0..<rows.count { scores[row] = 2 * elements[row * 4] }
        }
    }
}

struct Review: Codable, Sendable, Equatable {
    var id: Int
    var text: String
}

struct Verdict: Codable, Sendable, Equatable {
    var id: Int
    var length: Int
}

distributed actor Measure: Stage {
    distributed func process(_ batch: [Review]) async throws -> [Verdict] {
        batch.map { Verdict(id: $0.id, length: $0.text.count) }
    }
}

struct Bad: Error, CustomStringConvertible {
    var description: String { "item 13 is bad" }
}

/// Throws for a batch that holds the item 13.
distributed actor Superstitious: Stage {
    distributed func process(_ batch: [Int]) async throws -> [Int] {
        if batch.contains(13) { throw Bad() }
        return batch
    }
}

/// Loses an item of every batch.
distributed actor Forgetful: Stage {
    distributed func process(_ batch: [Int]) async throws -> [Int] { Array(batch.dropLast()) }
}

distributed actor AddOne: Stage {
    distributed func process(_ batch: [Int]) async throws -> [Int] { batch.map { $0 + 1 } }
}

/// Lets batches pass only when the test says so, and notes their sizes.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        var sizes: [Int] = []
        var watchers: [(Int, CheckedContinuation<Void, Never>)] = []
    }
    private let state = Mutex(State())

    var sizes: [Int] { state.withLock { $0.sizes } }

    func pass(_ size: Int) async {
        await withCheckedContinuation { continuation in
            let (goOn, watchers) = state.withLock { state -> (Bool, [CheckedContinuation<Void, Never>]) in
                state.sizes.append(size)
                let reached = state.watchers.filter { $0.0 <= state.sizes.count }.map(\.1)
                state.watchers.removeAll { $0.0 <= state.sizes.count }
                if !state.isOpen { state.waiting.append(continuation) }
                return (state.isOpen, reached)
            }
            for watcher in watchers { watcher.resume() }
            if goOn { continuation.resume() }
        }
    }

    /// Returns once `count` batches have come.
    func arrived(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.sizes.count >= count { return true }
                state.watchers.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}

distributed actor Gated: Stage {
    private let gate: Gate
    init(_ gate: Gate, actorSystem: FlockSystem) {
        self.gate = gate
        self.actorSystem = actorSystem
    }
    distributed func process(_ batch: [Int]) async throws -> [Int] {
        await gate.pass(batch.count)
        return batch
    }
}

/// Nodes of one cluster in this process, and a client.
struct Flock {
    let nodes: [Node]
    let client: Client

    static let quiet: Logger = {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }()

    static func start(
        _ pipelines: any ServablePipeline..., nodes count: Int = 1, limits: Limits = Limits(), cores: Int? = 2,
        window: Int = 16_384
    ) async throws -> Flock {
        // Ports are found by listening on any and letting go; a member list needs them before the nodes start.
        var nodes: [Node] = []
        var configuration = NodeConfiguration(id: "node-0", port: 0, limits: limits, logger: quiet, cores: cores)
        if count > 1 {
            let ports = try FreePorts.find(count)
            configuration.members = try ports.enumerated().map {
                try Member(id: NodeID("node-\($0.offset)"), host: "127.0.0.1", port: $0.element)
            }
        }
        for index in 0..<count {
            configuration.id = NodeID("node-\(index)")
            configuration.port = configuration.members.isEmpty ? 0 : configuration.members[index].port
            let node = Node(pipelines: pipelines, configuration: configuration)
            try await node.start()
            nodes.append(node)
        }
        return Flock(nodes: nodes, client: try await connect(to: nodes[0], limits: limits, window: window))
    }

    static func connect(to node: Node, limits: Limits = Limits(), window: Int = 16_384) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.limits = limits
        configuration.logger = quiet
        configuration.window = window
        return try await Client.connect(to: "127.0.0.1:\(node.port ?? 0)", configuration: configuration)
    }

    func stop() async {
        await client.close()
        for node in nodes { await node.shutDown() }
    }
}

extension Flock {
    /// Asks the first node for its status until it is as the test expects.
    func waits(for isThere: (NodeStatus) -> Bool) async throws {
        while true {
            let status = try await nodes[0].status()
            if isThere(status) { return }
            await Task.yield()
        }
    }
}
