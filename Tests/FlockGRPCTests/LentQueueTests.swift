// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockGRPC

@Suite("completion queues that threads borrow and look at", .serialized, .timeLimit(.minutes(1)))
struct LentQueueTests {
    /// A stream to a server that echoes; what comes back, and which thread took it.
    private final class Echoes: Sendable {
        let queue: CompletionQueue
        let stream: GRPCClientStream
        private let taken = Mutex<[(text: String, thread: UInt)]>([])
        private let inside = Atomic(0)
        let overlaps = Atomic(0)

        init(_ channel: GRPCChannel, on queue: CompletionQueue) async throws {
            self.queue = queue
            stream = try await channel.stream("/test.Echo/Stream")
        }

        var texts: [String] { taken.withLock { $0.map(\.text) } }
        var lastThread: UInt? { taken.withLock { $0.last?.thread } }

        func receive() async throws {
            try await stream.both.receiveAll(expected: false) { message in
                self.alone {
                    self.taken.withLock { $0.append((message.text, UInt(pthread_self()))) }
                }
                return false
            }
        }

        /// Counts the threads that have the queue at once.
        func alone(_ body: () -> Void) {
            if inside.add(1, ordering: .relaxed).newValue != 1 || !queue.isCurrent {
                overlaps.add(1, ordering: .relaxed)
            }
            body()
            inside.subtract(1, ordering: .relaxed)
        }

        /// Sends from this thread, if the queue sleeps and can be kept; from the queue's otherwise.
        func send(_ text: String) -> (any Lookout)? {
            let outcome = Errands.run(looks: true) {
                Task(executorPreference: queue.taskExecutor) { self.stream.both.push(Bytes(text)) }
            }
            if case .kept(let lookout) = outcome { return lookout }
            return nil
        }
    }

    private func withEchoes(_ body: (Echoes, CompletionQueue, GRPCChannel) async throws -> Void) async throws {
        try await EchoServer.with { channel, queue, _ in
            let echoes = try await Echoes(channel, on: queue)
            async let ended: Void = echoes.receive()
            try await body(echoes, queue, channel)
            echoes.stream.finishSending()
            try await ended
            #expect(echoes.overlaps.load(ordering: .relaxed) == 0)
        }
    }

    /// Not for long: others need a thread of the pool.
    private func look(with lookout: any Lookout, most: Int = 1000, while isWanted: () -> Bool) {
        var looks = 0
        while looks < most, lookout.look(), isWanted() {
            looks += 1
            sched_yield()
        }
    }

    /// Sends until this thread has kept the queue for it, and then has taken the answer itself; returns how many were
    /// sent in all.
    @discardableResult
    private func askUntilTaken(_ echoes: Echoes) async throws -> Int {
        var sent = echoes.texts.count
        try await eventually {
            sent += 1
            guard let lookout = echoes.send("\(sent)") else {
                try await eventually { echoes.texts.count == sent }
                return false
            }
            look(with: lookout) { echoes.texts.count < sent }
            lookout.end()
            try await eventually { echoes.texts.count == sent }
            return echoes.lastThread == UInt(pthread_self())
        }
        return sent
    }

    @Test("a thread that has sent something takes the answer itself, and the queue's own stays aside")
    func takesItself() async throws {
        try await withEchoes { echoes, queue, _ in
            // This thread may have been away for longer than that one stays aside.
            try await eventually {
                try await askUntilTaken(echoes)
                return queue.state.withLock { $0.ownThread } == .aside
            }
            #expect(echoes.texts == (1...echoes.texts.count).map(String.init))
            // Nobody comes, and it goes back into gRPC by itself.
            try await eventually { queue.state.withLock { $0.ownThread } == .asleep }
            #expect(!queue.isCurrent)
        }
    }

    @Test("the queue's own thread comes back at once when somebody else needs it")
    func comesBack() async throws {
        try await withEchoes { echoes, queue, channel in
            let sent = try await askUntilTaken(echoes)
            // An errand of another kind: nobody looks for what comes of it.
            queue.execute { echoes.alone {} }
            #expect(queue.state.withLock { $0.ownThread } != .aside)
            #expect(try await channel.unary("/test.Echo/Unary", Bytes("x")).text == "x")
            #expect(echoes.texts.count == sent)
        }
    }

    @Test("the queue's own thread is not left aside while an answer is awaited")
    func givesUp() async throws {
        try await withEchoes { echoes, queue, _ in
            // Nothing is awaited before somebody listens.
            var sent = try await askUntilTaken(echoes)
            try await eventually {
                sent += 1
                let lookout = echoes.send("\(sent)")
                // Until it has left gRPC; then the look is over, whether there was an answer or not.
                if let lookout { look(with: lookout) { queue.state.withLock { $0.ownThread } == .asleep } }
                let isOpen = echoes.texts.count < sent
                lookout?.end()
                if lookout != nil, isOpen { #expect(queue.state.withLock { $0.ownThread } != .aside) }
                try await eventually { echoes.texts.count == sent }
                return lookout != nil && isOpen
            }
            #expect(echoes.texts == (1...sent).map(String.init))
        }
    }

    @Test("whoever has the queue, each message is answered once and in order, and one thread is there at a time")
    func stress() async throws {
        try await withEchoes { echoes, queue, channel in
            try await withThrowingTaskGroup { group in
                group.addTask {
                    var random = SeededRandom(seed: 6)
                    for sent in 1...1500 {
                        if let lookout = echoes.send("\(sent)") {
                            // Some looks end before there is an answer.
                            let most = Int.random(in: 1...400, using: &random)
                            look(with: lookout, most: most) { echoes.texts.count < sent }
                            lookout.end()
                        }
                        try await eventually { echoes.texts.count == sent }
                    }
                }
                group.addTask {
                    for count in stride(from: 0, to: 1500, by: 5) {
                        try await eventually { echoes.texts.count >= count }
                        let answer = try await channel.unary("/test.Echo/Unary", Bytes("beside"))
                        #expect(answer.text == "beside")
                    }
                }
                group.addTask {
                    for count in stride(from: 0, to: 1500, by: 3) {
                        try await eventually { echoes.texts.count >= count }
                        queue.execute { echoes.alone {} }
                    }
                }
                try await group.waitForAll()
            }
            #expect(echoes.texts == (1...1500).map(String.init))
        }
    }

    @Test("a queue that is stopped while a thread looks at it ends")
    func stopped() async throws {
        for _ in 0..<20 {
            let queue = try CompletionQueue(name: "stopped")
            let server = try await GRPCServer(
                EchoServer.handlers(held: Held()), at: "127.0.0.1:0", on: queue, limits: Limits())
            let channel = GRPCChannel(to: "127.0.0.1:\(server.port)", on: queue, limits: Limits())
            let stream = try await channel.stream("/test.Echo/Hold")
            var kept: (any Lookout)?
            try await eventually {
                let outcome = Errands.run(looks: true) {
                    Task(executorPreference: queue.taskExecutor) { stream.both.push(Bytes("x")) }
                }
                if case .kept(let lookout) = outcome { kept = lookout }
                return kept != nil
            }
            let lookout = try #require(kept)
            let stopping = Task.detached {
                await server.stop()
                await queue.stop()
            }
            look(with: lookout) { true }
            lookout.end()
            await stopping.value
        }
    }
}
