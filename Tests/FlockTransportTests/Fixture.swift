// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Logging
import Synchronization

@testable import FlockTransport

/// A value that a loop produces and a test awaits.
final class Promise<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiters: [CheckedContinuation<Value, Never>] = []
    }
    private let state = Mutex(State())

    /// The first value counts.
    func fulfil(_ value: Value) {
        let waiters = state.withLock { state -> [CheckedContinuation<Value, Never>] in
            guard state.value == nil else { return [] }
            state.value = value
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: value) }
    }

    var value: Value {
        get async {
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let value = state.withLock { state -> Value? in
                        if state.value == nil { state.waiters.append(continuation) }
                        return state.value
                    }
                    if let value { continuation.resume(returning: value) }
                }
            } onCancel: {
                // The test's time limit: a run that ends with a word is better than one that hangs.
                fatalError("a test waited in vain for a value of type \(Value.self)")
            }
        }
    }
}

/// A counter with the reaching of a number as a condition to await.
final class Counter: Sendable {
    private let count = Mutex(0)
    private let goal: Int
    private let reached = Promise<Void>()

    init(goal: Int = .max) { self.goal = goal }

    func add(_ number: Int = 1) {
        let isReached = count.withLock { count in
            count += number
            return count >= goal
        }
        if isReached { reached.fulfil(()) }
    }

    var value: Int { count.withLock { $0 } }
    func reachGoal() async { await reached.value }
}

/// An actor that runs on a loop.
actor Pinned {
    private let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
    var count = 0

    init(_ loop: EventLoop) { self.loop = loop }

    func add() -> Bool {
        count += 1
        return loop.isCurrent
    }
}

extension EventLoop {
    /// Runs `body` on the loop and returns what it gives.
    @discardableResult
    func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in execute { continuation.resume(returning: body()) } }
    }

    func connected(
        to listener: Listener, as identity: Identity = .client(), limits: Limits = Limits(), expecting: NodeID? = nil
    ) async throws -> Connection {
        try await Dialer.connect(
            host: "127.0.0.1", port: listener.port, on: self, identity: identity, limits: limits, expecting: expecting)
    }

    /// Tries again as long as the listener is overloaded, or this machine too slow for a short time limit.
    func connectedInTheEnd(to listener: Listener) async throws -> Connection {
        var connection: Connection?
        try await eventually {
            do {
                connection = try await connected(to: listener)
                return true
            } catch let error as FlockError where error.code == .overloaded || error.code == .deadlineExceeded {
                return false
            }
        }
        guard let connection else { preconditionFailure("connected to nothing") }
        return connection
    }

    func listening(
        as identity: Identity = .node(), limits: Limits = Limits(),
        onConnection: @escaping @Sendable (Connection) -> Void
    ) async throws -> Listener {
        try await Listener.bind(
            host: "127.0.0.1", port: 0, on: self, identity: identity, limits: limits, log: Logger.quiet,
            onConnection: onConnection)
    }
}

extension Logger {
    static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

extension Limits {
    static func with(_ change: (inout Limits) -> Void) -> Limits {
        var limits = Limits()
        change(&limits)
        return limits
    }
}

extension Token {
    static let test = Token(bytes: Array("a token of the tests".utf8))
    static let other = Token(bytes: Array("a token of others".utf8))
    static let clients = Token(bytes: Array("a token of clients".utf8))
}

extension Identity {
    static func node(
        _ name: String = "node-1", cluster: String = "test", hash: UInt64 = 7, token: Token? = .test,
        range: ClosedRange<UInt16> = 1...1
    ) -> Identity {
        Identity(
            clusterID: cluster, node: NodeID(name), role: .node, membersHash: hash, token: token, protocolRange: range)
    }

    /// A node that asks clients for a token of their own.
    static func guarded(_ name: String = "node-1") -> Identity {
        var identity = node(name)
        identity.clientToken = .clients
        return identity
    }

    static func control(_ name: String, token: Token?) -> Identity {
        var identity = node(name, token: token)
        identity.role = .control
        return identity
    }

    static func client(
        _ name: String = "client-1", cluster: String = "test", token: Token? = .test,
        range: ClosedRange<UInt16> = 1...1
    ) -> Identity {
        Identity(clusterID: cluster, node: NodeID(name), role: .client, token: token, protocolRange: range)
    }
}

/// Answers every frame with one of the same body.
@Sendable func echo(_ connection: Connection) {
    connection.onFrame = { [unowned connection] frame in
        connection.send(.reply) { $0.write(frame.body) }
    }
    connection.onClose = { _ in _ = connection }
}
