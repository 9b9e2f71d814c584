// Flockwork · Apache-2.0 · see LICENSE

// The demo's judge. It trusts no counter of the system under test: each request has a bit that says that it was
// accepted and a bit that says that it was answered, and each value is compared with the reference's for its own row.

import BreastCancer
import Flockwork

/// A set of numbers below a bound, one bit each.
struct BitSet: Sendable {
    /// As many as were needed so far.
    private var words: [UInt64] = []
    let bound: Int

    init(bound: Int) {
        self.bound = bound
    }

    func contains(_ number: Int) -> Bool { word(number >> 6) >> UInt64(number & 63) & 1 == 1 }

    private func word(_ index: Int) -> UInt64 { index < words.count ? words[index] : 0 }

    /// True if the number was not there.
    mutating func insert(_ number: Int) -> Bool {
        precondition(number >= 0 && number < bound, "bit \(number) of \(bound)")
        if number >> 6 >= words.count {
            words += repeatElement(0, count: number >> 6 + 1 - words.count)
        }
        let bit = UInt64(1) << UInt64(number & 63)
        let fresh = words[number >> 6] & bit == 0
        words[number >> 6] |= bit
        return fresh
    }

    var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    /// How many are here and not there.
    func count(without other: BitSet) -> Int {
        precondition(bound == other.bound, "sets of \(bound) and \(other.bound)")
        return words.indices.reduce(0) { $0 + (words[$1] & ~other.word($1)).nonzeroBitCount }
    }

    /// How many below a bound are here and not there.
    func count(without other: BitSet, below end: Int) -> Int {
        words.indices.prefix((end + 63) >> 6).reduce(0) { count, index in
            let isLast = index == end >> 6
            let mask = isLast ? UInt64(1) << UInt64(end & 63) - 1 : .max
            return count + (words[index] & ~other.word(index) & mask).nonzeroBitCount
        }
    }

    /// The lowest numbers that are here and not there.
    func first(_ limit: Int, without other: BitSet) -> [Int] {
        Array((0..<min(bound, words.count * 64)).lazy.filter { contains($0) && !other.contains($0) }.prefix(limit))
    }
}

/// Follows every request from its acceptance to its one outcome. Request `i` carries row `i` modulo the data set.
struct Checker: Sendable {
    /// One of these for each request.
    enum Answer: Sendable {
        case value(Verdict)
        case filtered
        case failure(FlockError)
    }

    let reference: Reference
    let diagnoses: [Diagnosis]
    private(set) var total: Int
    private var accepted: BitSet
    private var answered: BitSet
    private(set) var values = 0
    private(set) var filtered = 0
    private(set) var failures: [String: Int] = [:]
    /// Outcomes of requests that had one already.
    private(set) var doubled = 0
    /// Values that are not the reference's.
    private(set) var wrong = 0
    /// Values whose label is what the biopsy found.
    private(set) var right = 0
    /// Outcomes for tickets that nobody holds.
    var strays = 0
    /// Requests accepted under a number that was accepted before: a fault of the demo itself.
    private(set) var reused = 0
    /// The first few wrong values and failures, for the summary.
    private(set) var examples: [String] = []

    init(total: Int, reference: Reference, diagnoses: [Diagnosis]) {
        precondition(reference.labels.count == diagnoses.count && !diagnoses.isEmpty, "reference and data differ")
        self.total = total
        self.reference = reference
        self.diagnoses = diagnoses
        accepted = BitSet(bound: total)
        answered = BitSet(bound: total)
    }

    /// No request from this number on was posted, and none will be.
    mutating func end(at total: Int) {
        precondition(total <= self.total, "an end at \(total) of \(self.total)")
        self.total = total
    }

    mutating func accepted(_ requests: Range<Int>) {
        for request in requests where !accepted.insert(request) { reused += 1 }
    }

    mutating func answered(_ request: Int, _ answer: Answer) {
        guard answered.insert(request) else {
            doubled += 1
            return
        }
        let row = request % diagnoses.count
        switch answer {
        case .value(let verdict):
            values += 1
            if verdict.label == diagnoses[row] { right += 1 }
            if !reference.agrees(with: verdict, row: row) {
                wrong += 1
                note(
                    "request \(request), row \(row): \(verdict.label.rawValue) \(verdict.probability); "
                        + "scikit-learn says \(reference.labels[row].rawValue) \(reference.probabilities[row])")
            }
        case .filtered: filtered += 1
        case .failure(let error):
            failures[error.code.description, default: 0] += 1
            // One example of each kind says enough.
            if failures[error.code.description] == 1 { note("request \(request), row \(row): \(error)") }
        }
    }

    private mutating func note(_ example: String) {
        if examples.count < 5 { examples.append(example) }
    }

    var failureCount: Int { failures.values.reduce(0, +) }
    var acceptedCount: Int { accepted.count }
    var answeredCount: Int { answered.count }
    /// Accepted, and no outcome came.
    var lost: Int { accepted.count(without: answered) }
    /// Those of them below a number.
    func lost(below bound: Int) -> Int { accepted.count(without: answered, below: bound) }
    var lostExamples: [Int] { accepted.first(5, without: answered) }

    /// All were accepted, each has exactly one outcome, and each outcome is the right value.
    var isPerfect: Bool {
        acceptedCount == total && lost == 0 && doubled == 0 && wrong == 0 && strays == 0 && reused == 0
            && values == total
    }
}
