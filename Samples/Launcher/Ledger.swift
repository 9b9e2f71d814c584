// Flockwork · Apache-2.0 · see LICENSE

// What is known of one session's tickets. Outcomes may be here before the post that they belong to has returned: the
// part of a post that waits for another session keeps its tickets back.

import BreastCancer
import Flockwork

/// Which request a ticket of a session stands for: runs of sequences, in their order.
struct Ledger: Sendable {
    struct Posting: Sendable {
        let sequences: Range<UInt64>
        let firstRequest: Int
        let at: UInt64
    }

    /// Outcomes that follow each other, of which no ticket is known yet.
    struct Early: Sendable {
        let first: UInt64
        let outcomes: [Outcome<Verdict>]
        let at: UInt64
        var sequences: Range<UInt64> { first..<first + UInt64(outcomes.count) }
    }

    private var postings: [Posting] = []
    private var early: [Early] = []

    /// Outcomes of tickets that nobody has shown.
    var strays: Int { early.reduce(0) { $0 + $1.outcomes.count } }

    /// Records a run of accepted tickets. False if one of them was recorded before.
    mutating func posted(_ sequences: Range<UInt64>, firstRequest: Int, at time: UInt64) -> Bool {
        let index = index(of: sequences.lowerBound)
        guard index == postings.count || postings[index].sequences.lowerBound >= sequences.upperBound else {
            return false
        }
        postings.insert(Posting(sequences: sequences, firstRequest: firstRequest, at: time), at: index)
        return true
    }

    /// Keeps outcomes until their tickets are known.
    mutating func keep(_ outcomes: Early) { early.append(outcomes) }

    /// What was kept of these sequences, and perhaps of others beside them. Only this session's are looked at: while a
    /// node is dead those of the others are many.
    mutating func takeEarly(of sequences: Range<UInt64>) -> [Early] {
        guard early.contains(where: { $0.sequences.overlaps(sequences) }) else { return [] }
        let taken = early.filter { $0.sequences.overlaps(sequences) }
        early.removeAll { $0.sequences.overlaps(sequences) }
        return taken
    }

    /// These sequences in order, cut where one posting ends and another begins.
    func parts(of sequences: Range<UInt64>) -> [(sequences: Range<UInt64>, posting: Posting?)] {
        var parts: [(Range<UInt64>, Posting?)] = []
        var next = sequences.lowerBound
        var index = index(of: next)
        while next < sequences.upperBound {
            let posting = index < postings.count ? postings[index] : nil
            let isKnown = posting.map { $0.sequences.contains(next) } ?? false
            let end = isKnown ? posting?.sequences.upperBound : posting?.sequences.lowerBound
            let part = next..<min(sequences.upperBound, end ?? .max)
            parts.append((part, isKnown ? posting : nil))
            if isKnown { index += 1 }
            next = part.upperBound
        }
        return parts
    }

    /// The first posting that ends after a sequence.
    private func index(of sequence: UInt64) -> Int {
        var low = 0
        var high = postings.count
        while low < high {
            let middle = (low + high) / 2
            if postings[middle].sequences.upperBound <= sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
