// Flockwork · Apache-2.0 · see LICENSE

// The derived state of a session: a ring of the runs from the lowest one that is not acknowledged to the newest. There
// is no state per item; a run enters at the end, is found by binary search, and leaves at the front.

internal import DequeModule
internal import FlockWire

/// What a session holds.
struct Session: Sendable {
    let id: SessionID
    let pipeline: UInt32
    let secret: SessionSecret
    /// Sequences that may be held at once.
    let window: Int
    /// Result bytes that an open item reserves.
    let reserve: Int

    private(set) var entries: Deque<SessionEntry> = []
    /// The lowest sequence that is held; everything below was acknowledged.
    private(set) var base: UInt64 = 0
    /// The sequence that is accepted next.
    private(set) var next: UInt64 = 0
    /// The sequence that is proposed next: `next`, or more while entries wait for the in-sync set. Primary only.
    var proposedNext: UInt64 = 0
    /// Items proposed and not yet accepted. Primary only.
    var proposedItems = 0
    /// What its client has taken and the log does not say yet. Primary only.
    var taken: TakenRuns?
    /// It was proposed to close it. Primary only.
    var isClosing = false
    private(set) var openItems = 0
    /// Payload bytes that open runs pin.
    private(set) var payloadBytes = 0
    /// Bytes of outcomes that wait for their acknowledgement.
    private(set) var unreadBytes = 0
    /// Not later than the first deadline of an open run.
    private var earliestDeadline = Tick.never
    /// Not later than the first end of an outcome's time to live.
    private var earliestExpiry = Tick.never
    /// Not earlier than the last end of an outcome's time to live.
    private var latestExpiry = Tick.zero

    var subscriber: UInt64?
    var lastCall: Tick

    init(id: SessionID, pipeline: UInt32, secret: SessionSecret, window: Int, reserve: Int, now: Tick) {
        self.id = id
        self.pipeline = pipeline
        self.secret = secret
        self.window = window
        self.reserve = reserve
        lastCall = now
    }

    /// A session as another replica had it, from the first of its parts.
    init(_ snapshot: SessionSnapshot, reserve: Int, now: Tick) {
        self.init(
            id: snapshot.id, pipeline: snapshot.pipeline, secret: snapshot.secret, window: snapshot.window,
            reserve: reserve, now: now)
        base = snapshot.base
        next = snapshot.next
        proposedNext = next
    }

    /// Adds the runs of a snapshot, in order, with what they count.
    mutating func restore(_ runs: [SessionEntry], budget: inout ByteBudget) {
        for entry in runs {
            let items = entry.openCount
            let bytes = entry.items?.chargedBytes ?? 0
            var unread = 0
            entry.forEachHeld { _, held in
                unread += held.bytes
                note(held.expires)
            }
            openItems += items
            payloadBytes += bytes
            unreadBytes += unread
            if items > 0 { earliestDeadline = min(earliestDeadline, entry.deadline) }
            budget.takeOpen(bytes + items * reserve)
            budget.takeUnread(unread)
            entries.append(entry)
        }
    }

    /// A new primary takes it over: nothing is proposed, all timers are looked at again, nobody called yet.
    mutating func takeOver(now: Tick) {
        proposedNext = next
        proposedItems = 0
        taken = nil
        isClosing = false
        lastCall = now
        earliestDeadline = .never
        earliestExpiry = .never
        for entry in entries {
            if entry.items != nil { earliestDeadline = min(earliestDeadline, entry.deadline) }
            entry.forEachHeld { _, held in note(held.expires) }
        }
    }

    /// Result bytes that open items reserve.
    var reservedBytes: Int { openItems * reserve }
    /// Result bytes that open items and proposed ones reserve.
    var promisedBytes: Int { (openItems + proposedItems) * reserve }
    /// All sequences that are held.
    var held: SequenceRun { SequenceRun(first: base, count: Int(next - base)) }

    // Where a method is `mutating` and changes nothing, that is so that it works in place: reading through a subscript
    // would copy the whole value first, with a retain for each reference in it.

    /// When this session needs a tick, given how long an idle one is kept.
    mutating func wake(idleTime: UInt64) -> Tick {
        min(
            openItems > 0 ? earliestDeadline : .never, unreadBytes > 0 || !entries.isEmpty ? earliestExpiry : .never,
            idleEnd(idleTime))
    }

    /// When it may be closed as idle: nobody listens or called, nothing is open, no outcome can be fetched any more.
    func idleEnd(_ idleTime: UInt64) -> Tick {
        guard subscriber == nil && openItems + proposedItems == 0 && !isClosing else { return .never }
        return entries.isEmpty ? lastCall + idleTime : max(lastCall + idleTime, latestExpiry)
    }

    /// The entry that holds `sequence`, which is held.
    private func index(of sequence: UInt64) -> Int {
        precondition(sequence >= base && sequence < next, "\(sequence) of \(self.held) in \(id)")
        var low = 0
        var high = entries.count - 1
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].sequences.end <= sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The part of `run` that is held; nil if none is.
    func clip(_ run: SequenceRun) -> SequenceRun? {
        let start = max(run.first, base)
        let stop = min(run.end, next)
        return start < stop ? SequenceRun(first: start, count: Int(stop - start)) : nil
    }

    /// Appends the open parts of `run`.
    mutating func appendOpen(in run: SequenceRun, to runs: inout [SequenceRun]) {
        guard let part = clip(run) else { return }
        var index = index(of: part.first)
        while index < entries.count && entries[index].sequences.first < part.end {
            entries[index].appendOpenInPlace(in: part, to: &runs)
            index += 1
        }
    }

    /// The part of `run` that is proposed and not accepted yet; nil if none is.
    func proposed(in run: SequenceRun) -> SequenceRun? {
        let start = max(run.first, next)
        let stop = min(run.end, proposedNext)
        return start < stop ? SequenceRun(first: start, count: Int(stop - start)) : nil
    }

    /// Appends the part of `run` that is proposed and not accepted yet.
    mutating func appendProposed(in run: SequenceRun, to runs: inout [SequenceRun]) {
        guard run.end > next, let part = proposed(in: run) else { return }
        runs.appendMerged(part)
    }

    mutating func accept(
        _ run: AcceptRun, deadline: Tick, timeToLive: UInt64, bytes: Int, budget: inout ByteBudget
    ) {
        precondition(run.sequences.first == next, "\(run.sequences) accepted after \(next) in \(id)")
        entries.append(
            SessionEntry(
                sequences: run.sequences, deadline: deadline, trace: run.trace, timeToLive: timeToLive,
                body: .open(run.items)))
        next = run.sequences.end
        proposedNext = max(proposedNext, next)
        openItems += run.sequences.count
        payloadBytes += bytes
        earliestDeadline = min(earliestDeadline, deadline)
        budget.takeOpen(bytes + run.sequences.count * reserve)
        precondition(Int(next - base) <= window, "window of \(id): \(held) of \(window)")
    }

    /// The next `run` is done before it was accepted: cancelled. It reserves and counts nothing.
    mutating func skip(_ run: SequenceRun, outcome: RunOutcome, time: Tick, timeToLive: UInt64) {
        precondition(run.first == next, "\(run) skipped after \(next) in \(id)")
        let held = Held(outcome: outcome, bytes: 0, expires: time + timeToLive)
        entries.append(
            SessionEntry(
                sequences: run, deadline: .never, trace: nil, timeToLive: timeToLive, body: .done(held)))
        next = run.end
        proposedNext = max(proposedNext, next)
        note(held.expires)
    }

    /// `run`, all of which is open, has its outcome.
    mutating func complete(_ run: SequenceRun, outcome: RunOutcome, time: Tick, budget: inout ByteBudget) {
        var index = index(of: run.first)
        var at = run.first
        while at < run.end {
            let settled = entries[index].settle(run, outcome: outcome, time: time, reserve: reserve)
            note(settled.expires)
            payloadBytes -= settled.released
            budget.giveOpen(settled.released + settled.count * reserve)
            budget.takeUnread(settled.bytes)
            openItems -= settled.count
            unreadBytes += settled.bytes
            at += UInt64(settled.count)
            index += 1
        }
        precondition(openItems >= 0 && payloadBytes >= 0, "\(id): \(openItems) open items, \(payloadBytes) bytes")
    }

    private mutating func note(_ expires: Tick) {
        earliestExpiry = min(earliestExpiry, expires)
        latestExpiry = max(latestExpiry, expires)
    }

    /// The client has the outcomes of `run`.
    mutating func acknowledge(_ run: SequenceRun, budget: inout ByteBudget) {
        guard let part = clip(run) else { return }
        var index = index(of: part.first)
        var bytes = 0
        while index < entries.count && entries[index].sequences.first < part.end {
            bytes += entries[index].free(in: part)
            index += 1
        }
        unreadBytes -= bytes
        budget.giveUnread(bytes)
        while !entries.isEmpty {
            base = entries[0].firstKept
            guard base == entries[0].sequences.end else { break }
            entries.removeFirst()
        }
    }

    /// The outcomes of `run` are no longer kept.
    mutating func expire(_ run: SequenceRun, budget: inout ByteBudget) {
        guard let part = clip(run) else { return }
        var index = index(of: part.first)
        var bytes = 0
        while index < entries.count && entries[index].sequences.first < part.end {
            bytes += entries[index].expire(in: part)
            index += 1
        }
        unreadBytes -= bytes
        budget.giveUnread(bytes)
    }

    /// So many processes died while they had `run`.
    mutating func died(_ run: SequenceRun, _ count: Int) {
        guard let part = clip(run) else { return }
        var index = index(of: part.first)
        while index < entries.count && entries[index].sequences.first < part.end {
            entries[index].died(part, count)
            index += 1
        }
    }

    /// So many executions of `run` began and gave no outcome.
    mutating func failed(_ run: SequenceRun, _ count: Int) {
        guard let part = clip(run) else { return }
        var index = index(of: part.first)
        while index < entries.count && entries[index].sequences.first < part.end {
            entries[index].failed(part, count)
            index += 1
        }
    }

    /// Appends the open runs whose deadline has come, and learns the next one.
    mutating func takeDue(now: Tick, into runs: inout [SequenceRun]) {
        guard earliestDeadline <= now else { return }
        earliestDeadline = .never
        for entry in entries where entry.items != nil {
            if entry.deadline <= now {
                entry.appendOpen(in: entry.sequences, to: &runs)
            } else {
                earliestDeadline = min(earliestDeadline, entry.deadline)
            }
        }
    }

    /// Appends the outcomes whose time to live has ended, and learns the next one.
    mutating func takeExpired(now: Tick, into runs: inout [SequenceRun]) {
        guard earliestExpiry <= now else { return }
        var earliest = Tick.never
        for entry in entries {
            entry.forEachHeld { sequences, held in
                if held.expires <= now { runs.appendMerged(sequences) } else { earliest = min(earliest, held.expires) }
            }
        }
        earliestExpiry = earliest
    }

    /// Calls `visit` with every outcome that waits for its acknowledgement, in order.
    func forEachHeld(_ visit: (SequenceRun, Held) -> Void) {
        for entry in entries { entry.forEachHeld(visit) }
    }

    /// Everything is given back; the session must not be used after it.
    mutating func release(budget: inout ByteBudget) {
        budget.giveOpen(payloadBytes + reservedBytes)
        budget.giveUnread(unreadBytes)
        entries.removeAll()
        (openItems, payloadBytes, unreadBytes, base) = (0, 0, 0, next)
    }
}

extension Tick {
    /// Nanoseconds later; saturates at `never`.
    static func + (tick: Tick, nanoseconds: UInt64) -> Tick {
        let (sum, overflow) = tick.nanoseconds.addingReportingOverflow(nanoseconds)
        return Tick(nanoseconds: overflow ? .max : sum)
    }
}

extension ItemBuffer {
    /// What an open run of these items counts: more than nothing even when the items are empty.
    var chargedBytes: Int { encodedSize }
}
