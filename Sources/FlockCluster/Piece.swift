// Flockwork · Apache-2.0 · see LICENSE

// Parts of a run that have different outcomes. Rare, so a sorted array will do.

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
