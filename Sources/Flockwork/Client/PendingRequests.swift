// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockTransport
internal import FlockWire

// What callers have handed over and the loop has not taken yet. Asks that come between two turns of the loop lie
// adjacent in one run, so a thousand callers cost one frame. Guarded by the session's lock; nothing in here waits.

/// The answer to one `ask`, decoded by the caller and not by the loop.
enum Answer: Sendable {
    case value(ItemBuffer, index: Int)
    case filtered
    case failed(FlockError)
}

/// A run of requests that the loop takes and sends.
struct OutgoingRun: Sendable {
    enum Kind: Sendable {
        /// Each sequence has a slot with the caller that waits for it.
        case asks
        /// Outcomes go to the outbox.
        case posts
    }
    var kind: Kind
    var first: UInt64
    var items: ItemBuffer
    var deadline: Duration?
    var trace: TraceContext?
    /// Resumed when the inbox has accepted the run, or refused it.
    var accepted: UnsafeContinuation<FlockError?, Never>?
}

struct PendingRequests: ~Copyable {
    /// The next sequence to give out.
    private(set) var next: UInt64 = 0
    /// Every sequence below was taken by its caller, and the inbox knows or will know before it hears of new ones.
    var base: UInt64 = 0
    let window: UInt64
    private var runs: [OutgoingRun] = []
    private var builder: ItemBuilder
    private var builderFirst: UInt64 = 0
    private var builderDeadline: Duration?
    private var builderTrace: TraceContext?
    /// Callers that wait for room, first come first served.
    var waiting = Deque<UnsafeContinuation<Void, Never>>()
    /// The loop knows that there is something to take.
    var isArmed = false
    /// Set once the session cannot be used any more.
    var ended: FlockError?

    init(window: Int, layout: ItemBuffer.Layout) {
        self.window = UInt64(window)
        builder = ItemBuilder(layout: layout)
    }

    var room: Int { Int(window - min(window, next - base)) }

    /// Appends one ask. The caller has checked that there is room.
    mutating func ask(_ item: EncodedItem, deadline: Duration?, trace: TraceContext?) throws -> UInt64 {
        if builder.count > 0, builderDeadline != deadline || builderTrace != trace { sealBuilder() }
        if builder.count == 0 {
            builderFirst = next
            builderDeadline = deadline
            builderTrace = trace
        }
        try builder.append { item.write(to: &$0) }
        defer { next += 1 }
        return next
    }

    /// Appends a run of posts.
    mutating func post(
        _ items: ItemBuffer, deadline: Duration?, trace: TraceContext?,
        accepted: UnsafeContinuation<FlockError?, Never>?
    ) -> SequenceRun {
        sealBuilder()
        defer { next += UInt64(items.count) }
        runs.append(
            OutgoingRun(
                kind: .posts, first: next, items: items, deadline: deadline, trace: trace, accepted: accepted))
        return SequenceRun(first: next, count: items.count)
    }

    private mutating func sealBuilder() {
        guard builder.count > 0 else { return }
        runs.append(
            OutgoingRun(
                kind: .asks, first: builderFirst, items: builder.take(), deadline: builderDeadline,
                trace: builderTrace, accepted: nil))
    }

    /// All that callers have handed over since the last call.
    mutating func take() -> [OutgoingRun] {
        sealBuilder()
        isArmed = false
        defer { runs = [] }
        return runs
    }

    /// Callers to wake, once enough of the window is free: waking at the first free place would send frames of one.
    mutating func wakeable() -> [UnsafeContinuation<Void, Never>] {
        guard !waiting.isEmpty else { return [] }
        let enough = min(Int(window) / 4, 4096)
        guard ended != nil || room >= enough else { return [] }
        let count = ended == nil ? min(waiting.count, room) : waiting.count
        let woken = Array(waiting.prefix(count))
        waiting.removeFirst(count)
        return woken
    }
}
