// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Logging
import Synchronization
import Testing

@testable import FlockTransport

/// A plain blocking socket: the attacker.
struct RawSocket: ~Copyable {
    let descriptor: Int32

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafeBytes(of: &address) { memory in
            connect(descriptor, memory.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(memory.count))
        }
        try #require(code == 0, "connect: \(errno)")
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// The descriptor, for the caller to close.
    consuming func release() -> Int32 {
        let descriptor = descriptor
        discard self
        return descriptor
    }

    /// False once the other end has closed.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool { Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) > 0 }

    /// Everything until the other end closes.
    func readToEnd() -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count <= 0 { return all }
            all += buffer[..<count]
        }
    }

    /// What a peer says when it closes; nil if it just does.
    func refusal() throws -> FlockError? {
        var reader = FrameReader(bufferBytes: 64 << 10, bodyLimit: 4096)
        let bytes = readToEnd()
        reader.prepare().copyBytes(from: bytes)
        reader.commit(bytes.count)
        while let frame = try reader.next() {
            if frame.type == .refusal { return try Refusal.decoded(frame.body, limits: Limits()) }
        }
        return nil
    }
}

func encodedFrame(_ type: FrameType, _ body: [UInt8]) -> [UInt8] {
    let header = FrameHeader(type: type, length: body.count)
    var bytes = [UInt8](repeating: 0, count: 16)
    bytes.withUnsafeMutableBytes { header.write(to: $0) }
    return bytes + body + [UInt8](repeating: 0, count: FrameHeader.padding(after: body.count))
}

@Suite("Hostile peers", .timeLimit(.minutes(1)))
struct HostileTests {
    /// A listener for attackers, which must never see a connection, and still serves an honest client afterwards.
    private func withListener(
        limits: Limits = Limits(), _ attack: (Int, EventLoop) async throws -> Void
    ) async throws {
        let loop = try EventLoop(name: "victim")
        let accepted = Counter()
        let listener = try await loop.listening(limits: limits) { connection in
            accepted.add()
            echo(connection)
        }
        try await attack(listener.port, loop)
        #expect(accepted.value == 0)
        let client = try EventLoop(name: "honest")
        // What the attack held is free as soon as the listener has seen it end.
        let connection = try await client.connectedInTheEnd(to: listener)
        let answered = Promise<Bytes>()
        await client.run {
            connection.onFrame = { answered.fulfil($0.body) }
            connection.send(.call) { $0.write(Bytes("still there?")) }
        }
        #expect(await answered.value == Bytes("still there?"))
        await client.stop()
        await loop.stop()
    }

    @Test("garbage closes the connection")
    func garbage() async throws {
        try await withListener { port, _ in
            let socket = try RawSocket(port: port)
            socket.send(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
            #expect(socket.readToEnd().isEmpty)
            var random = SystemRandomNumberGenerator()
            let seed = random.next()
            var generator = SeededRandom(seed: seed)
            for _ in 0..<50 {
                let socket = try RawSocket(port: port)
                socket.send((0..<4096).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
                #expect(socket.readToEnd().isEmpty, "seed \(seed)")
            }
        }
    }

    @Test("a frame over 4 KiB before authentication closes the connection before its body is read")
    func oversized() async throws {
        try await withListener { port, _ in
            for length in [4097, 1 << 20, 1 << 31, Int(UInt32.max)] {
                let socket = try RawSocket(port: port)
                var header = [UInt8](repeating: 0, count: 16)
                header.withUnsafeMutableBytes { FrameHeader(type: .hello, length: length).write(to: $0) }
                socket.send(header)
                #expect(socket.readToEnd().isEmpty)
            }
        }
    }

    @Test("an unknown frame type closes the connection")
    func unknownType() async throws {
        try await withListener { port, _ in
            var frame = encodedFrame(.hello, [])
            frame[3] = 200
            let checksum = frame[0..<12].withUnsafeBytes { CRC32C.checksum(of: $0) }
            withUnsafeBytes(of: checksum.littleEndian) { frame.replaceSubrange(12..<16, with: $0) }
            let socket = try RawSocket(port: port)
            socket.send(frame)
            #expect(socket.readToEnd().isEmpty)
        }
    }

    @Test("a call before authentication is refused")
    func callBeforeAuthentication() async throws {
        try await withListener { port, _ in
            let socket = try RawSocket(port: port)
            socket.send(encodedFrame(.call, [UInt8](repeating: 1, count: 256)))
            #expect(try socket.refusal()?.code == .protocolViolation)
        }
    }

    @Test("frames sent behind a hello are not heard before the proof")
    func pipelinedCall() async throws {
        try await withListener { port, _ in
            let hello = Hello(
                protocolRange: 1...1, role: .client, hasToken: true, membersHash: 0, nonce: makeNonce(),
                clusterID: "test", node: NodeID("thief"))
            let socket = try RawSocket(port: port)
            socket.send(encodedFrame(.hello, hello.encoded().array) + encodedFrame(.call, [1, 2, 3, 4]))
            #expect(try socket.refusal()?.code == .protocolViolation)
            // With a proof that is none.
            let other = try RawSocket(port: port)
            let proof = encodedFrame(.proof, [UInt8](repeating: 0, count: 32))
            other.send(encodedFrame(.hello, hello.encoded().array) + proof + encodedFrame(.call, [1, 2, 3, 4]))
            #expect(try other.refusal()?.code == .unauthenticated)
        }
    }

    @Test("a handshake that drips is cut off at its time limit")
    func slowHandshake() async throws {
        let limits = Limits.with {
            $0.handshakeTime = .milliseconds(50)
        }
        try await withListener(limits: limits) { port, _ in
            let start = EventLoop.now
            let silent = try RawSocket(port: port)
            let dripping = try RawSocket(port: port)
            dripping.send(Array(encodedFrame(.hello, [1]).prefix(5)))
            #expect(try silent.refusal()?.code == .deadlineExceeded)
            #expect(try dripping.refusal()?.code == .deadlineExceeded)
            #expect(EventLoop.now - start >= .milliseconds(50))
        }
    }

    @Test("connections over the cap are refused with overloaded, which the dialer hears")
    func connectionCap() async throws {
        let limits = Limits.with {
            $0.connections = 2
        }
        let loop = try EventLoop(name: "capped")
        let listener = try await loop.listening(limits: limits, onConnection: echo)
        let first = try await loop.connected(to: listener)
        let second = try await loop.connected(to: listener)
        let error = await #expect(throws: FlockError.self) { _ = try await loop.connected(to: listener) }
        #expect(error?.code == .overloaded)
        #expect(error?.retryAfter != nil)
        // One leaves; its place is free as soon as the listener has seen it.
        let left = Promise<Void>()
        await loop.run {
            first.onClose = { _ in left.fulfil(()) }
            first.close(FlockError(.shuttingDown, "enough"))
        }
        await left.value
        _ = try await loop.connectedInTheEnd(to: listener)
        #expect(second.peer.role == .node)
        await loop.stop()
    }

    @Test("an authenticated peer that starts a frame and does not end it is cut off")
    func slowFrame() async throws {
        let limits = Limits.with {
            $0.frameTime = .milliseconds(50)
        }
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let ended = Promise<FlockError>()
        let frames = Counter(goal: 1)
        let listener = try await server.listening(limits: limits) { connection in
            connection.onFrame = { _ in frames.add() }
            connection.onClose = { ended.fulfil($0) }
        }
        let connection = try await client.connected(to: listener)
        await client.run {
            connection.onFrame = { _ in }
            connection.send(.call) { $0.write(1 as UInt64) }
            // The beginning of a frame, past the machinery that would complete it.
            connection.stream.out.pointee.write(0x4B46 as UInt16)
            connection.stream.markDirty()
        }
        await frames.reachGoal()
        let error = await ended.value
        #expect(error.code == .protocolViolation)
        #expect(error.message.contains("not complete"))
        await client.stop()
        await server.stop()
    }

    @Test("garbage after authentication closes the connection and tells why")
    func garbageLater() async throws {
        let server = try EventLoop(name: "server")
        let ended = Promise<FlockError>()
        let listener = try await server.listening { connection in
            connection.onFrame = { _ in Issue.record("a frame out of garbage") }
            connection.onClose = { ended.fulfil($0) }
        }
        let connection = try await server.connected(to: listener)
        let lost = Promise<FlockError>()
        await server.run {
            connection.onFrame = { _ in }
            connection.onClose = { lost.fulfil($0) }
            for _ in 0..<4 { connection.stream.out.pointee.write(0x6666_6666_6666_6666 as UInt64) }
            connection.stream.markDirty()
        }
        #expect(await ended.value.code == .protocolViolation)
        #expect(await lost.value.code == .unavailable)
        await server.stop()
    }

    @Test("a peer that never reads is cut off when too much waits for it; its producer was told to stop before")
    func neverReads() async throws {
        let limits = Limits.with {
            $0.writeHighWaterBytes = 256 << 10
            $0.writeLowWaterBytes = 64 << 10
            $0.writeMaximumBytes = 8 << 20
        }
        let server = try EventLoop(name: "server")
        let client = try EventLoop(name: "client")
        let ended = Promise<FlockError>()
        let congested = Atomic(false)
        let listener = try await server.listening(limits: limits) { connection in
            connection.onFrame = { _ in
                // Ignores `isWritable`, as a faulty producer does.
                let payload = Bytes([UInt8](repeating: 1, count: 64 << 10))
                for _ in 0..<1024 where connection.isOpen {
                    connection.send(.reply, { _ in }, payload: payload)
                    if !connection.isWritable { congested.store(true, ordering: .relaxed) }
                }
                #expect(!connection.send(.reply) { _ in })
            }
            connection.onClose = { ended.fulfil($0) }
        }
        let connection = try await client.connected(to: listener)
        await client.run {
            // No handler for frames: nothing is read.
            connection.send(.call) { $0.write(1 as UInt64) }
        }
        let error = await ended.value
        #expect(error.code == .overloaded)
        #expect(error.message.contains("does not read"))
        let wasCongested = congested.load(ordering: .relaxed)
        #expect(wasCongested)
        await client.stop()
        await server.stop()
    }

    @Test("a wrong token, cluster or version is told to the dialer by name")
    func wrongIdentity() async throws {
        try await withListener { port, loop in
            let cases: [(Identity, FlockError.Code, String)] = [
                (.client(token: .other), .unauthenticated, "another token"),
                (.client(cluster: "other"), .incompatibleNode, "other"),
                (.client(range: 9...9), .incompatibleNode, "9"),
                (.node("node-2", hash: 1), .incompatibleNode, "members"),
            ]
            for (identity, code, word) in cases {
                let error = await #expect(throws: FlockError.self) {
                    _ = try await Dialer.connect(
                        host: "127.0.0.1", port: port, on: loop, identity: identity, limits: Limits())
                }
                #expect(error?.code == code)
                #expect(error?.message.contains(word) == true)
                #expect(error?.message.contains("127.0.0.1:\(port)") == true)
            }
        }
    }
}
