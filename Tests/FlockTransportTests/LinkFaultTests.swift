// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Synchronization
import Testing

@testable import FlockTransport

/// A client with faults, connected to an echo with another loop.
private final class FaultyPair: Sendable {
    let near: EventLoop
    let far: EventLoop
    let faults: LinkFaults
    let farFaults: LinkFaults
    let listener: Listener
    /// What the other end got, and what came back from it.
    let arrived = Mutex<[UInt64]>([])
    let answered = Mutex<[UInt64]>([])
    /// How the other end's connection ended.
    let farEnd = Promise<ConnectionEnd?>()
    private let farConnection = Mutex<Connection?>(nil)

    static let node: NodeID = "node-1"
    static let client: NodeID = "client-1"

    init(limits: Limits = Limits()) async throws {
        near = try EventLoop(name: "near")
        far = try EventLoop(name: "far")
        let (near, far) = (near, far)
        faults = await near.run { () -> LinkFaults in
            let faults = LinkFaults(on: near, seed: 5)
            near.faults = faults
            return faults
        }
        farFaults = await far.run { () -> LinkFaults in
            let faults = LinkFaults(on: far, seed: 6)
            far.faults = faults
            return faults
        }
        let owner = Mutex<FaultyPair?>(nil)
        listener = try await far.listening(limits: limits) { connection in
            owner.withLock { $0 }?.accept(connection)
        }
        owner.withLock { $0 = self }
    }

    private func accept(_ connection: Connection) {
        farConnection.withLock { $0 = connection }
        connection.onFrame = { [unowned connection] frame in
            var reader = ByteReader(frame.body)
            if let number = try? reader.read(UInt64.self) { self.arrived.withLock { $0.append(number) } }
            connection.send(.reply) { $0.write(frame.body) }
        }
        connection.onClose = { [unowned connection] _ in self.farEnd.fulfil(connection.end) }
    }

    func connect(limits: Limits = Limits()) async throws -> Connection {
        let connection = try await near.connected(to: listener, limits: limits)
        await near.run {
            connection.onFrame = { frame in
                var reader = ByteReader(frame.body)
                if let number = try? reader.read(UInt64.self) { self.answered.withLock { $0.append(number) } }
            }
        }
        return connection
    }

    func send(_ numbers: ClosedRange<UInt64>, over connection: Connection) async {
        await near.run { for number in numbers { connection.send(.call) { $0.write(number) } } }
    }

    /// Waits for a turn of each loop in which all that was asked for before has been done.
    func settle() async {
        await near.run {}
        await far.run {}
    }

    func closeFar() {
        farConnection.withLock { $0 }?.loop.execute {
            self.farConnection.withLock { $0 }?.close(FlockError(.unavailable, "the test ends it"))
        }
    }

    func stop() async {
        await near.stop()
        await far.stop()
        farConnection.withLock { $0 = nil }
    }
}

@Suite("Faults of connections", .timeLimit(.minutes(1)))
struct LinkFaultTests {
    @Test("delayed frames come later, and in order")
    func delay() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        var fault = LinkFault()
        fault.delay = .milliseconds(40)
        pair.faults.set(fault, for: FaultyPair.node)
        let start = EventLoop.now
        await pair.send(1...10, over: connection)
        try await eventually { pair.answered.withLock { !$0.isEmpty } }
        #expect(EventLoop.now - start >= .milliseconds(40))
        // What comes without a delay does not overtake what was delayed.
        pair.faults.set(nil, for: FaultyPair.node)
        await pair.send(11...20, over: connection)
        try await eventually { pair.answered.withLock { $0.count == 20 } }
        #expect(pair.answered.withLock { $0 } == Array(1...20))
        await pair.stop()
    }

    @Test("each frame is handed on twice")
    func duplicates() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        var fault = LinkFault()
        fault.duplicates = 1
        pair.faults.set(fault, for: FaultyPair.node)
        await pair.send(1...3, over: connection)
        try await eventually { pair.answered.withLock { $0.count == 6 } }
        #expect(pair.answered.withLock { $0 } == [1, 1, 2, 2, 3, 3])
        #expect(pair.arrived.withLock { $0 } == [1, 2, 3])
        await pair.stop()
    }

    @Test("half of the frames are lost, the others come in order")
    func drops() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        var fault = LinkFault()
        fault.dropsIncoming = 0.5
        pair.faults.set(fault, for: FaultyPair.node)
        await pair.send(1...1000, over: connection)
        // All answers were looked at when a later one has come.
        try await eventually {
            await pair.send(2000...2000, over: connection)
            return pair.answered.withLock { $0.last == 2000 }
        }
        let answers = pair.answered.withLock { $0.filter { $0 <= 1000 } }
        #expect((400...600).contains(answers.count) && answers == answers.sorted())
        #expect(pair.arrived.withLock { $0.prefix(1000) } == Array(1...1000)[...])
        await pair.stop()
    }

    @Test("one way: what goes out is lost, what comes in is not")
    func oneWay() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        var fault = LinkFault()
        fault.dropsOutgoing = 1
        pair.faults.set(fault, for: FaultyPair.node)
        await pair.send(1...5, over: connection)
        pair.faults.set(nil, for: FaultyPair.node)
        await pair.send(6...6, over: connection)
        try await eventually { pair.answered.withLock { $0 == [6] } }
        #expect(pair.arrived.withLock { $0 } == [6])
        // And the other way: the far end hears, and is not heard.
        pair.faults.set(.deaf, for: FaultyPair.node)
        await pair.send(7...9, over: connection)
        try await eventually { pair.arrived.withLock { $0 == [6, 7, 8, 9] } }
        #expect(pair.answered.withLock { $0 } == [6])
        await pair.stop()
    }

    @Test("another peer is not concerned")
    func others() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        pair.faults.set(.halfOpen, for: "node-2")
        await pair.send(1...3, over: connection)
        try await eventually { pair.answered.withLock { $0 == [1, 2, 3] } }
        await pair.stop()
    }

    @Test("half-open: nothing leaves and nothing is seen, not even the end; all of it comes when it heals")
    func halfOpen() async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        await pair.send(1...1, over: connection)
        try await eventually { pair.answered.withLock { $0 == [1] } }
        pair.faults.set(.halfOpen, for: FaultyPair.node)
        await pair.send(2...4, over: connection)
        await pair.settle()
        #expect(pair.arrived.withLock { $0 } == [1])
        #expect(await pair.near.run { connection.pendingWriteBytes } > 0)
        pair.faults.set(nil, for: FaultyPair.node)
        try await eventually { pair.answered.withLock { $0 == [1, 2, 3, 4] } }
        pair.faults.set(.halfOpen, for: FaultyPair.node)
        await pair.settle()
        pair.closeFar()
        #expect(await pair.farEnd.value == .closedHere)
        await pair.settle()
        #expect(await pair.near.run { connection.isOpen })
        pair.faults.set(nil, for: FaultyPair.node)
        try await eventually { await pair.near.run { connection.end == .closedByPeer } }
        await pair.stop()
    }

    @Test("no new connection comes about with a half-open peer, until it heals")
    func newConnections() async throws {
        let limits = Limits.with { $0.handshakeTime = .milliseconds(50) }
        let pair = try await FaultyPair(limits: limits)
        pair.faults.set(.halfOpen, for: FaultyPair.node)
        await #expect(throws: FlockError.self) { try await pair.connect(limits: limits) }
        pair.faults.set(nil, for: FaultyPair.node)
        try await eventually {
            do {
                let connection = try await pair.connect(limits: limits)
                await pair.send(1...1, over: connection)
                return true
            } catch let error as FlockError where error.code == .deadlineExceeded { return false }
        }
        try await eventually { pair.answered.withLock { $0 == [1] } }
        await pair.stop()
    }

    @Test(
        "a reset, the peer's close and our own are told apart",
        arguments: [ConnectionEnd.reset, .closedByPeer, .closedHere])
    func ends(end: ConnectionEnd) async throws {
        let pair = try await FaultyPair()
        let connection = try await pair.connect()
        let told = Promise<ConnectionEnd?>()
        await pair.near.run { connection.onClose = { [unowned connection] _ in told.fulfil(connection.end) } }
        #expect(await pair.near.run { connection.end } == nil)
        switch end {
        case .reset: pair.farFaults.reset(FaultyPair.client)
        case .closedByPeer: pair.closeFar()
        case .closedHere: pair.near.execute { connection.close(FlockError(.unavailable, "enough")) }
        }
        #expect(await told.value == end)
        await pair.stop()
    }
}
