// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockTestKit
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

/// Has one more for every batch.
distributed actor Generous: Stage {
    distributed func process(_ batch: [Int]) async throws -> [Int] { batch + [0] }
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

    /// One gated instance a node.
    var pipeline: Pipeline<Int, Int> {
        Pipeline("gated", of: Int.self).stage(instances: .perNode(1)) { Gated(self, actorSystem: $0) }
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

/// Takes ten milliseconds for each item.
distributed actor Laborious: Stage {
    distributed func process(_ batch: [Int]) async throws -> [Int] {
        let end = ContinuousClock.now + .milliseconds(10 * batch.count)
        while ContinuousClock.now < end {}
        return batch
    }
}

extension Logger {
    /// For nodes that a test starts by itself.
    static var quiet: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }
}

extension Client {
    /// A client of nodes on ports of this machine.
    static func connect(toPorts ports: [Int], limits: Limits, logs: LogCapture) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.limits = limits
        configuration.window = 1024
        configuration.logger = logs.logger(for: "client")
        return try await Client.connect(to: ports.map { "127.0.0.1:\($0)" }, configuration: configuration)
    }
}

/// Counts from any thread.
final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { count.load(ordering: .relaxed) }
    func add(_ more: Int = 1) { count.add(more, ordering: .relaxed) }
}

/// Takes a value out of a closure.
final class Kept<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    func put(_ value: Value) { self.value.withLock { $0 = value } }
    /// What was put, if it was.
    func peek() -> Value? { value.withLock { $0 } }
    func take() -> Value {
        guard let value = value.withLock({ $0.take() }) else { preconditionFailure("nothing was put") }
        return value
    }
}

/// Collects values from any thread.
final class Collected<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    var all: [Value] { values.withLock { $0 } }
    func append(_ value: Value) { values.withLock { $0.append(value) } }
}
