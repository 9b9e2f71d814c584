// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Synchronization
import Testing

/// Collects what a direct call is answered.
final class Replies: Sendable {
    struct Collected {
        var parts: [[UInt8]] = []
        var end: Result<[UInt8], FlockError>?
        var ends = 0
        var areAligned = true
    }
    let collected = Mutex(Collected())
    let ended = Signal()

    func receive(_ reply: DirectReply) {
        collected.withLock { collected in
            switch reply {
            case .part(let bytes):
                collected.parts.append(bytes.array)
                collected.areAligned = collected.areAligned && bytes.isAligned(to: 8)
            case .done(let bytes):
                collected.end = .success(bytes.array)
                collected.ends += 1
                collected.areAligned = collected.areAligned && bytes.isAligned(to: 8)
            case .failed(let error):
                collected.end = .failure(error)
                collected.ends += 1
            }
        }
        if case .part = reply { return }
        ended.fire()
    }
}

@Suite("direct calls")
struct DirectCallTests {
    static let method = DirectMethod(Echo.self, "direct")

    /// Calls "direct" of "echo" and returns what came back.
    func call(
        _ client: TestClient, deadline: Duration? = nil, payload: Bytes? = nil, _ arguments: [UInt8] = []
    ) async -> Replies {
        let replies = Replies()
        await client.onLoop {
            client.peer.call(
                Self.method, on: ActorAddress(named: "echo", on: client.peer.identity.node), deadline: deadline,
                payload: payload, build: { $0.write(Bytes(arguments)) }, onReply: replies.receive)
        }
        await replies.ended.wait()
        return replies
    }

    @Test("arguments, payloads and replies cross in one piece, aligned")
    func roundTrip() async throws {
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                let aligned = call.arguments.isAligned(to: 8)
                call.finish(payload: call.arguments) { $0.write(UInt8(aligned ? 1 : 0)) }
            }
        }) { _, client in
            for size in [0, 1, 7, 8, 1000, 16 << 10, 300_000] {
                let payload = Bytes([UInt8](repeating: 9, count: size))
                let replies = await call(client, payload: payload, [1, 2, 3])
                let built: [UInt8] = [1] + [UInt8](repeating: 0, count: 7) + [1, 2, 3, 0, 0, 0, 0, 0]
                let expected = built + payload.array
                replies.collected.withLock { collected in
                    #expect(collected.parts.isEmpty)
                    #expect((try? collected.end?.get()) == expected, "payload of \(size)")
                    #expect(collected.areAligned)
                    #expect(collected.ends == 1)
                }
            }
        }
    }

    @Test("parts arrive in order, then the end")
    func parts() async throws {
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                for part in 0..<100 as Range<UInt8> { call.part { $0.write(part) } }
                call.finish { $0.write(UInt8(255)) }
                call.finish { $0.write(UInt8(254)) }
                call.fail(FlockError(.stageFailed, "after the end"))
            }
        }) { _, client in
            let replies = await call(client)
            replies.collected.withLock { collected in
                #expect(collected.parts == (0..<100).map { [UInt8($0)] })
                #expect((try? collected.end?.get()) == [255])
                #expect(collected.ends == 1)
            }
        }
    }

    @Test("a failure keeps its code and message; a receiver without a body is notFound")
    func failures() async throws {
        try await withPair { node, client in
            let missing = await call(client)
            #expect(missing.collected.withLock { $0.end.failureCode } == .notFound)
            node.system.direct(Echo.self, "direct") { _, call in call.fail(FlockError(.moved, "ask node-2")) }
            let failed = await call(client)
            failed.collected.withLock { collected in
                #expect(collected.end.failureCode == .moved)
                #expect(collected.ends == 1)
            }
        }
    }

    @Test("a deadline ends the call on both sides")
    func deadline() async throws {
        let cancelled = Signal()
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                guard call.deadline == .milliseconds(20) else { return call.finish() }
                call.onCancel { cancelled.fire() }
            }
        }) { _, client in
            let replies = await call(client, deadline: .milliseconds(20))
            #expect(replies.collected.withLock { $0.end.failureCode } == .deadlineExceeded)
            await cancelled.wait()
        }
    }

    @Test("cancel ends the call on both sides, with parts before it; later answers go nowhere")
    func cancel() async throws {
        let running = Signal()
        let cancelled = Signal()
        let held = Mutex<DirectCall?>(nil)
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                call.part { $0.write(UInt8(1)) }
                held.withLock { $0 = call }
                call.onCancel {
                    #expect(call.isCancelled)
                    cancelled.fire()
                }
                running.fire()
            }
        }) { node, client in
            let replies = Replies()
            let number = await client.onLoop {
                client.peer.call(
                    Self.method, on: ActorAddress(named: "echo", on: client.peer.identity.node), deadline: nil,
                    onReply: replies.receive)
            }
            await running.wait()
            await client.onLoop { client.peer.cancel(number) }
            await replies.ended.wait()
            await cancelled.wait()
            let call = try #require(held.withLock { $0.take() })
            node.loop.execute {
                call.part { $0.write(UInt8(2)) }
                call.finish()
            }
            await client.onLoop { client.peer.cancel(number) }
            let echo: Echo = try client.named("echo")
            _ = try await echo.echo(1)
            replies.collected.withLock { collected in
                #expect(collected.end.failureCode == .cancelled)
                #expect(collected.ends == 1)
            }
        }
    }

    @Test("the loss of the caller runs the cancel handlers")
    func callerLoss() async throws {
        let running = Signal()
        let cancelled = Signal()
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                call.onCancel { cancelled.fire() }
                running.fire()
            }
        }) { _, client in
            let replies = Replies()
            await client.onLoop {
                client.peer.call(
                    Self.method, on: ActorAddress(named: "echo", on: client.peer.identity.node), deadline: nil,
                    onReply: replies.receive)
            }
            await running.wait()
            await client.system.stop()
            await cancelled.wait()
            await replies.ended.wait()
            #expect(replies.collected.withLock { $0.end.failureCode } == .shuttingDown)
            #expect(replies.collected.withLock { $0.ends } == 1)
        }
    }

    @Test("one-way calls arrive in order and are never answered")
    func oneWay() async throws {
        let seen = Mutex<[UInt8]>([])
        let all = Signal()
        try await withPair(prepare: { system in
            system.direct(Echo.self, "direct") { _, call in
                #expect(!call.wantsReply)
                call.finish()
                seen.withLock { seen in
                    seen += call.arguments.array
                    if seen.count == 100 { all.fire() }
                }
            }
        }) { _, client in
            await client.onLoop {
                for value in 0..<100 as Range<UInt8> {
                    client.peer.send(Self.method, on: ActorAddress(named: "echo", on: NodeID("node-1"))) {
                        $0.write(value)
                    }
                }
            }
            await all.wait()
            #expect(seen.withLock { $0 } == Array(0..<100))
        }
    }

    @Test("a full table of waiting calls refuses the next one")
    func tableFull() async throws {
        var limits = Limits()
        limits.pendingCalls = 3
        try await withPair(
            clientLimits: limits,
            prepare: { system in system.direct(Echo.self, "direct") { _, _ in } }
        ) { _, client in
            let kept = (0..<3).map { _ in Replies() }
            await client.onLoop {
                for replies in kept {
                    client.peer.call(
                        Self.method, on: ActorAddress(named: "echo", on: NodeID("node-1")), deadline: nil,
                        onReply: replies.receive)
                }
            }
            let refused = await call(client)
            #expect(refused.collected.withLock { $0.end.failureCode } == .overloaded)
            #expect(client.loop.limitsReached.count(of: .pendingCalls) == 1)
        }
    }

    @Test("a handler waits for a writable peer and runs once")
    func writable() async throws {
        try await withPair { _, client in
            let runs = Mutex(0)
            let ran = Signal()
            await client.onLoop {
                client.peer.onWritable {
                    runs.withLock { $0 += 1 }
                    ran.fire()
                }
            }
            await ran.wait()
            #expect(runs.withLock { $0 } == 1)
        }
    }

    @Test("methods are found by base name or by full name")
    func names() {
        #expect(DirectMethod(Echo.self, "overloaded(other:)").description == "Echo.overloaded(other:)")
        _ = DirectMethod(Echo.self, "greet")
        _ = DirectMethod(Echo.self, "greet(_:greeting:)")
        _ = DirectMethod(Vault.Inner.self, "reveal")
    }
}

extension Optional where Wrapped == Result<[UInt8], FlockError> {
    var failureCode: FlockError.Code? {
        if case .failure(let error)? = self { error.code } else { nil }
    }
}
