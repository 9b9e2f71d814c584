// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import FlockWire
import Synchronization
import Testing

@testable import Flockwork

/// An inbox that does what the test says.
final class ScriptedPort: SessionPort {
    let node: NodeID
    let loop: EventLoop
    let limits: Limits
    let isConnected = true
    let submits = Collected<SubmitMessage>()
    let cancels = Collected<CancelMessage>()
    private let handlers = Mutex<[(part: @Sendable (StreamPart) -> Void, end: @Sendable (FlockError) -> Void)]>([])

    init(limits: Limits = Limits(), node: NodeID = "scripted", loop: EventLoop? = nil) throws {
        self.node = node
        self.loop = try loop ?? EventLoop(name: "scripted")
        self.limits = limits
    }

    func open(_ request: OpenRequest) async throws -> SessionToken { Self.token(window: request.window) }
    func close(_ token: SessionToken) async throws {}
    func attach(
        _ token: SessionToken, onPart: @escaping @Sendable (StreamPart) -> Void,
        onEnd: @escaping @Sendable (FlockError) -> Void
    ) -> @Sendable () -> Void {
        handlers.withLock { $0.append((onPart, onEnd)) }
        return {}
    }
    func submit(_ message: SubmitMessage) { submits.append(message) }
    func cancel(_ message: CancelMessage) { cancels.append(message) }
    func onConnected(_ body: @escaping @Sendable () -> Void) { loop.execute(body) }

    static func token(window: Int) -> SessionToken {
        SessionToken(
            node: "scripted", partition: PartitionID(1), session: SessionID(rawValue: 1), pipeline: "p",
            fingerprint: 0, secretHigh: 1, secretLow: 2, window: window)
    }

    /// Says something over the newest stream.
    func say(_ part: StreamPart) async {
        let handler = handlers.withLock { $0.last?.part }
        await loop.run { handler?(part) }
    }

    /// Ends the newest stream.
    func lose() async {
        let handler = handlers.withLock { $0.last?.end }
        await loop.run { handler?(FlockError(.unavailable, "lost")) }
    }

    var attaches: Int { handlers.withLock { $0.count } }
    func settle() async { await loop.run {} }
}

@Suite("A client's session", .timeLimit(.minutes(1)))
struct SessionTests {
    private static let layout = ItemBuffer.Layout.fixed(stride: 8)

    private static func item(_ value: Int64) -> EncodedItem {
        .bytes(withUnsafeBytes(of: value) { Bytes(copying: $0) })
    }

    private static func items(_ values: Range<Int64>) -> ItemBuffer { ItemBuffer(Rows(Array(values), width: 1)) }

    private static func outcome(_ first: UInt64, _ values: Range<Int64>) -> StreamPart {
        StreamPart(outcomes: [
            OutcomeRun(
                sequences: SequenceRun(first: first, count: values.count),
                outcome: .values(items(values), filtered: nil))
        ])
    }

    private func withSession(
        window: Int, body: (Session, ScriptedPort, OutboxQueue) async throws -> Void
    ) async throws {
        let port = try ScriptedPort()
        let outbox = OutboxQueue()
        let session = Session(
            token: ScriptedPort.token(window: window), layout: Self.layout, port: port, outbox: outbox,
            onEnd: {})
        await port.loop.run { session.attach() }
        do { try await body(session, port, outbox) } catch {
            await port.loop.stop()
            throw error
        }
        await session.close()
        await port.loop.stop()
    }

    /// Hands in an ask; the answer comes to `answers`.
    private func ask(_ value: Int64, in session: Session, to answers: Collected<Answer>) async throws -> UInt64 {
        let sequence = Kept<UInt64>()
        let task = Task {
            let answer = await withUnsafeContinuation { (continuation: UnsafeContinuation<Answer, Never>) in
                let attempt = session.ask(
                    Self.item(value), deadline: nil, trace: nil, continuation: continuation)
                switch attempt {
                case .sent(let taken): sequence.put(taken)
                case .notSent(let answer): continuation.resume(returning: answer)
                }
            }
            answers.append(answer)
        }
        try await eventually { sequence.peek() != nil || !answers.all.isEmpty }
        if let sequence = sequence.peek() { return sequence }
        _ = await task.value
        return try #require(sequence.peek(), "the session took no ask")
    }

    @Test("a cancel that comes after the answer does not hit the request that has the place now")
    func lateCancel() async throws {
        try await withSession(window: 1) { session, port, _ in
            let first = Collected<Answer>()
            let sequence = try await ask(7, in: session, to: first)
            await port.settle()
            await port.say(Self.outcome(sequence, 7..<8))
            try await eventually { !first.all.isEmpty }
            let second = Collected<Answer>()
            let next = try await ask(8, in: session, to: second)
            #expect(next == sequence + 1)
            session.cancel(sequence)
            await port.settle()
            await port.say(Self.outcome(next, 8..<9))
            try await eventually { !second.all.isEmpty }
            guard case .small(let answered)? = second.all.first else {
                Issue.record("the second caller got \(second.all)")
                return
            }
            #expect(answered.buffer.rows(of: Int64.self, width: 1)?.elements == [8])
        }
    }

    @Test("a session that comes back sends what has no outcome again, and tells what was taken")
    func reattach() async throws {
        try await withSession(window: 16) { session, port, outbox in
            _ = try session.post(Self.items(0..<4), deadline: nil, trace: nil)
            await port.settle()
            await port.say(Self.outcome(0, 0..<2))
            let entries = await outbox.take() ?? []
            #expect(entries.map(\.run.sequences) == [SequenceRun(first: 0, count: 2)])
            session.take(SequenceRun(first: 0, count: 2))
            await port.settle()
            let before = port.submits.all.count
            await port.lose()
            await port.settle()
            #expect(port.attaches == 2)
            let again = port.submits.all.dropFirst(before)
            #expect(again.flatMap(\.runs).map(\.sequences) == [SequenceRun(first: 2, count: 2)])
            #expect(again.allSatisfy { $0.lowestOpen == 2 })
            // The inbox does not know what of it arrived, and says it all again.
            await port.say(Self.outcome(0, 0..<4))
            let rest = await outbox.take() ?? []
            #expect(rest.map(\.run.sequences) == [SequenceRun(first: 2, count: 2)])
        }
    }

    @Test("a session that comes back tells what was taken even when nothing is open")
    func reattachIdle() async throws {
        try await withSession(window: 16) { session, port, outbox in
            _ = try session.post(Self.items(0..<4), deadline: nil, trace: nil)
            await port.settle()
            await port.say(Self.outcome(0, 0..<4))
            _ = await outbox.take()
            session.take(SequenceRun(first: 0, count: 4))
            // It told the inbox, over a connection that lost it.
            try await eventually { port.submits.all.count >= 2 }
            await port.lose()
            await port.settle()
            #expect(port.submits.all.count == 3)
            #expect(port.submits.all.last?.lowestOpen == 4)
        }
    }

    @Test("a refusal ends what was refused and all that follows, and lets later runs in")
    func refusal() async throws {
        try await withSession(window: 16) { session, port, outbox in
            _ = try session.post(Self.items(0..<4), deadline: nil, trace: nil)
            _ = try session.post(Self.items(4..<6), deadline: nil, trace: nil)
            await port.settle()
            let error = FlockError(.overloaded, "full", retryAfter: .milliseconds(5))
            await port.say(StreamPart(refused: .init(from: 2, error: error)))
            let entries = await outbox.take() ?? []
            // In one run or in two, for the loop may have come between the posts.
            #expect(entries.flatMap { Array($0.run.sequences.first..<$0.run.sequences.end) } == [2, 3, 4, 5])
            guard case .failed(let failure)? = entries.first?.run.outcome else {
                Issue.record("\(entries)")
                return
            }
            #expect(failure.code == .overloaded && failure.retryAfter == .milliseconds(5))
            #expect(port.cancels.all.map(\.sequences) == [SequenceRun(first: 2, count: 4)])
            // The first two are not answered yet.
            await port.say(Self.outcome(0, 0..<2))
            #expect(await outbox.take()?.map(\.run.sequences) == [SequenceRun(first: 0, count: 2)])
        }
    }

    @Test("a late second refusal of what was given up does not end later requests")
    func lateRefusal() async throws {
        try await withSession(window: 16) { session, port, outbox in
            _ = try session.post(Self.items(0..<4), deadline: nil, trace: nil)
            await port.settle()
            let error = FlockError(.overloaded, "full", retryAfter: .milliseconds(5))
            await port.say(StreamPart(refused: .init(from: 0, error: error)))
            _ = await outbox.take()
            _ = try session.post(Self.items(4..<6), deadline: nil, trace: nil)
            await port.settle()
            await port.say(StreamPart(refused: .init(from: 2, error: error)))
            await port.say(Self.outcome(4, 4..<6))
            let entries = await outbox.take() ?? []
            #expect(entries.map(\.run.sequences) == [SequenceRun(first: 4, count: 2)])
            guard case .values? = entries.first?.run.outcome else {
                Issue.record("\(entries)")
                return
            }
            #expect(port.cancels.all.map(\.sequences) == [SequenceRun(first: 0, count: 4)])
        }
    }
}
