// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
package import Logging
internal import Synchronization

// What is made once, however many instances use it, and what has to be ended with them: those of a lane on a node.

/// What the instances of a stage on a node share. Given to the closure of `stage(sharing:)`.
public final class NodeContext: Sendable {
    private struct State {
        var made: [String: Task<any Sendable, any Error>] = [:]
        var endings: [@Sendable () async -> Void] = []
        var children: [@Sendable () -> [ChildStatus]] = []
    }

    /// The node's name.
    public let node: NodeID
    /// Its bounds.
    package let limits: Limits
    /// For what happens on it.
    package let log: Logger
    /// That it gives to Flockwork.
    package let cores: Int
    /// That of all lanes of the node; ends after those of the lanes.
    package var whole: NodeContext { parent ?? self }
    private let parent: NodeContext?
    private let state = Mutex(State())

    init(node: NodeID, limits: Limits, log: Logger, cores: Int, parent: NodeContext? = nil) {
        self.node = node
        self.parent = parent
        self.limits = limits
        self.log = log
        self.cores = cores
    }

    /// Makes a value once, however many instances ask for it at the same time.
    package func shared<Value: Sendable>(
        _ key: String, make: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let task = state.withLock { state in
            if let task = state.made[key] { return task }
            let task = Task<any Sendable, any Error> { try await make() }
            state.made[key] = task
            return task
        }
        guard let value = try await task.value as? Value else {
            preconditionFailure("two stages share the key \(key) for values of different types")
        }
        return value
    }

    /// Has `body` called when the instances end, or could not be made; those that came last are called first.
    package func atEnd(_ body: @escaping @Sendable () async -> Void) {
        state.withLock { $0.endings.append(body) }
    }

    /// Has the node's status tell of child processes. `body` is called often, on the node's loop.
    package func tellsChildren(_ body: @escaping @Sendable () -> [ChildStatus]) {
        state.withLock { $0.children.append(body) }
    }

    var children: [ChildStatus] {
        let tellers = state.withLock { $0.children }
        return tellers.flatMap { $0() }
    }

    /// After the last batch.
    @concurrent func end() async {
        let endings = state.withLock { state in
            defer { state.endings = [] }
            return state.endings
        }
        for body in endings.reversed() { await body() }
    }
}
