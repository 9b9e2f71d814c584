// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockGRPC

/// A server that echoes, one that counts, one that fails, one that waits.
enum EchoServer {
    /// `Stream` is answered on `executor`, without a thread of the pool: its caller may have the only one.
    static func handlers(held: Held, on executor: (any TaskExecutor)? = nil) -> [String: GRPCServer.Handler] {
        [
            "/test.Echo/Stream": { stream in
                try await withTaskExecutorPreference(executor) {
                    while let message = try await stream.receive() { try await stream.send(message) }
                }
            },
            "/test.Echo/Unary": { stream in
                guard let message = try await stream.receive() else { return }
                try await stream.send(message)
            },
            "/test.Echo/Twice": { stream in
                while let message = try await stream.receive() {
                    try await stream.send(message)
                    try await stream.send(message)
                    held.count.add(1, ordering: .relaxed)
                }
            },
            "/test.Echo/Fail": { stream in
                _ = try await stream.receive()
                throw FlockError(.invalidInput, "no such flavour")
            },
            "/test.Echo/Hold": { stream in
                held.count.add(1, ordering: .relaxed)
                _ = try await stream.receive()
                do {
                    try await eventually { false }
                } catch {
                    held.errors.withLock { $0.append(error) }
                }
                held.count.subtract(1, ordering: .relaxed)
            },
        ]
    }

    /// `body` is called with a channel to it, the queue of that, and what the handlers hold.
    static func with(
        _ body: (GRPCChannel, CompletionQueue, Held) async throws -> Void
    ) async throws {
        let node = try CompletionQueue(name: "client")
        let child = try CompletionQueue(name: "server")
        let held = Held()
        let server = try await GRPCServer(
            handlers(held: held, on: child.taskExecutor), on: child, limits: Limits())
        let (left, right) = try socketPair()
        server.adopt(descriptor: right)
        do {
            let channel = GRPCChannel(overDescriptor: left, on: node, limits: Limits())
            try await body(channel, node, held)
        }
        await server.stop()
        await node.stop()
        await child.stop()
    }

    static func socketPair() throws -> (Int32, Int32) {
        var pair: [Int32] = [0, 0]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        try #require(socketpair(AF_UNIX, type, 0, &pair) == 0)
        return (pair[0], pair[1])
    }
}

final class Held: Sendable {
    let count = Atomic(0)
    let errors = Mutex<[any Error]>([])
}
