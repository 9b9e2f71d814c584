// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Logging
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Connections", .timeLimit(.minutes(1)))
struct ConnectionTests {
    @Test("frames of all sizes come back as they were sent")
    func echoesFrames() async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let listener = try await server.listening(onConnection: echo)
        let connection = try await client.connected(to: listener)
        #expect(connection.peer.node == NodeID("node-1"))
        #expect(connection.peer.role == .node)

        let sizes = [0, 1, 7, 8, 64, 4097, 16_384, 100_003, 1 << 20, 5 << 20]
        let bodies = sizes.map { size in Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) }) }
        let received = Mutex<[Bytes]>([])
        let done = Counter(goal: 2 * sizes.count)
        await client.run {
            connection.onFrame = { frame in
                #expect(frame.body.isAligned(to: 8))
                received.withLock { $0.append(frame.body) }
                done.add()
            }
            for body in bodies {
                connection.send(.call) { $0.write(body) }
                connection.send(.call, { _ in }, payload: body)
            }
        }
        await done.reachGoal()
        #expect(received.withLock { $0 } == bodies.flatMap { [$0, $0] })
        await client.stop()
        await server.stop()
    }
}
