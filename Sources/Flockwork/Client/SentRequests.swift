// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockTransport
internal import FlockWire

// What was sent and has no outcome yet, in order of sequence. It keeps payloads until the outcome, so that everything
// can be sent again over a new connection; the inbox knows ids it has seen.

struct SentRequests {
    struct Run {
        var outgoing: OutgoingRun
        /// Items without an outcome.
        var open: Int
        /// When the caller gives up, with some time for the answer to arrive.
        var expires: Tick
        var sequences: SequenceRun { SequenceRun(first: outgoing.first, count: outgoing.items.count) }
    }

    /// Who is to have an outcome.
    enum Addressee {
        /// Callers that wait, each in a slot of its own.
        case callers
        case outbox
        /// The caller of the post has left.
        case nobody
    }

    private(set) var runs = Deque<Run>()
    /// Sequences that have been answered to their callers or handed to the outbox.
    private(set) var delivered = SequenceSet()
    /// Posts whose callers left before they were accepted.
    private var abandoned: [SequenceRun] = []

    init(base: UInt64 = 0) {
        delivered = SequenceSet(base: base)
    }

    mutating func append(_ run: OutgoingRun, expires: Tick) {
        runs.append(Run(outgoing: run, open: run.items.count, expires: expires))
    }

    /// The parts of an outcome that were not delivered before, and whose they are.
    mutating func deliver(_ outcome: OutcomeRun) -> [(OutcomeRun, Addressee)] {
        var parts: [(OutcomeRun, Addressee)] = []
        for fresh in delivered.insert(outcome.sequences) {
            var index = self.index(of: fresh.first)
            while index < runs.count, runs[index].sequences.first < fresh.end {
                let run = runs[index].sequences
                let first = max(run.first, fresh.first)
                let count = Int(min(run.end, fresh.end) - first)
                let offset = Int(first - outcome.sequences.first)
                let part = OutcomeRun(
                    sequences: SequenceRun(first: first, count: count),
                    outcome: outcome.outcome.slice(from: offset, count: count))
                switch runs[index].outgoing.kind {
                case .asks: parts.append((part, .callers))
                case .posts: parts += posted(part)
                }
                runs[index].open -= count
                index += 1
            }
        }
        return parts
    }

    /// An outcome of posts, and apart from it what is of those that were abandoned.
    private func posted(_ part: OutcomeRun) -> [(OutcomeRun, Addressee)] {
        let run = part.sequences
        guard let gone = abandoned.first(where: { $0.first < run.end && run.first < $0.end }) else {
            return [(part, .outbox)]
        }
        func slice(_ first: UInt64, _ end: UInt64) -> OutcomeRun {
            let sequences = SequenceRun(first: first, count: Int(end - first))
            let offset = Int(first - run.first)
            return OutcomeRun(
                sequences: sequences, outcome: part.outcome.slice(from: offset, count: sequences.count))
        }
        let (low, high) = (max(run.first, gone.first), min(run.end, gone.end))
        var parts = run.first < low ? posted(slice(run.first, low)) : []
        parts.append((slice(low, high), .nobody))
        return high < run.end ? parts + posted(slice(high, run.end)) : parts
    }

    /// The caller of a post leaves: nobody will know its tickets. Nil if it was accepted before.
    mutating func abandon(_ post: SequenceRun) -> UnsafeContinuation<FlockError?, Never>? {
        for index in runs.indices {
            let acceptances = runs[index].outgoing.acceptances
            guard let place = acceptances.firstIndex(where: { $0.requests == post }) else { continue }
            runs[index].outgoing.acceptances.remove(at: place)
            abandoned.append(post)
            return acceptances[place].caller
        }
        return nil
    }

    /// Callers whose runs are known to be accepted: those below `through`, and those that are all answered.
    mutating func takeAccepted(through: UInt64) -> [UnsafeContinuation<FlockError?, Never>] {
        var accepted: [UnsafeContinuation<FlockError?, Never>] = []
        let known = max(through, delivered.base)
        for index in runs.indices {
            if runs[index].sequences.first >= known { break }
            guard !runs[index].outgoing.acceptances.isEmpty else { continue }
            for acceptance in runs[index].outgoing.acceptances where acceptance.requests.end <= known {
                accepted.append(acceptance.caller)
            }
            runs[index].outgoing.acceptances.removeAll { $0.requests.end <= known }
        }
        return accepted
    }

    /// Forgets runs at the front that are all answered.
    mutating func trim() {
        while let first = runs.first, first.open == 0 { runs.removeFirst() }
        if !abandoned.isEmpty { abandoned.removeAll { $0.end <= delivered.base } }
    }

    /// What must be sent again from `sequence` on, without what was answered.
    func unanswered(from sequence: UInt64) -> [OutgoingRun] {
        runs[index(of: sequence)...].flatMap { run in
            let first = max(run.sequences.first, sequence)
            let rest = SequenceRun(first: first, count: Int(run.sequences.end - first))
            return delivered.missing(in: rest).map { part in
                var again = run.outgoing
                again.first = part.first
                again.items = run.outgoing.items.slice(from: Int(part.first - run.outgoing.first), count: part.count)
                return again
            }
        }
    }

    /// Sequences from `first` on that have no outcome.
    func open(from first: UInt64) -> [SequenceRun] {
        runs.flatMap { run -> [SequenceRun] in
            guard run.sequences.end > first else { return [] }
            let start = max(first, run.sequences.first)
            return delivered.missing(in: SequenceRun(first: start, count: Int(run.sequences.end - start)))
        }
    }

    /// Open sequences whose callers have given up.
    func expired(at now: Tick) -> [SequenceRun] {
        runs.flatMap { $0.expires <= now ? delivered.missing(in: $0.sequences) : [] }
    }

    var nextExpiry: Tick { runs.reduce(.never) { min($0, $1.open > 0 ? $1.expires : .never) } }

    /// Callers that still wait for the acceptance of a part of `range`.
    mutating func takeAcceptances(in range: SequenceRun) -> [OutgoingRun.Acceptance] {
        var waiting: [OutgoingRun.Acceptance] = []
        var index = index(of: range.first)
        while index < runs.count, runs[index].sequences.first < range.end {
            waiting += runs[index].outgoing.acceptances.filter { $0.requests.end > range.first }
            runs[index].outgoing.acceptances.removeAll { $0.requests.end > range.first }
            index += 1
        }
        return waiting
    }

    /// Whether a caller waits for the acceptance of requests on both sides of `sequence`: a post that went out in
    /// several parts.
    func isWithinPost(_ sequence: UInt64) -> Bool {
        let index = index(of: sequence)
        guard index < runs.count else { return false }
        return runs[index].outgoing.acceptances.contains {
            $0.requests.first < sequence && sequence < $0.requests.end
        }
    }

    /// The first run that ends after `sequence`.
    private func index(of sequence: UInt64) -> Int {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].sequences.end <= sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
