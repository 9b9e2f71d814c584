// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockTransport

/// One side of a handshake. Input: flags (a byte: 1 dialer, 2 with a token, 4 the peer is expected, 8 client), then
/// frames: type (a byte), length (two bytes), body.
enum HandshakeTarget {
    private static func nonce(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }

    private static func machine(_ flags: UInt8, nonce byte: UInt8, node: NodeID) -> HandshakeMachine {
        let identity = Identity(
            clusterID: "c", node: node, role: flags & 8 != 0 ? .client : .node, membersHash: 7,
            token: flags & 2 != 0 ? Token(bytes: Array("secret".utf8)) : nil)
        let side = flags & 1 != 0 ? HandshakeMachine.Side.dialer(expecting: flags & 4 != 0 ? "n" : nil) : .listener
        return HandshakeMachine(side: side, identity: identity, nonce: nonce(byte), limits: fuzzLimits)
    }

    static func run(_ input: [UInt8]) {
        guard let flags = input.first else { return }
        var machine = machine(flags, nonce: 1, node: "me")
        var ends = 0
        func check(_ directives: [HandshakeMachine.Directive]) {
            for directive in directives {
                switch directive {
                case .send(_, let body): precondition(body.count <= fuzzLimits.handshakeFrameBytes)
                case .succeed(let node, _, let version):
                    ends += 1
                    precondition(flags & 2 == 0, "a stranger without the token got in")
                    precondition(version == 1 && !node.rawValue.isEmpty)
                case .fail(let error):
                    ends += 1
                    precondition(error.message.utf8.count < 8192)
                default: break
                }
            }
        }
        check(machine.step(.start))
        var reader = ByteReader(Bytes(Array(input[1...])))
        do {
            while !reader.isAtEnd {
                let type: UInt8 = try reader.read()
                let length: UInt16 = try reader.read()
                let body = try reader.readBytes(min(Int(length), reader.remaining))
                guard let type = FrameType(rawValue: type) else { continue }
                check(machine.step(.frame(Frame(type: type, body: body))))
            }
        } catch { return }
        check(machine.step(.timedOut))
        precondition(ends == 1, "a handshake that ended \(ends) times")
    }

    /// Both sides of good handshakes, as the other side would hear them.
    static func seeds() -> [[UInt8]] {
        var seeds: [[UInt8]] = []
        for flags in [0, 2, 4, 8, 10] as [UInt8] {
            var dialer = machine(flags | 1, nonce: 1, node: flags & 8 != 0 ? "n" : "m")
            var listener = machine(flags & 6, nonce: 2, node: "n")
            var heard: [[UInt8]] = [[flags | 1], [flags & 6]]
            var pending = dialer.step(.start)
            _ = listener.step(.start)
            var toListener = true
            while !pending.isEmpty {
                var answers: [HandshakeMachine.Directive] = []
                for case .send(let type, let body) in pending {
                    heard[toListener ? 1 : 0] += [type.rawValue, UInt8(body.count & 255), UInt8(body.count >> 8)]
                    heard[toListener ? 1 : 0] += body.array
                    let frame = Frame(type: type, body: body)
                    answers += toListener ? listener.step(.frame(frame)) : dialer.step(.frame(frame))
                }
                pending = answers
                toListener.toggle()
            }
            seeds += heard
        }
        return seeds
    }
}
