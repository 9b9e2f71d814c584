// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
internal import Synchronization

// Outcomes of posts, a read's worth at a time. What the user has iterated past is told to the inbox, which then frees
// it; what was not is kept there, and comes again after a restart of the client.

/// Outcomes that have come and were not iterated yet.
final class OutboxQueue: Sendable {
    struct Entry: Sendable {
        let run: OutcomeRun
        let session: Session
    }
    private struct State {
        var entries: [Entry] = []
        var reader: UnsafeContinuation<Void, Never>?
        var isFinished = false
        /// Sessions that can still give outcomes, where new ones cannot be opened.
        var sources = 0
    }
    private let state = Mutex(State())

    func put(_ runs: [OutcomeRun], from session: Session) {
        let reader = state.withLock { state in
            for run in runs { state.entries.append(Entry(run: run, session: session)) }
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume()
    }

    /// One more resumed session gives its outcomes here.
    func expectSource() {
        state.withLock { $0.sources += 1 }
    }

    /// A resumed session is gone; with the last one, there is nothing more to come.
    func sourceEnded() {
        let isLast = state.withLock { state in
            state.sources -= 1
            return state.sources == 0
        }
        if isLast { finish() }
    }

    func finish() {
        let reader = state.withLock { state in
            state.isFinished = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume()
    }

    /// All that came since the last call; nil once finished, or when the task is cancelled.
    func take() async -> [Entry]? {
        while !Task.isCancelled {
            let (entries, isFinished) = state.withLock { state in
                defer { state.entries = [] }
                return (state.entries, state.isFinished)
            }
            if !entries.isEmpty { return entries }
            if isFinished { return nil }
            await withTaskCancellationHandler {
                await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                    let goOn = state.withLock { state in
                        precondition(state.reader == nil, "an outbox has one reader at a time")
                        if !state.entries.isEmpty || state.isFinished || Task.isCancelled { return true }
                        state.reader = continuation
                        return false
                    }
                    if goOn { continuation.resume() }
                }
            } onCancel: {
                state.withLock { state in
                    defer { state.reader = nil }
                    return state.reader
                }?.resume()
            }
        }
        return nil
    }
}

/// Outcomes of posted requests that came together.
public struct OutcomeBatch<Value: Codable & Sendable>: Sendable {
    /// Whose outcomes these are.
    public let requests: RequestRun
    let outcome: RunOutcome
    let codec: ItemCodec<Value>

    public var count: Int { requests.count }

    /// Ticket `index`.
    public func ticket(_ index: Int) -> Ticket {
        precondition(index >= 0 && index < count, "outcome \(index) of \(count)")
        return Ticket(
            id: RequestID(
                partition: requests.partition, session: requests.session,
                sequence: requests.sequences.first + UInt64(index)))
    }

    /// All values, if none was filtered or failed. Rows and numbers are not decoded one by one.
    public func values() throws -> Batch<Value>? {
        guard case .values(let items, nil) = outcome else { return nil }
        return try codec.decode(items)
    }

    /// All outcomes, in order of their tickets.
    public func outcomes() -> [Outcome<Value>] {
        switch outcome {
        case .filtered: return Array(repeating: .filtered, count: count)
        case .failed(let error): return Array(repeating: .failure(error), count: count)
        case .values(let items, let mask):
            return (0..<count).map { index in
                if mask?[index] == true { return .filtered }
                do {
                    return .value(try codec.decodeItem(items, index))
                } catch {
                    return .failure(FlockError.decoding(error))
                }
            }
        }
    }
}

extension FlockError {
    static func decoding(_ error: any Error) -> FlockError {
        (error as? FlockError)
            ?? FlockError(
                .invalidInput, "A result could not be decoded: \(error)", limit: Limit(of: error), cause: error)
    }
}

/// The outcomes of what was posted, as they come. One reader at a time.
///
/// An outcome counts as taken when the iteration moves past it; the inbox keeps it until then.
public struct Outbox<Value: Codable & Sendable>: AsyncSequence, Sendable {
    public typealias Element = (ticket: Ticket, outcome: Outcome<Value>)
    // It holds the sessions, which would end with the inbox handle otherwise.
    let core: InboxCore
    let codec: ItemCodec<Value>

    /// The same outcomes, a batch at a time: what to use at high rates.
    public var batches: Batches { Batches(core: core, codec: codec) }

    public func makeAsyncIterator() -> Iterator { Iterator(batches: batches.makeAsyncIterator()) }

    /// Outcomes one by one.
    public struct Iterator: AsyncIteratorProtocol {
        var batches: Batches.Iterator
        var batch: OutcomeBatch<Value>?
        var outcomes: [Outcome<Value>] = []
        var index = 0

        public mutating func next() async -> Element? {
            while index == outcomes.count {
                guard let next = await batches.next() else { return nil }
                batch = next
                outcomes = next.outcomes()
                index = 0
            }
            guard let batch else { return nil }
            defer { index += 1 }
            return (batch.ticket(index), outcomes[index])
        }
    }

    /// The outcomes of an outbox, a batch at a time.
    public struct Batches: AsyncSequence, Sendable {
        public typealias Element = OutcomeBatch<Value>
        let core: InboxCore
        let codec: ItemCodec<Value>

        public func makeAsyncIterator() -> Iterator { Iterator(core: core, codec: codec) }

        /// Outcomes a batch at a time.
        public struct Iterator: AsyncIteratorProtocol {
            let core: InboxCore
            let codec: ItemCodec<Value>
            var entries: [OutboxQueue.Entry] = []
            var index = 0

            public mutating func next() async -> OutcomeBatch<Value>? {
                if index > 0 { entries[index - 1].session.take(entries[index - 1].run.sequences) }
                if index == entries.count {
                    guard let next = await core.outbox.take() else {
                        index = 0
                        entries = []
                        return nil
                    }
                    entries = next
                    index = 0
                }
                defer { index += 1 }
                let entry = entries[index]
                return OutcomeBatch(
                    requests: RequestRun(
                        partition: entry.session.token.partition, session: entry.session.token.session,
                        sequences: entry.run.sequences),
                    outcome: entry.run.outcome, codec: codec)
            }
        }
    }
}
