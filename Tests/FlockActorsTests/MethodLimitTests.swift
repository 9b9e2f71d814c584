// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Testing

@Suite("limits of method tables and arguments", .timeLimit(.minutes(1)))
struct MethodLimitTests {
    /// What a node counts and says when a peer sends it such a frame.
    private func close(_ limits: Limits, _ body: @Sendable (inout ByteWriter) -> Void) async throws -> TestNode {
        let node = try await TestNode.start("node-1", limits: limits)
        let raw = try await RawPeer(to: node, as: .node)
        var writer = ByteWriter()
        body(&writer)
        raw.send(.methods, writer.finish().array)
        await raw.wait { $0.closed != nil }
        await raw.stop()
        return node
    }

    @Test("a table of too many methods, and a name that is too long, end the connection and are counted")
    func tables() async throws {
        var limits = Limits()
        limits.methods = 2
        limits.methodNameBytes = 8
        let many = try await close(limits) { writer in
            writer.writeVarint(3)
            for number in 0..<3 as Range<UInt32> {
                writer.write(number)
                writer.writeText("m")
            }
            writer.writeVarint(0)
        }
        // Its own table was too long for its limits too.
        try await eventually { many.loop.limitsReached.count(of: .methods) == 1 }
        await many.stop()
        limits.methods = 4096
        let long = try await close(limits) { writer in
            writer.writeVarint(1)
            writer.write(UInt32(1))
            writer.writeText("a long name")
            writer.writeVarint(0)
        }
        // Once for the peer's, once for its own names.
        try await eventually { long.loop.limitsReached.count(of: .methodNameBytes) == 2 }
        await long.stop()
    }

    @Test("arguments and answers over a limit are counted where they are read")
    func arguments() async throws {
        var limits = Limits()
        limits.codingElements = 1
        try await withPair(nodeLimits: limits) { node, client in
            let echo: Echo = try client.named("echo")
            let error = await flockError { _ = try await echo.batch([[1], [2], [3]]) }
            #expect(error?.code == .invalidInput && error?.limit == .codingElements)
            #expect(node.loop.limitsReached.count(of: .codingElements) == 1)
        }
    }
}
