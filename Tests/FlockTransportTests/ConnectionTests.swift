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

extension ConnectionTests {
    @Test("frames that arrive before there is a handler wait for it, and so does the end")
    func keepsEarlyFrames() async throws {
        let loop = try EventLoop(name: "early")
        let other = try EventLoop(name: "other")
        let listener = try await loop.listening { connection in
            for number in 0..<100 { connection.send(.call) { $0.write(UInt64(number)) } }
            connection.close(FlockError(.shuttingDown, "said all"))
        }
        let connection = try await other.connected(to: listener)
        let received = Mutex<[UInt64]>([])
        let ended = Promise<FlockError>()
        await other.run {
            connection.onFrame = { frame in
                var reader = ByteReader(frame.body)
                do {
                    let number: UInt64 = try reader.read()
                    received.withLock { $0.append(number) }
                } catch {
                    Issue.record(error)
                }
            }
            connection.onClose = { ended.fulfil($0) }
        }
        #expect(await ended.value.code == .unavailable)
        #expect(received.withLock { $0 } == Array(0..<100))
        await other.stop()
        await loop.stop()
    }

    @Test("a paused connection delivers nothing, and everything in order when it goes on")
    func pauses() async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let done = Counter(goal: 20_000)
        let received = Mutex<[UInt64]>([])
        let listener = try await server.listening { connection in
            connection.onFrame = { [unowned connection] frame in
                var reader = ByteReader(frame.body)
                let number: UInt64 = (try? reader.read()) ?? .max
                received.withLock { $0.append(number) }
                done.add()
                // In the midst of a read, every 7 frames; sometimes resumed by work, sometimes at once.
                guard number % 7 == 0 else { return }
                connection.pauseReading()
                if number % 2 == 0 {
                    connection.resumeReading()
                } else {
                    server.execute { [unowned connection] in connection.resumeReading() }
                }
            }
            connection.onClose = { _ in _ = connection }
        }
        let connection = try await client.connected(to: listener)
        await client.run {
            for number in 0..<20_000 {
                connection.send(.call) {
                    $0.write(UInt64(number))
                    for _ in 0..<number % 60 { $0.write(0 as UInt64) }
                }
            }
        }
        await done.reachGoal()
        #expect(received.withLock { $0 } == Array(0..<20_000))
        await client.stop()
        await server.stop()
    }

    @Test("a producer that heeds isWritable is told when to go on, and nothing is lost")
    func flowsUnderBackPressure() async throws {
        let limits = Limits.with {
            $0.writeHighWaterBytes = 256 << 10
            $0.writeLowWaterBytes = 64 << 10
            $0.writeMaximumBytes = 2 << 20
        }
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let total = 3000
        let done = Counter(goal: total)
        let listener = try await server.listening { connection in
            connection.onFrame = { frame in
                #expect(frame.body.count == 20_008)
                done.add()
            }
            // The client's end, or this loop's own where that comes first.
            connection.onClose = { if ![.unavailable, .shuttingDown].contains($0.code) { Issue.record($0) } }
        }
        let connection = try await client.connected(to: listener, limits: limits)
        let stops = Counter()
        await client.run {
            let payload = Bytes([UInt8](repeating: 3, count: 20_000))
            nonisolated(unsafe) var sent = 0
            @Sendable func fill() {
                while sent < total && connection.isWritable {
                    connection.send(.call, { $0.write(UInt64(sent)) }, payload: payload)
                    #expect(connection.pendingWriteBytes < limits.writeHighWaterBytes + 32_768)
                    sent += 1
                }
                if sent < total { stops.add() }
            }
            connection.onWritable = fill
            fill()
        }
        await done.reachGoal()
        #expect(stops.value > 0)
        #expect(await client.run { connection.pendingWriteBytes } == 0)
        await client.stop()
        await server.stop()
    }

    @Test("a frame over the limit is not sent, and the connection goes on")
    func refusesLargeFrames() async throws {
        let limits = Limits.with {
            $0.frameBytes = 64 << 10
        }
        let loop = try EventLoop(name: "large")
        let listener = try await loop.listening(limits: limits, onConnection: echo)
        let connection = try await loop.connected(to: listener, limits: limits)
        let answered = Promise<Int>()
        await loop.run {
            connection.onFrame = { answered.fulfil($0.body.count) }
            let tooLarge = Bytes([UInt8](repeating: 0, count: (64 << 10) + 1))
            #expect(!connection.send(.call) { $0.write(tooLarge) })
            #expect(!connection.send(.call, { _ in }, payload: tooLarge))
            #expect(connection.send(.call) { $0.write(tooLarge.slice(from: 0, count: 64 << 10)) })
        }
        #expect(await answered.value == 64 << 10)
        await loop.stop()
    }

    @Test("closing reports once, also to a handler that comes late, and drops the handlers")
    func closesOnce() async throws {
        let loop = try EventLoop(name: "close")
        let listener = try await loop.listening(onConnection: echo)
        let connection = try await loop.connected(to: listener)
        let reports = Counter(goal: 1)
        await loop.run {
            connection.close(FlockError(.cancelled, "first"))
            connection.close(FlockError(.lost, "second"))
            #expect(!connection.isOpen)
            #expect(!connection.isWritable)
            #expect(!connection.send(.call) { _ in Issue.record("built for a closed connection") })
        }
        await loop.run {
            connection.onClose = { error in
                #expect(error.code == .cancelled)
                reports.add()
            }
        }
        await reports.reachGoal()
        await loop.run { connection.onClose = { _ in reports.add() } }
        await loop.stop()
        #expect(reports.value == 1)
    }

    @Test("stopping a loop closes its connections and tells both ends")
    func stopCloses() async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let listener = try await server.listening(onConnection: echo)
        let connection = try await client.connected(to: listener)
        let ended = Promise<FlockError>()
        await client.run {
            connection.onFrame = { _ in }
            connection.onClose = { ended.fulfil($0) }
        }
        await server.stop()
        #expect(await ended.value.code == .unavailable)
        let second = Promise<FlockError>()
        await client.run { connection.onClose = { second.fulfil($0) } }
        await client.stop()
    }
}
