// Flockwork · Apache-2.0 · see LICENSE

import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Synchronization
import Testing

@Suite("links with a second connection, for control messages")
struct ControlLinkTests {
    private static let method = DirectMethod(Echo.self, "direct")

    /// The sizes of what came, in order.
    private final class Received: Sendable {
        let sizes = Mutex<[Int]>([])
    }

    private func node(_ name: String, _ received: Received) async throws -> TestNode {
        try await TestNode.start(name) { system in
            _ = await system.named("echo", exportedTo: .nodes) { Echo(actorSystem: system) }
            system.direct(Echo.self, "direct") { _, call in received.sizes.withLock { $0.append(call.arguments.count) }
            }
        }
    }

    /// Sends `count` large messages, then a small one beside them that is written now, in one turn of the loop.
    private func flood(_ from: TestNode, to name: NodeID, _ count: Int) async {
        let address = ActorAddress(named: "echo", on: name)
        let system = from.system
        let isSent = Signal()
        from.loop.execute {
            for _ in 0..<count {
                system.peers[name]?.send(Self.method, on: address, payload: Bytes(count: 1 << 18) { _ in })
            }
            system.controlPeers[name]?.send(Self.method, on: address, payload: Bytes("alive"))
            system.controlPeers[name]?.flush()
            isSent.fire()
        }
        await isSent.wait()
    }

    @Test("what goes over it does not wait behind bulk, in both directions")
    func overtakes() async throws {
        let received = [Received(), Received()]
        let nodes = [try await node("node-1", received[0]), try await node("node-2", received[1])]
        let names = nodes.map(\.system.node)
        nodes[0].system.link(to: names[1], host: "127.0.0.1", port: nodes[1].port, withControl: true)
        try await eventually {
            zip(nodes, names.reversed()).allSatisfy {
                $0.system.peers[$1] != nil && $0.system.controlPeers[$1] != nil
            }
        }
        let count = 128
        for (sender, receiver) in [(0, 1), (1, 0)] {
            await flood(nodes[sender], to: names[receiver], count)
            try await eventually { received[receiver].sizes.withLock { $0.count == count + 1 } }
            let place = try #require(received[receiver].sizes.withLock { $0.firstIndex { $0 < 100 } })
            #expect(place < count, "\(names[sender]) to \(names[receiver]): the small one came at \(place)")
        }
        for node in nodes { await node.stop() }
    }

    @Test("it ends with the link, it is announced to nobody, and a node that was linked to without it has none")
    func ends() async throws {
        let ups = Mutex(0)
        let nodes = [try await node("node-1", Received()), try await node("node-2", Received())]
        let other = nodes[1].system.node
        nodes[0].system.onPeer(up: { _ in ups.withLock { $0 += 1 } })
        nodes[0].system.link(to: other, host: "127.0.0.1", port: nodes[1].port, withControl: true)
        try await eventually { nodes[0].system.controlPeers.count + nodes[0].system.peers.count == 2 }
        nodes[0].system.unlink(other)
        try await eventually {
            nodes.allSatisfy { $0.system.controlPeers.isEmpty && $0.system.peers.isEmpty }
        }
        nodes[0].system.link(to: other, host: "127.0.0.1", port: nodes[1].port)
        try await eventually { nodes[0].system.peers.count == 1 }
        #expect(nodes[0].system.controlPeers.isEmpty && ups.withLock { $0 } == 2)
        for node in nodes { await node.stop() }
    }
}
