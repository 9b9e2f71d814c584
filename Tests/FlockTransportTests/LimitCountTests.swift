// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Limits of connections are counted when they are reached", .timeLimit(.minutes(1)))
struct LimitCountTests {
    /// A listener's loop, and a loop of dialers; both are stopped in the end.
    private func withListener(
        _ limits: Limits, onConnection: @escaping @Sendable (Connection) -> Void = { echo($0) },
        _ body: (Listener, _ server: EventLoop, _ client: EventLoop) async throws -> Void
    ) async throws {
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        do {
            try await body(try await server.listening(limits: limits, onConnection: onConnection), server, client)
        } catch {
            await client.stop()
            await server.stop()
            throw error
        }
        await client.stop()
        await server.stop()
    }

    @Test("a handshake frame that is too long")
    func handshakeFrame() async throws {
        try await withListener(.with { $0.handshakeFrameBytes = 512 }) { listener, server, _ in
            let socket = try RawSocket(port: listener.port)
            socket.send(Array(encodedFrame(.hello, [UInt8](repeating: 0, count: 513)).prefix(16)))
            #expect(socket.readToEnd().isEmpty)
            #expect(server.limitsReached.count(of: .handshakeFrameBytes) == 1)
            #expect(server.limitsReached.count(of: .frameBytes) == 0)
        }
    }

    @Test("a frame that is too long, out and in")
    func frame() async throws {
        try await withListener(.with { $0.frameBytes = 4096 }) { listener, server, client in
            let small = try await client.connected(to: listener, limits: .with { $0.frameBytes = 1024 })
            let isSent = await client.run { small.send(.call) { $0.write(Bytes([UInt8](repeating: 0, count: 1025))) } }
            #expect(!isSent && client.limitsReached.count(of: .frameBytes) == 1)
            let large = try await client.connected(to: listener)
            await client.run {
                large.onFrame = { _ in }
                large.send(.call) { $0.write(Bytes([UInt8](repeating: 0, count: 4097))) }
            }
            try await eventually { server.limitsReached.count(of: .frameBytes) == 1 }
        }
    }

    @Test("a name that is too long, with the words that the peer hears")
    func name() async throws {
        try await withListener(.with { $0.nameBytes = 4 }) { listener, server, client in
            let error = await #expect(throws: FlockError.self) { _ = try await client.connected(to: listener) }
            #expect(error?.code == .protocolViolation && error?.limit == .nameBytes)
            #expect(server.limitsReached.count(of: .nameBytes) == 1)
            #expect(client.limitsReached.count(of: .nameBytes) == 0, "the limit of the other end")
        }
    }

    @Test("connections and half-open ones")
    func connections() async throws {
        try await withListener(.with { $0.connections = 1 }) { listener, server, client in
            _ = try await client.connected(to: listener)
            let error = await #expect(throws: FlockError.self) { _ = try await client.connected(to: listener) }
            #expect(error?.code == .overloaded && error?.limit == .connections)
            #expect(server.limitsReached.count(of: .connections) == 1)
        }
        try await withListener(.with { $0.halfOpenConnections = 1 }) { listener, server, client in
            let silent = try RawSocket(port: listener.port)
            _ = try await client.connected(to: listener)
            #expect(try silent.refusal()?.limit == .halfOpenConnections)
            #expect(server.limitsReached.count(of: .halfOpenConnections) == 1)
        }
    }

    @Test("the time of a handshake, of a frame and of an attempt to connect")
    func times() async throws {
        let limits = Limits.with {
            $0.handshakeTime = .milliseconds(20)
            $0.frameTime = .milliseconds(20)
        }
        try await withListener(limits) { listener, server, client in
            let silent = try RawSocket(port: listener.port)
            #expect(try silent.refusal()?.limit == .handshakeTime)
            #expect(server.limitsReached.count(of: .handshakeTime) == 1)
            let connection = try await client.connectedInTheEnd(to: listener)
            await client.run {
                connection.onFrame = { _ in }
                // The beginning of a frame, past the machinery that would complete it.
                connection.stream.out.pointee.write(0x4B46 as UInt16)
                connection.stream.markDirty()
            }
            try await eventually { server.limitsReached.count(of: .frameTime) == 1 }
        }
        let loop = try EventLoop(name: "dialer")
        // A socket that listens and whose queue is full takes nobody.
        let full = try FullSocket()
        let error = await #expect(throws: FlockError.self) {
            _ = try await Dialer.connect(
                host: "127.0.0.1", port: full.port, on: loop, identity: .client(),
                limits: .with { $0.connectTime = .milliseconds(50) })
        }
        #expect(error?.limit == .connectTime && loop.limitsReached.count(of: .connectTime) == 1)
        await loop.stop()
    }

    @Test("bytes that nobody reads: the high-water mark, then the maximum")
    func writes() async throws {
        let limits = Limits.with {
            $0.writeHighWaterBytes = 256 << 10
            $0.writeLowWaterBytes = 64 << 10
            $0.writeMaximumBytes = 8 << 20
        }
        let flood: @Sendable (Connection) -> Void = { connection in
            connection.onFrame = { [unowned connection] _ in
                let payload = Bytes([UInt8](repeating: 1, count: 64 << 10))
                for _ in 0..<1024 where connection.isOpen { connection.send(.reply, { _ in }, payload: payload) }
            }
            connection.onClose = { _ in _ = connection }
        }
        try await withListener(limits, onConnection: flood) { listener, server, client in
            let connection = try await client.connected(to: listener)
            await client.run { _ = connection.send(.call) { $0.write(1 as UInt64) } }
            try await eventually { server.limitsReached.count(of: .writeMaximumBytes) == 1 }
            #expect(server.limitsReached.count(of: .writeHighWaterBytes) == 1)
        }
    }

    @Test("a peer that makes no room for what is sent to it is given up after a while")
    func acknowledgement() async throws {
        let ended = Promise<FlockError>()
        let flood: @Sendable (Connection) -> Void = { connection in
            connection.onFrame = { [unowned connection] _ in
                let payload = Bytes([UInt8](repeating: 1, count: 64 << 10))
                for _ in 0..<256 { connection.send(.reply, { _ in }, payload: payload) }
            }
            connection.onClose = { error in
                _ = connection
                ended.fulfil(error)
            }
        }
        let limits = Limits.with { $0.acknowledgeTime = .milliseconds(200) }
        try await withListener(limits, onConnection: flood) { listener, server, client in
            // It never reads: its kernel acknowledges until there is no room.
            let connection = try await client.connected(to: listener)
            await client.run { _ = connection.send(.call) { $0.write(1 as UInt64) } }
            let error = await ended.value
            #expect(error.code == .unavailable && error.limit == .acknowledgeTime, "\(error)")
            #expect(server.limitsReached.count(of: .acknowledgeTime) == 1)
            #expect(connection.isOpen, "this end was not told")
        }
    }

    @Test("who listens hears each one")
    func listening() async throws {
        let loop = try EventLoop(name: "counted")
        let heard = Mutex<[Limit]>([])
        loop.limitsReached.listen { limit in heard.withLock { $0.append(limit) } }
        loop.limitsReached.reached(.openBytes)
        loop.limitsReached.reached(nil)
        loop.limitsReached.reached(by: FlockError(.tooLarge, "", limit: .frameBytes))
        loop.limitsReached.reached(by: WireError.truncated)
        loop.limitsReached.listen(nil)
        loop.limitsReached.reached(.openBytes)
        #expect(heard.withLock { $0 } == [.openBytes, .frameBytes])
        #expect(loop.limitsReached.count(of: .openBytes) == 2)
        await loop.stop()
    }
}

/// Listens with a queue that is full: the kernel drops what dialers send.
private struct FullSocket: ~Copyable {
    let port: Int
    private let descriptor: Int32
    private var waiting: [Int32] = []

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let own = descriptor
        let isBound = withUnsafeMutableBytes(of: &address) { memory in
            let generic = memory.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            return bind(own, generic, length) == 0 && listen(own, 0) == 0 && getsockname(own, generic, &length) == 0
        }
        try #require(isBound)
        port = Int(UInt16(bigEndian: address.sin_port))
        for _ in 0..<4 {
            let one = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            _ = withUnsafeBytes(of: &address) { memory in
                connect(one, memory.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
            }
            waiting.append(one)
        }
    }

    deinit {
        for one in waiting { close(one) }
        close(descriptor)
    }
}
