// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// Sequences that are done, of a window that moves up: a base below which all are, and ranges above it.
struct SequenceSet: Sendable {
    /// Every sequence below is in the set.
    private(set) var base: UInt64 = 0
    /// Disjoint, not adjacent, ascending, above `base`.
    private var ranges: [SequenceRun] = []

    init(base: UInt64 = 0) {
        self.base = base
    }

    /// Some ranges.
    init(of ranges: [SequenceRun]) {
        for range in ranges { _ = insert(range) }
    }

    /// Adds a range; returns the parts of it that were not in the set.
    mutating func insert(_ range: SequenceRun) -> [SequenceRun] {
        guard range.count > 0, range.end > base else { return [] }
        if ranges.isEmpty && range.first <= base {
            defer { base = range.end }
            return [SequenceRun(first: base, count: Int(range.end - base))]
        }
        let low = max(range.first, base)
        let start = firstIndex(endingAtOrAfter: low)
        var fresh: [SequenceRun] = []
        var mergedFirst = low
        var mergedEnd = range.end
        var at = low
        var index = start
        while index < ranges.count, ranges[index].first <= range.end {
            let next = ranges[index]
            if next.first > at { fresh.append(SequenceRun(first: at, count: Int(next.first - at))) }
            at = max(at, next.end)
            mergedFirst = min(mergedFirst, next.first)
            mergedEnd = max(mergedEnd, next.end)
            index += 1
        }
        if at < range.end { fresh.append(SequenceRun(first: at, count: Int(range.end - at))) }
        ranges.replaceSubrange(
            start..<index, with: [SequenceRun(first: mergedFirst, count: Int(mergedEnd - mergedFirst))])
        if let first = ranges.first, first.first <= base {
            base = first.end
            ranges.removeFirst()
        }
        return fresh
    }

    /// The parts of a range that are not in the set.
    func missing(in range: SequenceRun) -> [SequenceRun] {
        var copy = self
        return copy.insert(range)
    }

    private func firstIndex(endingAtOrAfter sequence: UInt64) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].end < sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
