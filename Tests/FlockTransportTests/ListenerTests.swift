// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Logging
import Synchronization
import Testing

@testable import FlockTransport

@Suite("Listening and dialling", .timeLimit(.minutes(1)))
struct ListenerTests {
    @Test("a port in use is an error that names it")
    func portInUse() async throws {
        let loop = try EventLoop(name: "twice")
        let first = try await loop.listening { _ in }
        let error = await #expect(throws: FlockError.self) {
            _ = try await Listener.bind(
                host: "127.0.0.1", port: first.port, on: loop, identity: .node(), limits: Limits(), log: .quiet
            ) { _ in }
        }
        #expect(error?.code == .system)
        #expect(error?.message.contains("127.0.0.1:\(first.port)") == true)
        // Free again once closed, though a child that is being made has a copy of the socket.
        let copy = await withCheckedContinuation { continuation in
            loop.execute { continuation.resume(returning: fcntl(first.descriptor ?? -1, F_DUPFD_CLOEXEC, 0)) }
        }
        #expect(copy >= 0)
        defer { close(copy) }
        await first.close()
        await first.close()
        let again = try await Listener.bind(
            host: "127.0.0.1", port: first.port, on: loop, identity: .node(), limits: Limits(), log: .quiet
        ) { _ in }
        #expect(again.port == first.port)
        await loop.stop()
    }

    @Test("an address that others reach needs a token or the word insecure", arguments: ["0.0.0.0", "::"])
    func refusesOpenAddress(_ host: String) async throws {
        let loop = try EventLoop(name: "open")
        @Sendable func bind(token: Token?, insecure: Bool) async throws -> Listener {
            try await Listener.bind(
                host: host, port: 0, on: loop, identity: .node(token: token), limits: Limits(), insecure: insecure,
                log: .quiet
            ) { _ in }
        }
        let error = await #expect(throws: FlockError.self) { _ = try await bind(token: nil, insecure: false) }
        #expect(error?.code == .unauthenticated)
        #expect(error?.message.contains("token file") == true)
        for (token, insecure) in [(nil, true), (Token.test, false)] {
            do {
                await (try await bind(token: token, insecure: insecure)).close()
            } catch let error as FlockError where host == "::" {
                #expect(error.code == .system, "a machine without IPv6")
            }
        }
        await loop.stop()
    }

    @Test("loopback needs no token", arguments: ["127.0.0.1", "127.8.9.10", "localhost"])
    func allowsLoopback(_ host: String) async throws {
        let loop = try EventLoop(name: "loopback")
        let listener = try await Listener.bind(
            host: host, port: 0, on: loop, identity: .node(token: nil), limits: Limits(), log: .quiet
        ) { _ in }
        #expect(listener.port > 0)
        let connection = try await Dialer.connect(
            host: host, port: listener.port, on: loop, identity: .client(token: nil), limits: Limits())
        #expect(connection.peer.node == NodeID("node-1"))
        await loop.stop()
    }

    @Test(
        "which addresses are loopback",
        arguments: [
            ("127.0.0.1", true), ("127.255.0.1", true), ("128.0.0.1", false), ("0.0.0.0", false), ("10.0.0.1", false),
            ("::1", true), ("::", false), ("::ffff:127.0.0.1", true), ("::ffff:10.0.0.1", false), ("fe80::1", false),
        ])
    func classifies(_ host: String, _ isLoopback: Bool) throws {
        #expect(try #require(SocketAddress(numeric: host, port: 1)).isLoopback == isLoopback)
    }

    @Test("a dead port, a port out of range and an unknown host are errors that name them")
    func deadPort() async throws {
        let loop = try EventLoop(name: "dead")
        let closed = try await loop.listening { _ in }
        await closed.close()
        for (host, port, code) in [
            ("127.0.0.1", closed.port, FlockError.Code.unavailable), ("127.0.0.1", 70_000, .invalidInput),
            ("no-such-host.invalid", 1, .unavailable),
        ] {
            let error = await #expect(throws: FlockError.self) {
                _ = try await Dialer.connect(host: host, port: port, on: loop, identity: .client(), limits: Limits())
            }
            #expect(error?.code == code)
            #expect(error?.message.contains(host) == true)
        }
        await loop.stop()
    }

    @Test("a listener that accepts and says nothing is given up; so is a cancelled attempt")
    func silentListener() async throws {
        let loop = try EventLoop(name: "silent")
        // The kernel accepts into the backlog; nobody answers.
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutableBytes(of: &address) { memory in
            let pointer = memory.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            #expect(Glibc.bind(descriptor, pointer, length) == 0)
            #expect(listen(descriptor, 8) == 0)
            getsockname(descriptor, pointer, &length)
        }
        let port = Int(UInt16(bigEndian: address.sin_port))
        let limits = Limits.with {
            $0.handshakeTime = .milliseconds(30)
        }
        let error = await #expect(throws: FlockError.self) {
            _ = try await Dialer.connect(host: "127.0.0.1", port: port, on: loop, identity: .client(), limits: limits)
        }
        #expect(error?.code == .deadlineExceeded)
        let task = Task {
            try await Dialer.connect(host: "127.0.0.1", port: port, on: loop, identity: .client(), limits: Limits())
        }
        task.cancel()
        let cancelled = await #expect(throws: FlockError.self) { _ = try await task.value }
        #expect(cancelled?.code == .cancelled)
        await loop.stop()
    }

    @Test("a link comes up when its peer does, and again after the peer was away")
    func linkReconnects() async throws {
        let loop = try EventLoop(name: "link")
        let probe = try await loop.listening { _ in }
        let port = probe.port
        await probe.close()
        let limits = Limits.with {
            $0.reconnectMinimum = .milliseconds(1)
            $0.reconnectMaximum = .milliseconds(5)
        }
        let ups = Mutex<[Promise<Connection>]>((0..<3).map { _ in Promise() })
        let promises = ups.withLock { $0 }
        let downs = Counter()
        let link = Link(
            host: "127.0.0.1", port: port, on: loop, identity: .node("node-2"), limits: limits,
            expecting: NodeID("node-1"), log: .quiet,
            onUp: { connection in
                connection.onFrame = { _ in }
                ups.withLock { $0.removeFirst() }.fulfil(connection)
            }, onDown: { _ in downs.add() })
        link.start()
        link.start()
        for round in 0..<2 {
            let server = try EventLoop(name: "server")
            let listener = try await Listener.bind(
                host: "127.0.0.1", port: port, on: server, identity: .node(), limits: limits, log: .quiet,
                onConnection: echo)
            let connection = await promises[round].value
            #expect(connection.peer.node == NodeID("node-1"))
            #expect(link.lastError == nil)
            #expect(listener.port == port)
            await server.stop()
        }
        link.stop()
        await loop.stop()
        #expect(downs.value == 2)
    }

    @Test("a link to a dead port goes on trying, says why, and stops at once")
    func linkStops() async throws {
        let loop = try EventLoop(name: "hopeless")
        let closed = try await loop.listening { _ in }
        await closed.close()
        let limits = Limits.with {
            $0.reconnectMinimum = .seconds(1000)
            $0.reconnectMaximum = .seconds(1000)
        }
        let live = LiveObjects()
        do {
            let link = Link(
                host: "127.0.0.1", port: closed.port, on: loop, identity: .node("node-2"), limits: limits,
                log: .quiet, onUp: { _ in Issue.record("up") })
            live.add(link)
            link.start()
            try await eventually { link.lastError != nil }
            #expect(link.lastError?.code == .unavailable)
            link.stop()
        }
        try await eventually { live.alive == [] }
        await loop.stop()
    }

    @Test("a link in its pause that somebody needs connects at once")
    func linkHurries() async throws {
        let loop = try EventLoop(name: "hurry")
        let closed = try await loop.listening { _ in }
        let port = closed.port
        await closed.close()
        let limits = Limits.with {
            $0.reconnectMinimum = .seconds(1000)
            $0.reconnectMaximum = .seconds(1000)
        }
        let up = Promise<Void>()
        let link = Link(
            host: "127.0.0.1", port: port, on: loop, identity: .node("node-2"), limits: limits, log: .quiet,
            onUp: { _ in up.fulfil(()) })
        link.start()
        try await eventually { link.lastError != nil }
        let listener = try await Listener.bind(
            host: "127.0.0.1", port: port, on: loop, identity: .node(), limits: limits, log: .quiet, onConnection: echo)
        // Not within a moment of the attempt before, so more than once.
        try await eventually {
            link.hurry()
            return link.lastError == nil
        }
        await up.value
        link.stop()
        await listener.close()
        await loop.stop()
    }

    @Test("pauses double up to the maximum, keep between a half and the whole, and start anew after a long life")
    func backsOff() {
        var backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
        var generator = SeededRandom(seed: 1)
        for step in [10, 20, 40, 80, 100, 100, 100] {
            let pause = backoff.next(random: generator.next())
            #expect(pause >= .milliseconds(step) / 2 && pause <= .milliseconds(step))
        }
        backoff.lost(after: .milliseconds(99))
        #expect(backoff.next(random: .max) > .milliseconds(49))
        backoff.lost(after: .milliseconds(100))
        #expect(backoff.next(random: .max) <= .milliseconds(10))
    }

    @Test("strangers cannot flood the log")
    func limitsLog() {
        var gate = LogGate()
        let start = Tick(nanoseconds: 5_000_000_000)
        #expect((0..<1000).filter { _ in gate.pass(at: start) != nil }.count == 10)
        #expect(gate.pass(at: start + .seconds(1)) == 990)
        #expect(gate.pass(at: start + .seconds(1)) == 0)
    }
}
