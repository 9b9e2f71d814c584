// Flockwork · Apache-2.0 · see LICENSE

// An accepted run and what became of it. Nearly always a run is done as a whole by one completion, so that case needs
// no list; only a run that was completed, acknowledged or expired in parts keeps its pieces.

internal import FlockWire

/// How often something befell these requests.
struct Tally: Sendable, Hashable {
    var sequences: SequenceRun
    var count: Int

    init(_ sequences: SequenceRun, _ count: Int) {
        self.sequences = sequences
        self.count = count
    }
}

extension [Tally] {
    /// It befell these so often, or more often before. Borders that were there stay. Ascending and apart as before.
    mutating func raise(_ new: SequenceRun, to count: Int) {
        var parts: [Tally] = []
        var rest = [new]
        for part in self {
            guard let inside = part.sequences.inside(new) else {
                parts.append(part)
                continue
            }
            for outside in part.sequences.outside(new) { parts.append(Tally(outside, part.count)) }
            parts.append(Tally(inside, Swift.max(part.count, count)))
            rest = rest.flatMap { $0.outside(inside) }
        }
        parts += rest.map { Tally($0, count) }
        self = parts.sorted { $0.sequences.first < $1.sequences.first }
    }

    /// A run in the parts that differ, or have borders, ascending; with what befell each.
    func parts(of run: SequenceRun) -> [Tally] {
        guard !isEmpty else { return [Tally(run, 0)] }
        var parts: [Tally] = []
        var rest = [run]
        for part in self {
            guard let inside = part.sequences.inside(run) else { continue }
            parts.append(Tally(inside, part.count))
            rest = rest.flatMap { $0.outside(inside) }
        }
        parts += rest.map { Tally($0, 0) }
        return parts.sorted { $0.sequences.first < $1.sequences.first }
    }
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
        /// Sorted; what lies between them is open. All acknowledged, they have become a single one.
        var pieces: [Piece]
    }

    let sequences: SequenceRun
    /// `never` for none.
    let deadline: Tick
    let trace: TraceContext?
    /// How long its outcomes are kept, in nanoseconds.
    let timeToLive: UInt64
    /// Parts that were with processes that died, as far as the log knows: ascending, apart.
    private(set) var deaths: [Tally] = []
    /// Parts of which executions began and gave no outcome, while the process lived: ascending, apart.
    private(set) var failures: [Tally] = []
    var body: Body

    init(
        sequences: SequenceRun, deadline: Tick, trace: TraceContext?, timeToLive: UInt64, deaths: [Tally] = [],
        failures: [Tally] = [], body: Body
    ) {
        self.sequences = sequences
        self.deadline = deadline
        self.trace = trace
        self.timeToLive = timeToLive
        self.deaths = deaths
        self.failures = failures
        self.body = body
    }

    /// So many processes died with these. The borders say how far the run was parted.
    mutating func died(_ run: SequenceRun, _ count: Int) { deaths.raise(sequences.clipped(to: run), to: count) }

    /// So many executions of these began and gave no outcome.
    mutating func failed(_ run: SequenceRun, _ count: Int) { failures.raise(sequences.clipped(to: run), to: count) }

    /// An open run of this entry in the parts that died or failed apart, with what each has met.
    func parted(_ run: SequenceRun) -> [(sequences: SequenceRun, deaths: Int, failures: Int)] {
        deaths.parts(of: run).flatMap { part in
            failures.parts(of: part.sequences).map { ($0.sequences, part.count, $0.count) }
        }
    }

    /// The first sequence that is open or not acknowledged; the end if there is none.
    var firstKept: UInt64 {
        mutating get {
            switch body {
            case .open, .done: return sequences.first
            case .freed: return sequences.end
            case .split(let split):
                guard let piece = split.pieces.first, piece.held == nil, piece.sequences.first == sequences.first
                else { return sequences.first }
                return piece.sequences.end
            }
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

    /// Sequences without an outcome.
    var openCount: Int {
        switch body {
        case .open: sequences.count
        case .split(let split): split.open
        case .done, .freed: 0
        }
    }

    /// The same as `appendOpen`, without a copy of the entry: see `Session.wake`.
    mutating func appendOpenInPlace(in range: SequenceRun, to runs: inout [SequenceRun]) {
        appendOpen(in: range, to: &runs)
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
                    items: items, open: sequences.count - part.count,
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
        split.pieces.change(part) { piece in
            guard let held = piece.held else { return }
            bytes += held.bytes
            piece.held = nil
        }
        body = .split(split)
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
                items: nil, open: 0, pieces: [Piece(sequences: sequences, held: held)])
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

extension RunOutcome {
    var isCancelled: Bool {
        if case .failed(let error) = self { error.code == .cancelled } else { false }
    }
}
