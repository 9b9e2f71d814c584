// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// What a batch became, part by part: usually one part with all its results. A batch that failed was halved, and is then
// a list of parts, some with results, some with the error of their one bad item.

struct BatchResult: Sendable {
    struct Part: Sendable {
        var start: Int
        var count: Int
        var ending: Ending
    }

    enum Ending: Sendable {
        case output(LaneOutput)
        case failed(FlockError)
    }

    /// In order, covering the batch without gaps.
    var parts: [Part]

    /// One call made all of it.
    var isWhole: Bool {
        guard parts.count == 1, case .output = parts[0].ending else { return false }
        return true
    }

    /// The outcome of items `first ..< first + run.count` of the batch, which are the sequences of `run`.
    ///
    /// For the last lane: every item has a value, was filtered, or failed.
    func outcomes(of run: SequenceRun, from first: Int) -> [OutcomeRun] {
        overlaps(first: first, count: run.count).map { part, start, count in
            let outcome: RunOutcome =
                switch part.ending {
                case .output(let output):
                    output.outcome(count: part.count).slice(from: start - part.start, count: count)
                case .failed(let error): .failed(error)
                }
            return OutcomeRun(
                sequences: SequenceRun(first: run.first + UInt64(start - first), count: count), outcome: outcome)
        }
    }

    /// The same for a lane in the middle: what goes on to the next lane, and what has ended here.
    func forwarded(of run: SequenceRun, from first: Int) -> (kept: [(SequenceRun, ItemBuffer)], ended: [OutcomeRun]) {
        var kept: [(SequenceRun, ItemBuffer)] = []
        var ended: [OutcomeRun] = []
        for (part, start, count) in overlaps(first: first, count: run.count) {
            let sequence = run.first + UInt64(start - first)
            switch part.ending {
            case .failed(let error):
                ended.append(
                    OutcomeRun(sequences: SequenceRun(first: sequence, count: count), outcome: .failed(error)))
            case .output(let output):
                let (runs, gaps) = output.contiguous(from: start - part.start, count: count)
                for (place, range) in runs {
                    let sequences = SequenceRun(first: sequence + UInt64(place), count: range.count)
                    kept.append((sequences, output.items.slice(from: range.lowerBound, count: range.count)))
                }
                for gap in gaps {
                    let sequences = SequenceRun(first: sequence + UInt64(gap.lowerBound), count: gap.count)
                    ended.append(OutcomeRun(sequences: sequences, outcome: .filtered))
                }
            }
        }
        return (kept, ended)
    }

    private func overlaps(first: Int, count: Int) -> [(part: Part, start: Int, count: Int)] {
        parts.compactMap { part in
            let start = max(first, part.start)
            let end = min(first + count, part.start + part.count)
            return start < end ? (part, start, end - start) : nil
        }
    }
}

extension LaneOutput {
    /// The outcome of all `count` items that went in: values in their places, blanks where items were filtered.
    func outcome(count: Int) -> RunOutcome {
        guard let origins else { return .values(items, filtered: nil) }
        if origins.isEmpty { return .filtered }
        var mask = ItemMask(count: count)
        for index in 0..<count { mask[index] = true }
        for origin in origins { mask[Int(origin)] = false }
        return .values(spread(origins, over: count), filtered: mask)
    }

    private func spread(_ origins: [Int32], over count: Int) -> ItemBuffer {
        switch items.layout {
        case .fixed(let stride):
            let bytes = Bytes(count: count * stride) { target in
                target.initializeMemory(as: UInt8.self, repeating: 0)
                items.payload.withUnsafeBytes { source in
                    for (index, origin) in origins.enumerated() {
                        target[Int(origin) * stride..<(Int(origin) + 1) * stride]
                            .copyBytes(from: source[index * stride..<(index + 1) * stride])
                    }
                }
            }
            return ItemBuffer(fixed: bytes, stride: stride, count: count)
        case .variable:
            var next = 0
            do {
                return try ItemBuffer(count: count) { index, writer in
                    if next < origins.count, Int(origins[next]) == index {
                        writer.write(items[next])
                        next += 1
                    }
                }
            } catch {
                preconditionFailure("blanks made a batch larger: \(error)")
            }
        }
    }

    /// The kept items whose origins lie in `first ..< first + count`, as runs of neighbours (with their place relative
    /// to `first`), and the gaps between them.
    func contiguous(from first: Int, count: Int) -> (runs: [(place: Int, items: Range<Int>)], gaps: [Range<Int>]) {
        guard let origins else { return ([(0, first..<first + count)], []) }
        var runs: [(place: Int, items: Range<Int>)] = []
        var gaps: [Range<Int>] = []
        var expected = 0
        for (index, origin) in origins.enumerated() {
            let place = Int(origin) - first
            guard place >= 0, place < count else { continue }
            if place == expected, let last = runs.last {
                runs[runs.count - 1] = (last.place, last.items.lowerBound..<index + 1)
            } else {
                if place > expected { gaps.append(expected..<place) }
                runs.append((place, index..<index + 1))
            }
            expected = place + 1
        }
        if expected < count { gaps.append(expected..<count) }
        return (runs, gaps)
    }
}
