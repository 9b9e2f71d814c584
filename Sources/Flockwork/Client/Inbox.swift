// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
internal import Synchronization
internal import Tracing

// The caller's end of an inbox. It spreads requests over sessions with all nodes that run the pipeline; a session that
// ended is replaced by a new one.

/// Where requests to one pipeline are handed in, and their outcomes come out. Safe to use from many tasks.
public struct Inbox<Input: Codable & Sendable, Output: Codable & Sendable>: Sendable {
    let core: InboxCore
    let input: ItemCodec<Input>
    let output: ItemCodec<Output>

    /// Hands in one request and waits for its result.
    ///
    /// Without a `deadline` it waits for as long as it takes. Cancelling the task cancels the request.
    /// - Throws: `FlockError`: what the request ended with, or why it was not accepted.
    public func ask(_ item: Input, deadline: Duration? = nil) async throws -> Output {
        try await ask(encoded: try input.encodeItem(item), deadline: deadline)
    }

    func ask(encoded item: EncodedItem, deadline: Duration?) async throws -> Output {
        try Task.checkCancellation()
        switch try await core.ask(item, deadline: deadline, trace: TraceContext.current) {
        case .small(let item): return try output.decode(item)
        case .value(let run, let index): return try output.decodeItem(run.items, index)
        case .filtered: throw FlockError(.filtered, "The pipeline filtered the request.")
        case .failed(let error): throw error
        case .noRoom: preconditionFailure("an ask that found no room was given up")
        }
    }

    /// When `post` returns.
    public enum Post: Sendable {
        /// When the inbox has accepted all: from then on nothing of it is lost.
        case accepted
        /// When the client has taken all, as its window had room. A refusal comes as a failure in the outbox.
        case buffered
    }

    /// Hands in many requests; their outcomes come in the `outbox()`.
    ///
    /// Waits while the window is full, which is the back-pressure of outcomes that nobody takes. Cancelling the task
    /// cancels what is not known to be accepted.
    /// - Throws: `FlockError` if they were not accepted, `cancelled` if the caller left; some of them may have been,
    ///   where they span sessions.
    public func post(_ items: [Input], deadline: Duration? = nil, until: Post = .accepted) async throws -> Tickets {
        try await core.post(try input.encode(Batch(items)), deadline: deadline, waits: until == .accepted)
    }

    /// What was posted and is done. One reader at a time.
    public func outbox() -> Outbox<Output> {
        Outbox(core: core, codec: output)
    }

    /// Asks that a posted request be cancelled. Its outcome is `cancelled`, unless it was done before.
    public func cancel(_ ticket: Ticket) async throws {
        try core.cancel(ticket)
    }

    /// What to keep so that a restarted caller can resume this outbox (`Client.outbox(of:resuming:)`).
    public var tokens: [SessionToken] { core.tokens }

    /// Takes no more requests, ends the outbox, and gives the sessions back with what nobody took.
    ///
    /// To resume the outbox later, keep the `tokens` and let the handle go instead.
    public func close() async {
        await core.close()
    }
}

extension Inbox where Input == Row {
    /// Hands in many rows, in place.
    public func post(_ rows: Rows<Float>, deadline: Duration? = nil, until: Post = .accepted) async throws -> Tickets {
        let items = ItemBuffer(rows)
        try input.check(items)
        return try await core.post(items, deadline: deadline, waits: until == .accepted)
    }

    /// Hands in one row and waits for its result.
    public func ask(_ row: [Float], deadline: Duration? = nil) async throws -> Output {
        try await ask(encoded: try input.encode(row), deadline: deadline)
    }
}

extension TraceContext {
    /// The context of the calling task, if it is traced.
    static var current: TraceContext? {
        guard let context = ServiceContext.current else { return nil }
        var carrier: [String: String] = [:]
        InstrumentationSystem.instrument.inject(context, into: &carrier, using: DictionaryInjector())
        return carrier["traceparent"].flatMap { TraceContext(traceparent: $0) }
    }

    private struct DictionaryInjector: Injector {
        func inject(_ value: String, forKey key: String, into carrier: inout [String: String]) {
            carrier[key.lowercased()] = value
        }
    }
}
