// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

// Stages that cost time, fail for some payloads, kill their process for others, and never compute the same bytes
// twice: two executions of one request can be told apart by their results.

/// What the payload of an item makes of it.
enum PayloadKind {
    case value, filtered, throwing, poison

    /// The payload, made to kill whoever executes it or not to.
    static func marked(_ payload: UInt64, isDeadly: Bool) -> UInt64 {
        payload & (UInt64.max >> 16) | (isDeadly ? 0xDEAD << 48 : 0)
    }

    static func isDeadly(_ payload: UInt64) -> Bool { payload >> 48 == 0xDEAD }

    init(_ payload: UInt64, poisonPerMille: Int) {
        switch Int(payload % 1000) {
        case 0..<poisonPerMille: self = .poison
        case 900..<910: self = .filtered
        case 910..<915: self = .throwing
        default: self = .value
        }
    }
}

/// What becomes of a batch: it ends, or its stage dies in it, or it is handed back before it began.
enum StageFate { case ends, dies, returns }

extension Simulation {
    static func payloads(_ words: [UInt64]) -> ItemBuffer {
        let bytes = Bytes(count: words.count * 8) { raw in
            for (index, word) in words.enumerated() {
                raw.storeBytes(of: word, toByteOffset: index * 8, as: UInt64.self)
            }
        }
        return ItemBuffer(fixed: bytes, stride: 8, count: words.count)
    }

    static func word(_ items: ItemBuffer, _ index: Int, _ offset: Int = 0) -> UInt64 {
        items[index].withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    }

    /// A batch begins with a part of a job, or all of it.
    func begin(_ place: Int, _ job: UInt64, _ open: OpenRun) {
        let each = 100 * Virtual.microsecond * UInt64(open.items.count)
        let time = stageRandom.between(Virtual.millisecond, 15 * Virtual.millisecond) + each
        let fate: StageFate =
            faults.stagesDieUntil > now && stageRandom.chance(100) ? .dies : stageRandom.chance(5) ? .returns : .ends
        queue.push(
            .executed(place, run: processes[place].run, job: job, open, fate),
            at: now + time + network.slowness[place])
    }

    func execute(_ place: Int, _ job: UInt64, _ open: OpenRun, _ fate: StageFate) {
        var outcomes: [OutcomeRun] = []
        var failed: [SequenceRun] = []
        let sequences = open.requests.sequences
        switch fate {
        case .dies: return step(place, .executed(job: job, outcomes: [], failed: [sequences], returned: []))
        case .returns: return step(place, .executed(job: job, outcomes: [], failed: [], returned: [sequences]))
        case .ends: break
        }
        if profile.deadlyPerMille > 0,
            (0..<open.items.count).contains(where: { PayloadKind.isDeadly(Self.word(open.items, $0)) })
        {
            // It hangs for as long as nobody else may fail, and then takes its process with it.
            crash(place)
            guard processes[place].isUp else {
                diedOfRequestAt = now
                return
            }
            let again = now + 20 * Virtual.millisecond
            return queue.push(.executed(place, run: processes[place].run, job: job, open, fate), at: again)
        }
        report.counts.executed += open.items.count
        var start = 0
        while start < open.items.count {
            let kind = PayloadKind(Self.word(open.items, start), poisonPerMille: profile.poisonPerMille)
            var end = start + 1
            while end < open.items.count,
                PayloadKind(Self.word(open.items, end), poisonPerMille: profile.poisonPerMille) == kind
            {
                end += 1
            }
            let part = SequenceRun(first: sequences.first + UInt64(start), count: end - start)
            switch kind {
            case .value: outcomes.append(OutcomeRun(sequences: part, outcome: values(open.items, start, end)))
            case .filtered: outcomes.append(OutcomeRun(sequences: part, outcome: .filtered))
            case .throwing:
                outcomes.append(OutcomeRun(sequences: part, outcome: .failed(FlockError(.stageFailed, "it throws"))))
            case .poison: failed.append(part)
            }
            start = end
        }
        step(place, .executed(job: job, outcomes: outcomes, failed: failed, returned: []))
    }

    /// The payload and a word that no other execution has.
    private func values(_ items: ItemBuffer, _ start: Int, _ end: Int) -> RunOutcome {
        let bytes = Bytes(count: (end - start) * 16) { raw in
            for index in start..<end {
                raw.storeBytes(of: Self.word(items, index), toByteOffset: (index - start) * 16, as: UInt64.self)
                raw.storeBytes(of: stageRandom.next(), toByteOffset: (index - start) * 16 + 8, as: UInt64.self)
            }
        }
        return .values(ItemBuffer(fixed: bytes, stride: 16, count: end - start), filtered: nil)
    }
}
