// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

@Suite("What loops leave behind", .timeLimit(.minutes(1)))
struct LoopLeakTests {
    @Test("100 loops with listeners and connections leave no descriptor and no object behind")
    func leaksNothing() async throws {
        // In a process of its own, whose descriptors no other test opens.
        await #expect(processExitsWith: .success) {
            // What libraries open once is opened now.
            try await Self.useOnce()
            let before = Self.openDescriptors()
            let live = LiveObjects()
            for _ in 0..<100 { try await Self.useOnce(counting: live) }
            #expect(Self.openDescriptors() == before)
            #expect(live.alive == [])
        }
    }

    private static func useOnce(counting live: LiveObjects? = nil) async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let answered = Counter(goal: 2)
        let listener = try await server.listening { connection in
            live?.add(connection)
            live?.add(connection.stream)
            echo(connection)
        }
        for _ in 0..<2 {
            let connection = try await client.connected(to: listener)
            live?.add(connection)
            live?.add(connection.stream)
            await client.run {
                connection.onFrame = { _ in
                    _ = connection
                    answered.add()
                }
                connection.send(.call) { $0.write(1 as UInt64) }
            }
        }
        let dangling = try await client.connected(to: listener)
        live?.add(dangling.stream)
        // What fails leaves nothing behind either.
        await #expect(throws: FlockError(.unauthenticated, "")) {
            _ = try await client.connected(to: listener, as: .client(token: .other))
        }
        await #expect(throws: FlockError(.system, "")) {
            _ = try await Listener.bind(
                host: "127.0.0.1", port: listener.port, on: client, identity: .node(), limits: Limits(), log: .quiet
            ) { _ in }
        }
        let link = Link(
            host: "127.0.0.1", port: listener.port, on: client, identity: .node("node-2"), limits: Limits(),
            log: .quiet, onUp: { connection in live?.add(connection) })
        link.start()
        live?.add(link)
        live?.add(client.schedule(after: .seconds(100)) {})
        live?.add(listener)
        live?.add(server)
        live?.add(client)
        await answered.reachGoal()
        await client.stop()
        await server.stop()
    }

    static func openDescriptors() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return -1 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count
    }
}

/// Weak references to what should be gone.
final class LiveObjects: Sendable {
    private struct Entry { weak var object: (any AnyObject & Sendable)? }
    private let entries = Mutex<[Entry]>([])

    func add(_ object: any AnyObject & Sendable) { entries.withLock { $0.append(Entry(object: object)) } }

    var alive: [String] {
        entries.withLock { $0.compactMap { entry in entry.object.map { "\(type(of: $0))" } } }
    }
}
