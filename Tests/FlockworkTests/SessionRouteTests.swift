// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Testing

@testable import Flockwork

@Suite("A session of a cluster", .timeLimit(.minutes(1)))
struct SessionRouteTests {
    private static let nodes: [NodeID] = ["a", "b"]

    private static func view(_ version: UInt64, primary: Int32) -> ClusterDescription {
        var view = ClusterDescription(members: nodes.map { .init(node: $0, host: "127.0.0.1", port: 1) }, pipelines: [])
        view.isCluster = true
        view.version = version
        view.primaries = [primary, primary]
        return view
    }

    /// A session that is opened at the first of two nodes, which leads everything in view 1.
    private static func session(_ first: ScriptedPort, _ second: ScriptedPort) -> (Session, ClusterMap) {
        let map = ClusterMap()
        _ = map.learn(view(1, primary: 0))
        let routes = SessionRoutes(
            map: map, port: { $0 == nodes[0] ? first : second }, connectTime: .zero, refresh: { _ in })
        let token = ScriptedPort.token(window: 16)
        let session = Session(
            token: token, layout: .fixed(stride: 8),
            port: RoutedPort(token.partition, openedAt: first, routes: routes), outbox: OutboxQueue(), onEnd: {})
        return (session, map)
    }

    @Test("goes where a newer view says, with all that has no outcome, though its node says nothing any more")
    func follow() async throws {
        let first = try ScriptedPort(node: Self.nodes[0])
        let second = try ScriptedPort(node: Self.nodes[1], loop: first.loop)
        let (session, map) = Self.session(first, second)
        await first.loop.run { session.attach() }
        _ = try session.post(ItemBuffer(Rows([1 as Int64, 2, 3], width: 1)), deadline: nil, trace: nil)
        try await eventually { !first.submits.all.isEmpty }

        // An older view changes nothing, and no view does while it says the same.
        _ = map.learn(Self.view(2, primary: 0))
        await first.loop.run { session.follow() }
        #expect(first.attaches == 1 && second.attaches == 0)

        _ = map.learn(Self.view(3, primary: 1))
        await first.loop.run { session.follow() }
        try await eventually { second.attaches == 1 && !second.submits.all.isEmpty }
        let sent = second.submits.all.flatMap(\.runs)
        #expect(sent.map(\.first) == [0] && sent.map(\.items.count) == [3])
        await session.close()
        await first.loop.stop()
    }

    @Test("is not lost between two nodes of which each, for a moment, was said to lead")
    func backAgain() async throws {
        let first = try ScriptedPort(node: Self.nodes[0])
        let second = try ScriptedPort(node: Self.nodes[1], loop: first.loop)
        let (session, map) = Self.session(first, second)
        await first.loop.run { session.attach() }
        _ = try session.post(ItemBuffer(Rows([1 as Int64, 2], width: 1)), deadline: nil, trace: nil)
        try await eventually { !first.submits.all.isEmpty }
        let before = first.submits.all.count
        let error = FlockError(.moved, "not here", node: Self.nodes[1], retryAfter: .milliseconds(1))
        await first.say(StreamPart(refused: .init(from: 0, error: error)))
        try await eventually { !second.submits.all.isEmpty }
        #expect(second.attaches == 1, "a node that has no stream of the session cannot answer")
        // The next view says that it was the first one all along.
        _ = map.learn(Self.view(2, primary: 0))
        try await eventually { first.submits.all.count > before }
        #expect(first.submits.all.dropFirst(before).flatMap(\.runs).map(\.items.count) == [2])
        await session.close()
        await first.loop.stop()
    }

    @Test(
        "sends what a full inbox refused again, and what it took before only where nobody may have taken it",
        arguments: [(FlockError.Code.overloaded, 2 as UInt64), (.unavailable, 0)])
    func refused(code: FlockError.Code, from: UInt64) async throws {
        let first = try ScriptedPort(node: Self.nodes[0])
        let (session, _) = Self.session(first, first)
        await first.loop.run { session.attach() }
        _ = try session.post(ItemBuffer(Rows([1 as Int64, 2, 3, 4], width: 1)), deadline: nil, trace: nil)
        try await eventually { !first.submits.all.isEmpty }
        let before = first.submits.all.count
        let error = FlockError(code, "not now", retryAfter: .milliseconds(5))
        await first.say(StreamPart(refused: .init(from: 2, error: error)))
        try await eventually { first.submits.all.count > before }
        let again = first.submits.all.dropFirst(before).flatMap(\.runs)
        #expect(again.map(\.first) == [from] && again.map(\.items.count) == [4 - Int(from)])
        await session.close()
        await first.loop.stop()
    }
}
