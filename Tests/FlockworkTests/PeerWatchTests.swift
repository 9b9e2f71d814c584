// Flockwork · Apache-2.0 · see LICENSE

import FlockTransport
import FlockWire
import Testing

@testable import Flockwork

@Suite("Whether a node is there, as a client that waits for it finds out")
struct PeerWatchTests {
    private final class Connection {}
    private let connection = Connection()
    private var peer: ObjectIdentifier { ObjectIdentifier(connection) }
    private func tick(_ milliseconds: Int64) -> Tick { Tick.zero + .milliseconds(milliseconds) }

    @Test("a node that says nothing is asked, and then counts as silent until it says something")
    func silence() {
        var watch = PeerWatch()
        #expect(watch.look(7, of: peer, now: tick(100)) == .isThere)
        #expect(watch.look(7, of: peer, now: tick(200)) == .ask)
        #expect(watch.look(7, of: peer, now: tick(300)) == .isSilent)
        #expect(watch.look(7, of: peer, now: tick(400)) == .isSilent)
        #expect(watch.look(8, of: peer, now: tick(500)) == .isThere)
        #expect(watch.look(8, of: peer, now: tick(600)) == .ask)
        #expect(watch.look(9, of: peer, now: tick(700)) == .isThere, "the answer")
    }

    @Test("many sessions that look together look once")
    func together() {
        var watch = PeerWatch()
        _ = watch.look(7, of: peer, now: tick(100))
        let findings = (0..<16).map { watch.look(7, of: peer, now: tick(200 + $0)) }
        #expect(findings.count { $0 == .ask } == 1 && findings.count { $0 == .isSilent } == 0)
    }

    @Test("a new connection begins anew")
    func again() {
        var watch = PeerWatch()
        let other = Connection()
        _ = watch.look(7, of: peer, now: tick(100))
        _ = watch.look(7, of: peer, now: tick(200))
        #expect(watch.look(7, of: ObjectIdentifier(other), now: tick(300)) == .isThere)
        #expect(watch.look(7, of: ObjectIdentifier(other), now: tick(400)) == .ask)
    }
}
