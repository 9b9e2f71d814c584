// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Synchronization

struct Person: Codable, Sendable, Equatable {
    var name: String
    var age: Int
}

enum EchoError: Error { case tooShort(Int) }

/// Every shape of distributed method that works on another node.
distributed actor Echo {
    typealias ActorSystem = FlockSystem
    private var calls = 0
    private var notes: [String] = []

    distributed func echo(_ value: UInt64) -> UInt64 { value }
    distributed func greet(_ person: Person, greeting: String = "Hello") -> String { "\(greeting), \(person.name)" }
    distributed func none() -> Int {
        calls += 1
        return calls
    }
    distributed func note(_ text: String) { notes.append(text) }
    distributed func nothing() { calls += 1 }
    distributed func overloaded(_ value: Int) -> String { "Int \(value)" }
    distributed func overloaded(_ value: String) -> String { "String \(value)" }
    distributed func overloaded(other value: Int) -> String { "other \(value)" }
    distributed var noteCount: Int { notes.count }
    distributed func fails(with code: UInt16, message: String) throws -> Int {
        throw FlockError(FlockError.Code(rawValue: code), message, stage: "echo")
    }
    distributed func failsTyped(_ length: Int) throws(EchoError) -> Int { throw .tooShort(length) }
    distributed func failsLong() throws { throw FlockError(.stageFailed, String(repeating: "é", count: 5000)) }
    distributed func optional(_ value: Int?) -> Int? { value.map { $0 + 1 } }
    distributed func batch(_ rows: [[Float]]) -> [Float] { rows.map { $0.reduce(0, +) } }
    distributed func blob(_ bytes: [UInt8]) -> Int { bytes.count }
    distributed func big(_ count: Int) -> [UInt8] { Array(repeating: 7, count: count) }
    distributed func generic<T: Codable & Sendable>(_ value: T) -> T { value }
    distributed func deadline() -> Int { FlockSystem.deadline.map { Int($0.clampedNanoseconds) } ?? 0 }
    distributed func waits(_ probe: String) async -> Bool { await Probes.wait(probe) }
    distributed func direct(_ bytes: [UInt8]) -> [UInt8] { bytes }
}

/// As `Echo`, but on the system's loop.
distributed actor Pinned {
    typealias ActorSystem = FlockSystem
    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }
    private var sum: UInt64 = 0

    distributed func add(_ value: UInt64) -> UInt64 {
        sum += value
        return sum
    }
    distributed func fast(_ value: UInt64) throws -> UInt64 { value }
    distributed func clamp(_ value: Int, low: Int, high: Int) throws -> Int { min(max(value, low), high) }
    distributed func total() throws -> UInt64 { sum }
    distributed func isOnLoop() -> Bool { actorSystem.loop.isCurrent }
}

/// Another type with methods of its own, for calls to the wrong receiver.
distributed actor Vault {
    typealias ActorSystem = FlockSystem
    private var secret = [UInt8](repeating: 42, count: 64)
    distributed func reveal() -> [UInt8] { secret }
    distributed func store(_ secret: [UInt8]) { self.secret = secret }

    distributed actor Inner {
        typealias ActorSystem = FlockSystem
        distributed func reveal() -> Int { 1 }
    }
}

protocol Scorer: DistributedActor where ActorSystem == FlockSystem {
    distributed func score(_ value: Int) async throws -> Int
}

distributed actor Doubler: Scorer {
    typealias ActorSystem = FlockSystem
    distributed func score(_ value: Int) -> Int { value * 2 }
}

/// What suspended methods wait for, by name.
enum Probes {
    private static let signals = Mutex<[String: Signal]>([:])

    private static func signal(_ name: String) -> Signal {
        signals.withLock { signals in
            if let signal = signals[name] { return signal }
            let signal = Signal()
            signals[name] = signal
            return signal
        }
    }

    static func started(_ name: String) -> Signal { signal("started " + name) }
    static func cancelled(_ name: String) -> Signal { signal("cancelled " + name) }

    /// Suspends until the task is cancelled.
    static func wait(_ name: String) async -> Bool {
        started(name).fire()
        let never = AsyncStream<Void> { _ in }
        for await _ in never {}
        if Task.isCancelled { cancelled(name).fire() }
        return Task.isCancelled
    }
}
