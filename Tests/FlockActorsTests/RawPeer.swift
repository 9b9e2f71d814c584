// Flockwork · Apache-2.0 · see LICENSE

import FlockActors
import FlockTransport
import FlockWire
import Synchronization

/// An authenticated connection without a system: says what it likes.
final class RawPeer: Sendable {
    struct Seen {
        var methods: [String: UInt32] = [:]
        var methodFrames = 0
        var replies: [(number: UInt64, kind: UInt32, payload: Bytes)] = []
        var closed: FlockError?
        var waiter: (isMet: @Sendable (Seen) -> Bool, resume: @Sendable () -> Void)?
    }

    let loop: EventLoop
    let connection: Connection
    let seen = Mutex(Seen())

    init(to node: TestNode, as role: PeerRole, introduce: Bool = true) async throws {
        loop = try EventLoop(name: "raw")
        let identity = Identity(clusterID: "test", node: NodeID("raw"), role: role)
        connection = try await Dialer.connect(
            host: "127.0.0.1", port: node.port, on: loop, identity: identity, limits: Limits(), expecting: nil)
        loop.execute { [self] in
            connection.onClose = { [self] reason in update { $0.closed = reason } }
            connection.onFrame = { [self] frame in receive(frame) }
            if introduce {
                connection.send(.methods) { writer in
                    writer.writeVarint(0)
                    writer.writeVarint(0)
                }
            }
        }
    }

    private func receive(_ frame: Frame) {
        update { seen in
            switch frame.type {
            case .methods: Self.learn(frame.body, &seen)
            case .reply:
                var reader = ByteReader(frame.body)
                guard let number: UInt64 = try? reader.read(), let kind: UInt32 = try? reader.read() else { return }
                seen.replies.append((number, kind, frame.body.slice(from: 16, count: frame.body.count - 16)))
            default: break
            }
        }
    }

    private static func learn(_ body: Bytes, _ seen: inout Seen) {
        var reader = ByteReader(body)
        seen.methodFrames += 1
        guard let count = try? reader.readCount(of: "methods", limit: 4096, named: .methods) else { return }
        for _ in 0..<count {
            guard let number: UInt32 = try? reader.read(),
                let name = try? reader.readText(of: "method", limit: 1024, named: .methodNameBytes)
            else { return }
            seen.methods[name] = number
        }
    }

    private func update(_ change: (inout sending Seen) -> Void) {
        let resume = seen.withLock { seen -> (@Sendable () -> Void)? in
            change(&seen)
            guard let waiter = seen.waiter, waiter.isMet(seen) else { return nil }
            seen.waiter = nil
            return waiter.resume
        }
        resume?()
    }

    /// Waits until what was seen meets a condition.
    func wait(until isMet: @escaping @Sendable (Seen) -> Bool) async {
        await withCheckedContinuation { continuation in
            let isMetNow = seen.withLock { seen in
                if isMet(seen) { return true }
                seen.waiter = (isMet, { continuation.resume() })
                return false
            }
            if isMetNow { continuation.resume() }
        }
    }

    func send(_ type: FrameType, flags: UInt16 = 0, _ body: [UInt8]) {
        loop.execute { [self] in connection.send(type, flags: flags) { $0.write(Bytes(body)) } }
    }

    /// The number of the only method whose mangled name contains `part`.
    func number(of part: String) -> UInt32? {
        seen.withLock { seen in seen.methods.first { $0.key.contains(part) }?.value }
    }

    /// Waits for the answer to a call; nil if the connection was closed.
    func answer(to number: UInt64) async -> Result<Bytes, FlockError>? {
        await wait { seen in seen.closed != nil || seen.replies.contains { $0.number == number } }
        return seen.withLock { seen in
            guard let reply = seen.replies.first(where: { $0.number == number }) else { return nil }
            if reply.kind != 3 { return .success(reply.payload) }
            var reader = ByteReader(reply.payload)
            guard let error = try? FlockError(from: &reader, limits: Limits()) else { return nil }
            return .failure(error)
        }
    }

    func stop() async { await loop.stop() }
}

enum CallFrame {
    /// Bytes before the arguments.
    static let headBytes = 32
}

/// The body of a call frame, field by field.
func callBody(
    number: UInt64, actor: UInt64, method: UInt32, arguments: [any Encodable & Sendable], count: UInt16? = nil,
    flags: UInt16 = 0, deadline: UInt64 = 0
) throws -> [UInt8] {
    var writer = ByteWriter()
    writer.write(number)
    writer.write(actor)
    writer.write(method)
    writer.write(count ?? UInt16(arguments.count))
    writer.write(flags)
    writer.write(deadline)
    for argument in arguments { try WireCoder.encode(argument, into: &writer, limits: Limits()) }
    return writer.finish().array
}
