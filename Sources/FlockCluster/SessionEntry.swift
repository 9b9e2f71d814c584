// Flockwork · Apache-2.0 · see LICENSE

// An accepted run and what became of it. Nearly always a run is done as a whole by one completion, so that case needs
// no list; only a run that was completed, acknowledged or expired in parts keeps its pieces.

internal import FlockWire

/// An outcome that waits for its acknowledgement.
struct Held: Sendable {
    var outcome: RunOutcome
    /// What it counts in the session's and the node's budget.
    var bytes: Int
    /// When it is dropped.
    var expires: Tick
}

/// A part of a run that is done: an outcome, or nothing any more.
struct Piece: Sendable {
    var sequences: SequenceRun
    /// Nil once it is acknowledged.
    var held: Held?
}

/// A run of a session: contiguous with the run before and the run after it.
struct SessionEntry: Sendable {
    enum Body: Sendable {
        /// Nothing of it is done.
        case open(ItemBuffer)
        /// It is done with one outcome, no part of which was acknowledged.
        case done(Held)
        /// It is acknowledged.
        case freed
        /// It is done, or acknowledged, in parts.
        case split(Split)
    }

    /// A run in parts.
    struct Split: Sendable {
        /// Kept while anything is open.
        var items: ItemBuffer?
        /// Sequences without an outcome.
        var open: Int
        /// Sequences whose outcome is not acknowledged, or not there yet.
        var kept: Int
        /// Sorted; what lies between them is open.
        var pieces: [Piece]
    }

    let sequences: SequenceRun
    /// `never` for none.
    let deadline: Tick
    let trace: TraceContext?
    /// How long its outcomes are kept, in nanoseconds.
    let timeToLive: UInt64
    /// Executions begun before now, as far as the log knows.
    var attempts = 0
    var body: Body

    /// The first sequence that is open or not acknowledged; the end if there is none.
    var firstKept: UInt64 {
        switch body {
        case .open, .done: return sequences.first
        case .freed: return sequences.end
        case .split(let split):
            guard let piece = split.pieces.first, piece.held == nil, piece.sequences.first == sequences.first else {
                return sequences.first
            }
            return piece.sequences.end
        }
    }

    /// The items, while anything is open.
    var items: ItemBuffer? {
        switch body {
        case .open(let items): items
        case .split(let split): split.items
        case .done, .freed: nil
        }
    }

    /// Appends the open parts of `range` (which overlaps this entry), merged with the last of `runs` if they touch.
    func appendOpen(in range: SequenceRun, to runs: inout [SequenceRun]) {
        let part = sequences.clipped(to: range)
        switch body {
        case .open: runs.appendMerged(part)
        case .done, .freed: return
        case .split(let split):
            let pieces = split.pieces
            var next = part.first
            for index in pieces.firstIndex(endingAfter: part.first)..<pieces.count {
                let piece = pieces[index].sequences
                guard piece.first < part.end else { break }
                if piece.first > next { runs.appendMerged(SequenceRun(first: next, count: Int(piece.first - next))) }
                next = max(next, piece.end)
            }
            if next < part.end { runs.appendMerged(SequenceRun(first: next, count: Int(part.end - next))) }
        }
    }

    /// What `settle` changed.
    struct Settled {
        let count: Int
        /// Bytes of the outcome.
        let bytes: Int
        /// Payload bytes that are no longer pinned.
        let released: Int
        let expires: Tick
    }

    /// Gives the part of `run` that lies in this entry (and is open) its part of the outcome. The hot path: one access
    /// to the ring for it all.
    mutating func settle(_ run: SequenceRun, outcome: RunOutcome, time: Tick, reserve: Int) -> Settled {
        let part = sequences.clipped(to: run)
        let slice = part == run ? outcome : outcome.slice(from: Int(part.first - run.first), count: part.count)
        let bytes = min(slice.byteCount, part.count * reserve)
        let expires = time + timeToLive
        let items = complete(part, held: Held(outcome: slice, bytes: bytes, expires: expires))
        return Settled(count: part.count, bytes: bytes, released: items?.chargedBytes ?? 0, expires: expires)
    }

    /// Gives the open sequences `part` their outcome. Returns the items if with that nothing is open any more.
    private mutating func complete(_ part: SequenceRun, held: Held) -> ItemBuffer? {
        switch body {
        case .open(let items):
            guard part.count < sequences.count else {
                body = .done(held)
                return items
            }
            body = .split(
                Split(
                    items: items, open: sequences.count - part.count, kept: sequences.count,
                    pieces: [Piece(sequences: part, held: held)]))
            return nil
        case .split(var split):
            body = .freed  // so that the array has one owner while it changes
            let at = split.pieces.firstIndex(endingAfter: part.first)
            precondition(
                split.open >= part.count
                    && (at == split.pieces.count || split.pieces[at].sequences.first >= part.end),
                "S2: second outcome for \(part) of \(sequences), \(split.open) open")
            split.pieces.insert(Piece(sequences: part, held: held), at: at)
            split.open -= part.count
            let items = split.open == 0 ? split.items : nil
            if split.open == 0 { split.items = nil }
            body = .split(split)
            return items
        case .done, .freed: preconditionFailure("S2: second outcome for \(part) of \(sequences), \(body)")
        }
    }

    /// Drops the outcomes in `range`. Returns the bytes that they counted.
    mutating func free(in range: SequenceRun) -> Int {
        let part = sequences.clipped(to: range)
        if case .done(let held) = body, part.count == sequences.count {
            body = .freed
            return held.bytes
        }
        guard var split = takeSplit() else { return 0 }
        var bytes = 0
        var freed = 0
        split.pieces.change(part) { piece in
            guard let held = piece.held else { return }
            bytes += held.bytes
            freed += piece.sequences.count
            piece.held = nil
        }
        split.kept -= freed
        body = split.kept == 0 ? .freed : .split(split)
        return bytes
    }

    /// Turns the outcomes in `range` into `expired`. Returns the bytes that they counted.
    mutating func expire(in range: SequenceRun) -> Int {
        let part = sequences.clipped(to: range)
        let expired = Held(outcome: .failed(.outcomeExpired), bytes: 0, expires: .never)
        if case .done(let held) = body, part.count == sequences.count {
            body = .done(expired)
            return held.bytes
        }
        guard var split = takeSplit() else { return 0 }
        var bytes = 0
        split.pieces.change(part) { piece in
            guard let held = piece.held else { return }
            bytes += held.bytes
            piece.held = expired
        }
        body = .split(split)
        return bytes
    }

    /// The parts, taken out so that they have one owner while they change; nil (and nothing taken) if nothing is done.
    private mutating func takeSplit() -> Split? {
        switch body {
        case .open, .freed: return nil
        case .done(let held):
            body = .freed
            return Split(
                items: nil, open: 0, kept: sequences.count, pieces: [Piece(sequences: sequences, held: held)])
        case .split(let split):
            body = .freed
            return split
        }
    }

    /// Calls `body` with every outcome that is held.
    func forEachHeld(_ visit: (SequenceRun, Held) -> Void) {
        switch body {
        case .open, .freed: return
        case .done(let held): visit(sequences, held)
        case .split(let split):
            for piece in split.pieces {
                if let held = piece.held { visit(piece.sequences, held) }
            }
        }
    }
}

extension [Piece] {
    /// The first piece that ends after `sequence`.
    func firstIndex(endingAfter sequence: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if self[middle].sequences.end <= sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Cuts the pieces at the borders of `range` and changes those inside of it. Touching pieces without an outcome
    /// become one, so that acknowledging item by item leaves no crumbs.
    mutating func change(_ range: SequenceRun, _ change: (inout Piece) -> Void) {
        let low = firstIndex(endingAfter: range.first)
        var high = low
        var changed: [Piece] = []
        while high < count && self[high].sequences.first < range.end {
            var rest = self[high]
            high += 1
            if rest.sequences.first < range.first {
                changed.appendMerged(rest.takeFirst(Int(range.first - rest.sequences.first)))
            }
            var inside = rest.takeFirst(Int(Swift.min(rest.sequences.end, range.end) - rest.sequences.first))
            change(&inside)
            changed.appendMerged(inside)
            if rest.sequences.count > 0 { changed.appendMerged(rest) }
        }
        guard let first = changed.first else { return }
        var start = low
        if start > 0 && self[start - 1].joins(first) {
            start -= 1
            changed[0].sequences = SequenceRun(
                first: self[start].sequences.first, count: self[start].sequences.count + first.sequences.count)
        }
        if high < count && changed[changed.count - 1].joins(self[high]) {
            changed[changed.count - 1].sequences.count += self[high].sequences.count
            high += 1
        }
        replaceSubrange(start..<high, with: changed)
    }

    private mutating func appendMerged(_ piece: Piece) {
        if let last, last.joins(piece) {
            self[count - 1].sequences.count += piece.sequences.count
        } else {
            append(piece)
        }
    }
}

extension Piece {
    /// Both are acknowledged and touch.
    func joins(_ next: Piece) -> Bool { held == nil && next.held == nil && sequences.end == next.sequences.first }

    /// Cuts the first `count` sequences off; the bytes of both parts add up to those of the whole.
    fileprivate mutating func takeFirst(_ count: Int) -> Piece {
        precondition(count > 0 && count <= sequences.count, "\(count) cut from \(sequences)")
        guard count < sequences.count else {
            let all = self
            sequences = SequenceRun(first: sequences.end, count: 0)
            held = nil
            return all
        }
        var head = Piece(sequences: SequenceRun(first: sequences.first, count: count), held: nil)
        let tail = SequenceRun(first: head.sequences.end, count: sequences.count - count)
        if let whole = held {
            let outcome = whole.outcome.slice(from: 0, count: count)
            let bytes = Swift.min(whole.bytes, outcome.byteCount)
            head.held = Held(outcome: outcome, bytes: bytes, expires: whole.expires)
            held = Held(
                outcome: whole.outcome.slice(from: count, count: tail.count), bytes: whole.bytes - bytes,
                expires: whole.expires)
        }
        sequences = tail
        return head
    }
}

extension SequenceRun {
    func overlaps(_ other: SequenceRun) -> Bool { first < other.end && other.first < end }

    /// The common part of two runs that overlap.
    func clipped(to other: SequenceRun) -> SequenceRun {
        let start = max(first, other.first)
        let stop = min(end, other.end)
        precondition(start < stop, "\(self) and \(other) have nothing in common")
        return SequenceRun(first: start, count: Int(stop - start))
    }
}

extension [SequenceRun] {
    mutating func appendMerged(_ run: SequenceRun) {
        if let last, last.end == run.first {
            self[count - 1].count += run.count
        } else {
            append(run)
        }
    }
}

extension FlockError {
    static let outcomeExpired = FlockError(.expired, "nobody fetched the outcome in its time to live")
    static let requestCancelled = FlockError(.cancelled, "the caller cancelled the request")
    static let pastDeadline = FlockError(.deadlineExceeded, "the deadline passed before there was an outcome")
}
