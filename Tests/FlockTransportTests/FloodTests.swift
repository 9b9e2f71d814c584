// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockTransport

// Attackers with plain sockets, who know the format of handshakes but no token.
@Suite("Strangers in numbers", .timeLimit(.minutes(1)))
struct FloodTests {
    private func withListener(_ limits: Limits, _ body: (Listener, EventLoop) async throws -> Void) async throws {
        let loop = try EventLoop(name: "victim")
        do {
            try await body(try await loop.listening(limits: limits, onConnection: echo), loop)
        } catch {
            await loop.stop()
            throw error
        }
        await loop.stop()
    }

    /// What a client with the token says and hears in a handshake over a plain socket.
    private func handshake(over socket: borrowing RawSocket) throws -> (hello: [UInt8], proof: [UInt8]) {
        var machine = HandshakeMachine(
            side: .dialer(expecting: nil), identity: .client(), nonce: makeNonce(), limits: Limits())
        var sent: [[UInt8]] = []
        var reader = FrameReader(bufferBytes: 64 << 10, bodyLimit: 4096)
        var directives = machine.step(.start)
        while true {
            for directive in directives {
                switch directive {
                case .send(let type, let body):
                    sent.append(encodedFrame(type, body.array))
                    socket.send(sent.last ?? [])
                case .succeed: return (sent[0], sent[1])
                case .fail(let error): throw error
                default: break
                }
            }
            directives = []
            while directives.isEmpty {
                var buffer = [UInt8](repeating: 0, count: 4096)
                let count = read(socket.descriptor, &buffer, buffer.count)
                try #require(count > 0)
                reader.prepare().copyBytes(from: buffer[..<count])
                reader.commit(count)
                while let frame = try reader.next() { directives += machine.step(.frame(frame)) }
            }
        }
    }

    @Test("a handshake that was recorded is worth nothing when it is played again, at once or step by step")
    func replay() async throws {
        try await withListener(Limits()) { listener, _ in
            let honest = try RawSocket(port: listener.port)
            let recorded = try handshake(over: honest)
            let thief = try RawSocket(port: listener.port)
            thief.send(recorded.hello + recorded.proof)
            #expect(try thief.refusal()?.code == .unauthenticated)
            let patient = try RawSocket(port: listener.port)
            patient.send(recorded.hello)
            var challenge = [UInt8](repeating: 0, count: 512)
            #expect(read(patient.descriptor, &challenge, challenge.count) > 0)
            patient.send(recorded.proof)
            #expect(try patient.refusal()?.code == .unauthenticated)
        }
    }

    @Test("connections that never speak are bounded, and honest ones come in while the flood goes on")
    func halfOpenFlood() async throws {
        try await withListener(Limits()) { listener, loop in
            let isOver = Atomic(false)
            let port = listener.port
            let flood = Task.detached {
                var held: [Int32] = []
                var opened = 0
                while !isOver.load(ordering: .relaxed) {
                    held.append(try RawSocket(port: port).release())
                    opened += 1
                    if held.count == 256 { close(held.removeFirst()) }
                    // The flood must leave this machine's cores to those who are measured.
                    await loop.pause(.milliseconds(1))
                }
                for descriptor in held { close(descriptor) }
                return opened
            }
            try await eventually { loop.limitsReached.count(of: .halfOpenConnections) > 16 }
            let client = try EventLoop(name: "honest")
            for _ in 0..<5 {
                let connection = try await client.connectedInTheEnd(to: listener)
                let answered = Promise<Bytes>()
                await client.run {
                    connection.onFrame = { answered.fulfil($0.body) }
                    connection.send(.call) { $0.write(Bytes("hello")) }
                }
                #expect(await answered.value == Bytes("hello"))
            }
            // Open handles of the loop: the listener, the honest, the half-open, and those that are closing.
            let residents = await loop.run { loop.residents.count }
            #expect(residents <= 1 + 5 + 2 * Limits().halfOpenConnections, "\(residents) handles")
            isOver.store(true, ordering: .relaxed)
            #expect(try await flood.value > Limits().halfOpenConnections)
            await client.stop()
        }
    }

    @Test("a handshake whose bytes drip is cut off, however regularly they come")
    func drippingHandshake() async throws {
        try await withListener(.with { $0.handshakeTime = .milliseconds(200) }) { listener, loop in
            let hello = Hello(
                protocolRange: 1...1, role: .client, hasToken: true, membersHash: 0, nonce: makeNonce(),
                clusterID: "test", node: NodeID("drip"))
            let bytes = encodedFrame(.hello, hello.encoded().array)
            let socket = try RawSocket(port: listener.port)
            let start = EventLoop.now
            for byte in bytes {
                guard loop.limitsReached.count(of: .handshakeTime) == 0 else { break }
                socket.send([byte])
                await loop.pause(.milliseconds(10))
            }
            #expect(try socket.refusal()?.code == .deadlineExceeded)
            #expect(EventLoop.now - start >= .milliseconds(200))
        }
    }

    @Test("a frame whose bytes drip is cut off after its time, and a hundred thousand one-byte frames are not")
    func drippingFrame() async throws {
        try await withListener(.with { $0.frameTime = .milliseconds(200) }) { listener, loop in
            let socket = try RawSocket(port: listener.port)
            _ = try handshake(over: socket)
            let frame = encodedFrame(.call, [UInt8](repeating: 1, count: 1000))
            var sent = 0
            while loop.limitsReached.count(of: .frameTime) == 0, sent < frame.count {
                socket.send([frame[sent]])
                sent += 1
                await loop.pause(.milliseconds(5))
            }
            #expect(loop.limitsReached.count(of: .frameTime) == 1 && sent < 500)

            let quick = try RawSocket(port: listener.port)
            _ = try handshake(over: quick)
            let small = encodedFrame(.call, [7])
            let many = Array(repeating: small, count: 1000).flatMap { $0 }
            for _ in 0..<100 {
                quick.send(many)
                var echoed = 0
                var buffer = [UInt8](repeating: 0, count: 64 << 10)
                while echoed < many.count {
                    let count = read(quick.descriptor, &buffer, buffer.count)
                    try #require(count > 0)
                    echoed += count
                }
            }
            #expect(loop.limitsReached.count(of: .frameTime) == 1)
        }
    }

    @Test("a handshake cut at every byte, or with any byte changed, is refused and nothing else")
    func mutatedHandshake() async throws {
        let seed = UInt64.random(in: .min ... .max)
        print("FloodTests.mutatedHandshake seed \(seed)")
        var random = SeededRandom(seed: seed)
        try await withListener(.with { $0.handshakeTime = .milliseconds(500) }) { listener, _ in
            let hello = Hello(
                protocolRange: 1...1, role: .client, hasToken: true, membersHash: 0, nonce: makeNonce(),
                clusterID: "test", node: NodeID("mutant"))
            let good = encodedFrame(.hello, hello.encoded().array)
            let types: [FrameType] = [.hello, .challenge, .proof, .welcome, .refusal, .methods, .call, .ping]
            for round in 0..<400 {
                var bytes = good
                switch round % 3 {
                case 0: bytes = encodedFrame(types[round / 3 % types.count], Array(good[16...]))
                case 1: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8(round % 8)
                default:
                    var body = hello.encoded().array
                    for _ in 0...round % 4 {
                        body[Int.random(in: 0..<body.count, using: &random)] = .random(in: 0...255, using: &random)
                    }
                    bytes = encodedFrame(.hello, Array(body.prefix(Int.random(in: 0...body.count, using: &random))))
                }
                let socket = try RawSocket(port: listener.port)
                socket.send(bytes)
                // Whoever is not answered yet says no more.
                shutdown(socket.descriptor, Int32(SHUT_WR))
                let answer = socket.readToEnd()
                #expect(answer.count <= 4096, "seed \(seed)")
            }
            let socket = try RawSocket(port: listener.port)
            _ = try handshake(over: socket)
        }
    }
}

extension EventLoop {
    /// The pace of an attack: what is tested does not wait for it.
    fileprivate func pause(_ duration: Duration) async {
        await withCheckedContinuation { continuation in
            _ = schedule(after: duration) { continuation.resume() }
        }
    }
}
