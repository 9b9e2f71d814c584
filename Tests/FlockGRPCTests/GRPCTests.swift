// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockGRPC

@Suite("gRPC over the C core", .timeLimit(.minutes(1)))
struct GRPCTests {
    @Test("messages of all sizes come back as they were sent, in order")
    func echo() async throws {
        try await EchoServer.with { channel, _, _ in
            let stream = try await channel.stream("/test.Echo/Stream")
            var random = SeededRandom(seed: 4)
            for size in [0, 1, 23, 24, 25, 4000, 65_536, 3_000_001] {
                let message = Bytes((0..<size).map { _ in UInt8.random(in: 0...255, using: &random) })
                try await stream.both.send(message)
                #expect(try await stream.both.receive() == message, "\(size) bytes")
            }
            stream.finishSending()
            #expect(try await stream.both.receive() == nil)
        }
    }

    @Test("many messages are under way at once and keep their order")
    func pipelined() async throws {
        try await EchoServer.with { channel, _, _ in
            let stream = try await channel.stream("/test.Echo/Stream")
            async let sending: Void = {
                for number in 0..<2000 { try await stream.both.send(Bytes("message \(number)")) }
                stream.finishSending()
            }()
            var number = 0
            while let message = try await stream.both.receive() {
                #expect(message.text == "message \(number)")
                number += 1
            }
            try await sending
            #expect(number == 2000)
        }
    }

    @Test("a call that expects nothing takes what comes when it has sent something, and all once it has finished")
    func expecting() async throws {
        try await EchoServer.with { channel, _, held in
            let stream = try await channel.stream("/test.Echo/Twice")
            let taken = Mutex<[String]>([])
            async let ended: Void = stream.both.receiveAll { message in
                taken.withLock { $0.append(message.text) }
                return false
            }
            for (number, text) in ["a", "b", "c"].enumerated() {
                stream.both.push(Bytes(text))
                try await eventually {
                    held.count.load(ordering: .relaxed) == number + 1 && taken.withLock { $0.count } == number + 1
                }
            }
            #expect(taken.withLock { $0 } == ["a", "a", "b"])
            stream.finishSending()
            try await ended
            #expect(taken.withLock { $0 } == ["a", "a", "b", "b", "c", "c"])
        }
    }

    @Test("a call that expects nothing takes the answer to what it had sent before it listened")
    func expectingEarlier() async throws {
        try await EchoServer.with { channel, _, _ in
            let stream = try await channel.stream("/test.Echo/Stream")
            let taken = Mutex<[String]>([])
            try await stream.both.send(Bytes("a"))
            async let ended: Void = stream.both.receiveAll(expected: false) { message in
                taken.withLock { $0.append(message.text) }
                return false
            }
            try await eventually { taken.withLock { $0 } == ["a"] }
            stream.finishSending()
            try await ended
        }
    }

    @Test("a call that expects nothing hears that it was ended")
    func expectingEnd() async throws {
        try await EchoServer.with { channel, _, _ in
            let stream = try await channel.stream("/test.Echo/Stream")
            let taken = Mutex(0)
            let receiving = Task {
                try await stream.both.receiveAll { _ in
                    taken.withLock { $0 += 1 }
                    return false
                }
            }
            try await stream.both.send(Bytes("x"))
            try await eventually { taken.withLock { $0 } == 1 }
            stream.both.cancel()
            await #expect(throws: FlockError.self) { try await receiving.value }
        }
    }

    @Test("unary calls of many tasks are answered each with its own")
    func unary() async throws {
        try await EchoServer.with { channel, _, _ in
            try await withThrowingTaskGroup { group in
                for task in 0..<16 {
                    group.addTask {
                        for number in 0..<50 {
                            let answer = try await channel.unary("/test.Echo/Unary", Bytes("\(task)/\(number)"))
                            #expect(answer.text == "\(task)/\(number)")
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a failing handler's error and an unknown method reach the caller")
    func failures() async throws {
        try await EchoServer.with { channel, _, _ in
            let failed = await #expect(throws: FlockError.self) {
                try await channel.unary("/test.Echo/Fail", Bytes("x"))
            }
            #expect(failed?.code == .invalidInput && failed?.message.contains("no such flavour") == true)
            let unknown = await #expect(throws: FlockError.self) {
                try await channel.unary("/test.Echo/Nothing", Bytes("x"))
            }
            #expect(unknown?.code == .notFound)
        }
    }

    @Test("a call that takes too long ends with its deadline")
    func deadline() async throws {
        try await EchoServer.with { channel, _, _ in
            let stream = try await channel.stream("/test.Echo/Hold", timeout: .milliseconds(30))
            // On a busy machine it may pass before the message is sent.
            let error = await #expect(throws: FlockError.self) {
                try await stream.both.send(Bytes("x"))
                _ = try await stream.both.receive()
            }
            #expect(error?.code == .deadlineExceeded)
        }
    }

    @Test("a cancelled task cancels its call, and the handler hears of it")
    func cancellation() async throws {
        try await EchoServer.with { channel, _, held in
            let stream = try await channel.stream("/test.Echo/Hold")
            try await stream.both.send(Bytes("x"))
            let task = Task { try await stream.both.receive() }
            try await eventually { held.count.load(ordering: .relaxed) == 1 }
            task.cancel()
            let result = await task.result
            #expect(throws: FlockError(.cancelled, "")) { try result.get() }
            try await eventually { held.count.load(ordering: .relaxed) == 0 }
            #expect(held.errors.withLock { $0.count } == 1)
        }
    }

    @Test("a message over the limit fails the call and not the process")
    func tooLarge() async throws {
        try await EchoServer.with { channel, _, _ in
            let large = Bytes([UInt8](repeating: 7, count: Limits().frameBytes + 1))
            let error = await #expect(throws: FlockError.self) { try await channel.unary("/test.Echo/Unary", large) }
            #expect(error?.code == .overloaded)
            let answer = try await channel.unary("/test.Echo/Unary", Bytes("still there"))
            #expect(answer.text == "still there")
        }
    }

    @Test("a peer that goes ends its calls")
    func peerGone() async throws {
        let node = try CompletionQueue(name: "client")
        let child = try CompletionQueue(name: "server")
        let held = Held()
        let server = try await GRPCServer(EchoServer.handlers(held: held), on: child, limits: Limits())
        let (left, right) = try EchoServer.socketPair()
        server.adopt(descriptor: right)
        let channel = GRPCChannel(overDescriptor: left, on: node, limits: Limits())
        let stream = try await channel.stream("/test.Echo/Hold")
        try await stream.both.send(Bytes("x"))
        try await eventually { held.count.load(ordering: .relaxed) == 1 }
        await server.stop()
        await #expect(throws: FlockError.self) { _ = try await stream.both.receive() }
        await #expect(throws: FlockError.self) { try await stream.both.send(Bytes("y")) }
        await child.stop()
        await node.stop()
    }

    @Test("over TCP: a server at a port, a second one there is refused")
    func tcp() async throws {
        let queue = try CompletionQueue(name: "tcp")
        let server = try await GRPCServer(
            EchoServer.handlers(held: Held()), at: "127.0.0.1:0", on: queue, limits: Limits())
        #expect(server.port > 0)
        let address = "127.0.0.1:\(server.port)"
        let error = await #expect(throws: FlockError.self) {
            _ = try await GRPCServer([:], at: address, on: queue, limits: Limits())
        }
        #expect(error?.message.contains(address) == true)
        let channel = GRPCChannel(to: address, on: queue, limits: Limits())
        #expect(try await channel.unary("/test.Echo/Unary", Bytes("hello")).text == "hello")
        await server.stop()
        await queue.stop()
    }

    private actor Resident {
        let queue: CompletionQueue
        nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }
        init(_ queue: CompletionQueue) { self.queue = queue }

        func echo(over channel: GRPCChannel, count: Int) async throws -> Bool {
            let stream = try await channel.stream("/test.Echo/Stream")
            for number in 0..<count {
                try await stream.both.send(Bytes("\(number)"))
                guard try await stream.both.receive()?.text == "\(number)", queue.isCurrent else { return false }
            }
            stream.finishSending()
            return try await stream.both.receive() == nil
        }
    }

    @Test("an actor on the queue stays on its thread through all of it")
    func resident() async throws {
        let queue = try CompletionQueue(name: "resident")
        let server = try await GRPCServer(
            EchoServer.handlers(held: Held()), at: "127.0.0.1:0", on: queue, limits: Limits())
        let channel = GRPCChannel(to: "127.0.0.1:\(server.port)", on: queue, limits: Limits())
        #expect(try await Resident(queue).echo(over: channel, count: 500))
        await server.stop()
        await queue.stop()
    }

    @Test("calls after the queue stopped fail instead of hanging")
    func afterStop() async throws {
        let queue = try CompletionQueue(name: "stopped")
        let channel = GRPCChannel(to: "127.0.0.1:1", on: queue, limits: Limits())
        await queue.stop()
        await queue.stop()
        await #expect(throws: FlockError.self) { try await channel.unary("/test.Echo/Unary", Bytes("x")) }
    }
}
