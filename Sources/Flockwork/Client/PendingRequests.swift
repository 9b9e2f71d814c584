// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockTransport
internal import FlockWire

// What callers have handed over and the loop has not taken yet. Asks that come between two turns of the loop lie
// adjacent in one run, so a thousand callers cost one frame. Guarded by the session's lock; nothing in here waits.

/// The answer to one `ask`, decoded by the caller and not by the loop. Kept small, since it is copied several times.
enum Answer: Sendable {
    /// A value of at most eight bytes, itself: an object that it lay in would be counted by every caller.
    case small(SmallItem)
    case value(AnsweredRun, index: Int)
    case filtered
    indirect case failed(FlockError)
    /// Nothing was sent: the window is full.
    case noRoom
}

/// Results that came together, shared by the callers that wait for one of them each.
final class AnsweredRun: Sendable {
    let items: ItemBuffer
    init(_ items: ItemBuffer) { self.items = items }
}

/// A run of requests that the loop takes and sends.
struct OutgoingRun: Sendable {
    enum Kind: Sendable {
        /// Each sequence has a slot with the caller that waits for it.
        case asks
        /// Outcomes go to the outbox.
        case posts
    }
    /// A caller that waits until its requests are accepted.
    struct Acceptance: Sendable {
        var requests: SequenceRun
        var caller: UnsafeContinuation<FlockError?, Never>
    }
    var kind: Kind
    var first: UInt64
    var items: ItemBuffer
    var deadline: Duration?
    var trace: TraceContext?
    var acceptances: [Acceptance] = []
}

struct PendingRequests: ~Copyable {
    /// What the open run's requests have in common.
    private struct Terms: Equatable {
        var kind: OutgoingRun.Kind
        var deadline: Duration?
        var trace: TraceContext?
        var isPlain: Bool { deadline == nil && trace == nil }
    }

    /// A caller that waits for room.
    struct Waiter {
        var number: UInt64
        var caller: UnsafeContinuation<Void, Never>
    }

    /// The next sequence to give out.
    private(set) var next: UInt64 = 0
    /// Every sequence below was taken by its caller, and the inbox knows or will know before it hears of new ones.
    var base: UInt64 = 0
    let window: UInt64
    private var runs: [OutgoingRun] = []
    private var builder: ItemBuilder
    private var builderFirst: UInt64 = 0
    private var terms = Terms(kind: .asks)
    private var acceptances: [OutgoingRun.Acceptance] = []
    /// Callers that wait for room, first come first served.
    var waiting = Deque<Waiter>()
    /// The loop knows that there is something to take.
    var isArmed = false
    /// The loop will look soon by itself: what comes until then may share a frame.
    var isGathering = false
    /// Every sequence below was taken by the loop.
    private var handedOver: UInt64 = 0
    /// Set once the session cannot be used any more.
    var ended: FlockError?

    /// A post of more bytes is sent from its own storage; smaller ones are copied together into one run.
    private static let mergedBytes = 32 << 10

    init(window: Int, layout: ItemBuffer.Layout) {
        self.window = UInt64(window)
        builder = ItemBuilder(layout: layout)
    }

    /// Requests whose outcome was not taken.
    var open: UInt64 { next - base }

    var room: Int { Int(window - min(window, next - base)) }

    /// Whether the loop is to be told now: a good part of what is open has gathered, or it will not look by itself.
    mutating func arm() -> Bool {
        guard !isArmed, !isGathering || (next - handedOver) * Self.frames >= open else { return false }
        isArmed = true
        return true
    }

    /// Frames that what is open is sent in while callers ask again as they are answered.
    static let frames: UInt64 = 8

    /// Appends one ask. The caller has checked that there is room.
    mutating func ask(_ item: EncodedItem, deadline: Duration?, trace: TraceContext?) throws -> UInt64 {
        // The common case, without a look at everything that the terms could be.
        if builder.count == 0 || terms.kind != .asks || !(terms.isPlain && deadline == nil && trace == nil) {
            begin(Terms(kind: .asks, deadline: deadline, trace: trace))
        }
        if case .row(let values) = item {
            try values.withUnsafeBytes { try builder.append($0) }
        } else {
            try builder.append { item.write(to: &$0) }
        }
        defer { next += 1 }
        return next
    }

    /// Appends a run of posts. The caller has checked that there is room.
    mutating func post(
        _ items: ItemBuffer, deadline: Duration?, trace: TraceContext?,
        accepted: UnsafeContinuation<FlockError?, Never>?
    ) -> SequenceRun {
        let run = SequenceRun(first: next, count: items.count)
        next = run.end
        if items.byteCount <= Self.mergedBytes && items.layout == builder.layout {
            begin(Terms(kind: .posts, deadline: deadline, trace: trace), at: run.first)
            builder.append(items)
            accepted.map { acceptances.append(.init(requests: run, caller: $0)) }
        } else {
            seal()
            runs.append(
                OutgoingRun(
                    kind: .posts, first: run.first, items: items, deadline: deadline, trace: trace,
                    acceptances: accepted.map { [.init(requests: run, caller: $0)] } ?? []))
        }
        return run
    }

    private mutating func begin(_ wanted: Terms, at first: UInt64? = nil) {
        if builder.count > 0, wanted != terms { seal() }
        guard builder.count == 0 else { return }
        builderFirst = first ?? next
        terms = wanted
    }

    private mutating func seal() {
        guard builder.count > 0 else { return }
        runs.append(
            OutgoingRun(
                kind: terms.kind, first: builderFirst, items: builder.take(), deadline: terms.deadline,
                trace: terms.trace, acceptances: acceptances))
        acceptances = []
    }

    /// All that callers have handed over since the last call.
    mutating func take() -> [OutgoingRun] {
        seal()
        isArmed = false
        handedOver = next
        defer { runs = [] }
        return runs
    }

    /// Callers to wake, once enough of the window is free: waking at the first free place would send frames of one.
    mutating func wakeable() -> [UnsafeContinuation<Void, Never>] {
        guard !waiting.isEmpty else { return [] }
        let enough = min(Int(window) / 4, 4096)
        guard ended != nil || room >= enough else { return [] }
        let count = ended == nil ? min(waiting.count, room) : waiting.count
        let woken = waiting.prefix(count).map(\.caller)
        waiting.removeFirst(count)
        return woken
    }

    /// Takes out a caller that was cancelled.
    mutating func stopWaiting(_ number: UInt64) -> UnsafeContinuation<Void, Never>? {
        waiting.firstIndex { $0.number == number }.map { waiting.remove(at: $0).caller }
    }
}
