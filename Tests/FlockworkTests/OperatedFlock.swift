// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Synchronization

@testable import Flockwork

/// Nodes of a cluster in this process, each with an admin socket.
final class OperatedFlock: Sendable {
    let folder: String
    let ports: [Int]
    let limits: Limits
    let nodes = Mutex<[Node]>([])
    private let logs = LogCapture.current ?? LogCapture()
    private let voters: Int

    init(_ count: Int, voters: Int, drainTime: Duration? = nil) throws {
        folder = NSTemporaryDirectory() + "flock-\(UInt32.random(in: 0 ... .max))"
        ports = try FreePorts.find(count)
        self.voters = voters
        var limits = Limits()
        limits.partitions = 16
        if let drainTime { limits.drainTime = drainTime }
        self.limits = limits
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    }

    func socket(_ place: Int) -> String { "\(folder)/\(place).sock" }

    func start(_ place: Int, _ pipeline: any ServablePipeline, labels: [String] = []) async throws -> Node {
        let id = NodeID("node-\(place)")
        var configuration = NodeConfiguration(
            id: id, port: ports[place], limits: limits, logger: logs.logger(for: id), cores: 1)
        configuration.bootstrap = place < voters ? voters : nil
        configuration.join = ports.prefix(voters).map { "127.0.0.1:\($0)" }
        configuration.adminSocket = socket(place)
        configuration.labels = labels
        let node = Node(pipelines: [pipeline], configuration: configuration)
        nodes.withLock { $0.append(node) }
        try await node.start()
        return node
    }

    func client() async throws -> Client { try await .connect(toPorts: ports, limits: limits, logs: logs) }

    func stop() async throws {
        for node in nodes.withLock({ $0 }) { await node.abandon() }
        try FileManager.default.removeItem(atPath: folder)
    }

    /// Runs `body` on a settled cluster of `count` nodes.
    static func run(
        _ count: Int, voters: Int = 3, drainTime: Duration? = nil, _ pipeline: any ServablePipeline,
        _ body: (OperatedFlock, [Node]) async throws -> Void
    ) async throws {
        let flock = try OperatedFlock(count, voters: voters, drainTime: drainTime)
        do {
            var nodes: [Node] = []
            for place in 0..<count { nodes.append(try await flock.start(place, pipeline)) }
            for node in nodes { try await node.joined() }
            try await eventually {
                guard let view = try await nodes[0].status().cluster, view.members.count == count else { return false }
                return view.partitions.allSatisfy { $0.inSync.count == min(count, 3) && $0.learners.isEmpty }
                    && Set(view.partitions.map(\.primary)).count == count
            }
            try await body(flock, nodes)
        } catch {
            try await flock.stop()
            throw error
        }
        try await flock.stop()
    }
}

/// Callers that ask one thing after the other, until they are told to stop.
final class SteadyCallers: Sendable {
    let answered = Atomic<Int>(0)
    private let isOver = Atomic<Bool>(false)
    private let failures = Mutex<[FlockError.Code: Int]>([:])
    private let wrong = Mutex(0)
    private let task = Mutex<Task<Void, Never>?>(nil)

    init(_ inbox: Inbox<Int, Int>, callers: Int = 8) {
        let task = Task {
            await withTaskGroup(of: Void.self) { group in
                for caller in 0..<callers { group.addTask { await self.ask(inbox, from: caller * 1_000_000) } }
            }
        }
        self.task.withLock { $0 = task }
    }

    private func ask(_ inbox: Inbox<Int, Int>, from first: Int) async {
        var item = first
        while !isOver.load(ordering: .relaxed) {
            do {
                if try await inbox.ask(item) != item + 1 { wrong.withLock { $0 += 1 } }
                answered.add(1, ordering: .relaxed)
            } catch let error as FlockError {
                failures.withLock { $0[error.code, default: 0] += 1 }
                // Also when the test is over, and nobody answers any more.
                if error.code != .suspended { return }
            } catch {
                wrong.withLock { $0 += 1 }
            }
            item += 1
        }
    }

    var failed: [FlockError.Code: Int] { failures.withLock { $0 } }

    /// Returns once so many more were answered.
    func goOn(_ more: Int = 300) async throws {
        let before = answered.load(ordering: .relaxed)
        try await eventually { answered.load(ordering: .relaxed) > before + more }
    }

    /// What failed, by code; wrong answers count as `badBatch`.
    func end() async -> [FlockError.Code: Int] {
        isOver.store(true, ordering: .relaxed)
        await task.withLock { $0 }?.value
        let count = wrong.withLock { $0 }
        return count == 0 ? failed : failed.merging([.badBatch: count]) { $1 }
    }
}
