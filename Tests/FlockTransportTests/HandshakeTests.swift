// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockTransport

/// Two machines in memory; `tamper` sees each frame on its way and may change it.
struct HandshakePair {
    var dialer: HandshakeMachine
    var listener: HandshakeMachine
    var results: (dialer: HandshakeMachine.Directive?, listener: HandshakeMachine.Directive?) = (nil, nil)
    var sent: [(type: FrameType, body: Bytes)] = []

    init(
        _ dialer: Identity = .client(), _ listener: Identity = .node(), expecting: NodeID? = nil,
        nonces: (UInt8, UInt8) = (1, 2)
    ) {
        self.dialer = HandshakeMachine(
            side: .dialer(expecting: expecting), identity: dialer, nonce: [UInt8](repeating: nonces.0, count: 32),
            limits: Limits())
        self.listener = HandshakeMachine(
            side: .listener, identity: listener, nonce: [UInt8](repeating: nonces.1, count: 32), limits: Limits())
    }

    mutating func run(tamper: (FrameType, Bytes) -> (FrameType, Bytes) = { ($0, $1) }) {
        _ = listener.step(.start)
        var toListener = take(dialer.step(.start), ofDialer: true)
        while !toListener.isEmpty {
            var toDialer: [Frame] = []
            for frame in toListener {
                let changed = tamper(frame.type, frame.body)
                toDialer += take(
                    listener.step(.frame(Frame(type: changed.0, body: changed.1))), ofDialer: false)
            }
            toListener = []
            for frame in toDialer {
                let changed = tamper(frame.type, frame.body)
                toListener += take(dialer.step(.frame(Frame(type: changed.0, body: changed.1))), ofDialer: true)
            }
        }
    }

    private mutating func take(_ directives: [HandshakeMachine.Directive], ofDialer: Bool) -> [Frame] {
        var frames: [Frame] = []
        for directive in directives {
            if case .send(let type, let body) = directive {
                frames.append(Frame(type: type, body: body))
                sent.append((type, body))
            } else if ofDialer {
                results.dialer = directive
            } else {
                results.listener = directive
            }
        }
        return frames
    }

    var codes: [FlockError.Code?] {
        [results.dialer, results.listener].map { if case .fail(let error)? = $0 { error.code } else { nil } }
    }

    var succeeded: (dialer: Bool, listener: Bool) {
        func isSuccess(_ directive: HandshakeMachine.Directive?) -> Bool {
            if case .succeed? = directive { true } else { false }
        }
        return (isSuccess(results.dialer), isSuccess(results.listener))
    }
}

@Suite("Handshake")
struct HandshakeTests {
    @Test("two of one cluster learn who the other is and agree on the highest common version")
    func succeeds() {
        var pair = HandshakePair(.node("node-2", range: 1...3), .node("node-1", range: 2...5))
        pair.run()
        #expect(pair.results.dialer == .succeed(node: NodeID("node-1"), role: .node, version: 3))
        #expect(pair.results.listener == .succeed(node: NodeID("node-2"), role: .node, version: 3))
        #expect(pair.sent.map(\.type) == [.hello, .challenge, .proof, .welcome])
        #expect(pair.sent.allSatisfy { $0.body.count <= Limits().handshakeFrameBytes })
    }

    @Test("without a token on either side the handshake still agrees on version and names")
    func succeedsWithoutTokens() {
        var pair = HandshakePair(.client(token: nil), .node(token: nil))
        pair.run()
        #expect(pair.succeeded == (true, true))
    }

    struct Mismatch: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var dialer: Identity
        var listener: Identity
        var expecting: NodeID?
        var code: FlockError.Code
        var word: String
    }

    static let mismatches = [
        Mismatch(
            testDescription: "wrong token", dialer: .client(token: .other), listener: .node(), code: .unauthenticated,
            word: "another token"),
        Mismatch(
            testDescription: "no token where one is asked for", dialer: .client(token: nil), listener: .node(),
            code: .unauthenticated, word: "token file"),
        Mismatch(
            testDescription: "a token that the listener cannot prove", dialer: .client(), listener: .node(token: nil),
            code: .unauthenticated, word: "without the cluster's token"),
        Mismatch(
            testDescription: "a node with the token of clients", dialer: .node("node-2", token: .clients),
            listener: .guarded(), code: .unauthenticated, word: "for nodes"),
        Mismatch(
            testDescription: "a node's control connection with the token of clients",
            dialer: .control("node-2", token: .clients), listener: .guarded(), code: .unauthenticated,
            word: "for nodes"),
        Mismatch(
            testDescription: "a client with the token of nodes", dialer: .client(), listener: .guarded(),
            code: .unauthenticated, word: "for clients"),
        Mismatch(
            testDescription: "a client without the token of clients", dialer: .client(token: nil), listener: .guarded(),
            code: .unauthenticated, word: "token file"),
        Mismatch(
            testDescription: "wrong cluster", dialer: .client(cluster: "other"), listener: .node(),
            code: .incompatibleNode, word: "\"other\""),
        Mismatch(
            testDescription: "no common version", dialer: .client(range: 2...4), listener: .node(),
            code: .incompatibleNode, word: "2 to 4"),
        Mismatch(
            testDescription: "other members", dialer: .node("node-2", hash: 8), listener: .node(),
            code: .incompatibleNode, word: "list of members"),
        Mismatch(
            testDescription: "the same id twice", dialer: .node("node-1"), listener: .node("node-1"),
            code: .incompatibleNode, word: "own id"),
        Mismatch(
            testDescription: "another node than expected", dialer: .node("node-2"), listener: .node("node-1"),
            expecting: NodeID("node-3"), code: .incompatibleNode, word: "node-3 was expected"),
    ]

    @Test("both ends hear why they do not belong together", arguments: mismatches)
    func refuses(_ mismatch: Mismatch) throws {
        var pair = HandshakePair(mismatch.dialer, mismatch.listener, expecting: mismatch.expecting)
        pair.run()
        #expect(pair.codes == [mismatch.code, mismatch.code])
        guard case .fail(let error)? = pair.results.dialer else { return }
        #expect(error.message.contains(mismatch.word), "\(error)")
    }

    @Test("nodes prove the nodes' token, and clients theirs")
    func tokenByRole() {
        for dialer in [Identity.guarded("node-2"), .client(token: .clients)] {
            var pair = HandshakePair(dialer, .guarded())
            pair.run()
            #expect(pair.succeeded == (true, true), "\(dialer.role)")
        }
    }

    @Test("who has the clients' token cannot make a node of itself on the way")
    func roleIsProven() {
        var pair = HandshakePair(.client(token: .clients), .guarded())
        // The role is the byte after magic and versions.
        pair.run { type, body in
            guard type == .hello else { return (type, body) }
            var bytes = body.array
            bytes[8] = PeerRole.node.rawValue
            return (type, Bytes(bytes))
        }
        #expect(pair.succeeded == (false, false) && pair.codes == [.unauthenticated, .unauthenticated])
    }

    @Test("a client needs no list of members")
    func clientHasNoHash() {
        var pair = HandshakePair(.client(), .node(hash: 99))
        pair.run()
        #expect(pair.succeeded == (true, true))
    }

    @Test("every changed bit of hello, challenge, proof and welcome ends the handshake")
    func refusesTampering() {
        for target in [FrameType.hello, .challenge, .proof, .welcome] {
            var honest = HandshakePair(.node("node-2", range: 1...3), .node("node-1", range: 1...3))
            honest.run()
            let bits = honest.sent.first { $0.type == target }!.body.count * 8
            for bit in 0..<bits {
                var pair = HandshakePair(.node("node-2", range: 1...3), .node("node-1", range: 1...3))
                pair.run { type, body in
                    guard type == target else { return (type, body) }
                    var changed = body.array
                    changed[bit / 8] ^= 1 << UInt8(bit % 8)
                    return (type, Bytes(changed))
                }
                // The listener cannot know that its welcome was changed; the dialer never believes it.
                #expect(!pair.succeeded.dialer, "bit \(bit) of \(target)")
                if target != .welcome { #expect(!pair.succeeded.listener, "bit \(bit) of \(target)") }
            }
        }
    }

    @Test("a version pushed down on the way is noticed")
    func refusesDowngrade() {
        var pair = HandshakePair(.client(range: 1...3), .node(range: 1...3))
        pair.run { type, body in
            guard type == .hello else { return (type, body) }
            var changed = body.array
            changed[6] = 1  // the upper bound of the range
            return (type, Bytes(changed))
        }
        #expect(pair.succeeded == (false, false))
    }

    @Test("a proof of another handshake is worth nothing")
    func refusesReplay() {
        var recorded = HandshakePair(.client(), .node(), nonces: (1, 2))
        recorded.run()
        // The thief repeats the dialer's frames; the listener's nonce is another.
        var pair = HandshakePair(.client(), .node(), nonces: (1, 3))
        pair.run { type, body in
            (type, [.hello, .proof].contains(type) ? recorded.sent.first { $0.type == type }!.body : body)
        }
        #expect(!pair.succeeded.listener)
        #expect(pair.codes[1] == .unauthenticated)
        // And a listener's: the dialer's nonce is another.
        var other = HandshakePair(.client(), .node(), nonces: (4, 2))
        other.run { type, body in
            (type, [.challenge, .welcome].contains(type) ? recorded.sent.first { $0.type == type }!.body : body)
        }
        #expect(!other.succeeded.dialer)
    }

    @Test("a proof sent back to its maker is refused, and so is a mirrored nonce")
    func refusesReflection() {
        var pair = HandshakePair()
        var proof = Bytes.empty
        pair.run { type, body in
            if type == .proof { proof = body }
            return (type, type == .welcome ? proof : body)
        }
        #expect(!pair.succeeded.dialer)
        var mirrored = HandshakePair(nonces: (5, 5))
        mirrored.run()
        #expect(mirrored.succeeded == (false, false))
    }

    @Test("frames out of order end the handshake", arguments: FrameType.allCases)
    func refusesOutOfOrder(_ type: FrameType) {
        let body = Bytes([UInt8](repeating: 0, count: 64))
        if type != .hello {
            var listener = HandshakePair().listener
            _ = listener.step(.start)
            #expect(Self.failed(listener.step(.frame(Frame(type: type, body: body)))))
            #expect(listener.step(.frame(Frame(type: .hello, body: body))).isEmpty, "used once")
        }
        if type != .challenge {
            var dialer = HandshakePair().dialer
            _ = dialer.step(.start)
            #expect(Self.failed(dialer.step(.frame(Frame(type: type, body: body)))))
        }
    }

    @Test("truncated frames end the handshake at every length")
    func refusesTruncation() {
        for target in [FrameType.hello, .challenge, .proof, .welcome] {
            var honest = HandshakePair()
            honest.run()
            let length = honest.sent.first { $0.type == target }!.body.count
            for kept in 0..<length {
                var pair = HandshakePair()
                pair.run { type, body in (type, type == target ? body.slice(from: 0, count: kept) : body) }
                #expect(!pair.succeeded.dialer, "\(kept) of \(length) bytes of \(target)")
            }
        }
    }

    @Test("random bytes as any frame end the handshake")
    func refusesGarbage() {
        var random = SystemRandomNumberGenerator()
        let seed = random.next()
        var generator = SeededRandom(seed: seed)
        for _ in 0..<20_000 {
            let count = Int(generator.next() % 200)
            let body = Bytes((0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
            let type = FrameType.allCases[Int(generator.next() % UInt64(FrameType.allCases.count))]
            var pair = HandshakePair()
            _ = pair.listener.step(.start)
            _ = pair.dialer.step(.start)
            #expect(Self.failed(pair.listener.step(.frame(Frame(type: type, body: body)))), "seed \(seed)")
            #expect(Self.failed(pair.dialer.step(.frame(Frame(type: type, body: body)))), "seed \(seed)")
        }
    }

    @Test("time that runs out is an end, told to the peer")
    func timesOut() {
        var pair = HandshakePair()
        _ = pair.listener.step(.start)
        let directives = pair.listener.step(.timedOut)
        #expect(directives.last == .fail(FlockError(.deadlineExceeded, "")))
        #expect(pair.listener.step(.timedOut).isEmpty)
    }

    @Test("a refusal's text is cleaned, and its code is one that a handshake can give")
    func cleansRefusals() throws {
        let hostile = FlockError(.lost, "fine\u{1B}[2J\nnode-1 is down\u{202E}")
        let read = try Refusal.decoded(Refusal.encoded(hostile, limits: Limits()), limits: Limits())
        #expect(read.code == .protocolViolation)
        #expect(read.message == "refused by the peer: fine?[2J?node-1 is down?")
    }

    private static func failed(_ directives: [HandshakeMachine.Directive]) -> Bool {
        if case .fail? = directives.last { true } else { false }
    }
}
