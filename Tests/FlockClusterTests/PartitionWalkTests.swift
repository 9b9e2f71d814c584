// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Partition replica, random walks")
struct PartitionWalkTests {
    @Test("any order of events does what a dictionary per request would do", arguments: 1...60 as ClosedRange<UInt64>)
    func walk(seed: UInt64) { run(seed: seed) }

    @Test("seeds that nobody tried before do as well")
    func freshSeeds() {
        for _ in 0..<4 {
            let seed = UInt64.random(in: 1000...UInt64.max)
            print("partition walk: fresh seed \(seed)")
            run(seed: seed)
        }
    }

    private func run(seed: UInt64) {
        var walk = PartitionWalk(seed: seed)
        for step in 0..<300 {
            walk.step()
            walk.check("seed \(seed), step \(step)")
            if walk.verdict.failed { return }
        }
        walk.closeAll()
        #expect(walk.partition.budget.open == 0 && walk.partition.budget.unread == 0, "seed \(seed) at its end")
    }
}

/// Whether a walk has gone wrong; it stops then, since all that follows would be wrong too.
final class Verdict {
    var failed = false
}

/// A partition and its model, driven by the same random events.
struct PartitionWalk {
    var random: Seeded
    var partition: Partition
    var model: PartitionModel
    var value: UInt64 = 1
    let verdict = Verdict()
    /// Everything that was ever delivered: two different outcomes for an id are a violation of S2.
    var seen: [SessionID: [UInt64: PartitionModel.Outcome]] = [:]

    init(seed: UInt64) {
        random = Seeded(seed)
        var limits = Limits()
        limits.sessionWindow = 48
        limits.sessionsPerPartition = 3
        limits.openBytes = 4000
        limits.reservedResultBytes = 16
        limits.sessionResultBytes = 600
        limits.unreadResultBytes = 1200
        limits.runsPerFrame = 3
        limits.outcomeTimeToLive = .milliseconds(300)
        limits.sessionIdleTime = .milliseconds(700)
        partition = Partition(limits)
        model = PartitionModel(limits: limits)
    }

    func expect(_ condition: Bool, _ what: @autoclosure () -> String) {
        guard !condition else { return }
        verdict.failed = true
        Issue.record("\(what())")
    }

    mutating func step() {
        let ids = model.sessions.keys.sorted()
        guard let id = ids.isEmpty ? nil : ids[random.below(ids.count)] else { return open() }
        switch random.below(100) {
        case 0..<3: open()
        case 3..<36: submit(id)
        case 36..<62: complete(id)
        case 62..<78: acknowledge(id)
        case 78..<84: cancel(id)
        case 84..<88: attach(id)
        case 88..<90: detach()
        case 90..<91: close(id)
        case 91..<93: wrongSecret(id)
        default: tick()
        }
    }

    mutating func open() {
        let window = 8 + random.below(60)
        let out = partition.step(.open(pipeline: 7, secret: Partition.secret, window: window, reply: 1))
        if model.sessions.count == 3 {
            expect(texts(out) == ["failed overloaded"], "a fourth session: \(texts(out))")
        } else if case .opened(_, let id)? = out.first {
            expect(model.sessions[id] == nil && seen[id] == nil, "\(id) given twice")
            model.sessions[id] = PartitionModel.Session(window: min(window, 48), lastCall: partition.now)
            seen[id] = [:]
        } else {
            expect(false, "no session: \(texts(out))")
        }
    }

    mutating func submit(_ id: SessionID) {
        guard var session = model.sessions[id] else { return }
        session.lastCall = partition.now
        let shift = random.chance(70) ? 0 : random.below(12) - 8
        let first = UInt64(max(0, Int(session.next) + shift))
        let count = 1 + random.below(random.chance(20) ? 50 : 10)
        let deadline: Duration? = random.chance(40) ? .milliseconds(Int64(random.below(200))) : nil
        let run = sequences(first, count)
        let before = (budget: partition.budget, unread: sessionUnread(id), open: session.open.count)
        let out = partition.submit(id, first, count, deadline: deadline)
        let base = session.base
        if run.end <= base {
            expect(texts(out) == ["refused \(first) expired"], "\(run) below \(base): \(texts(out))")
        } else if run.end <= session.next {
            expect(texts(out) == ["accepted \(run.end - 1)"], "\(run) again: \(texts(out))")
        } else if first > session.next {
            expect(texts(out) == ["refused \(first) overloaded"], "\(run) after a gap: \(texts(out))")
        } else if case .refused(_, let from, let error)? = out.first {
            expect(from == session.next && out.count == 1, "\(run) refused from \(from)")
            let fresh = Int(run.end - session.next)
            let bytes = items(fresh).chargedBytes + fresh * 16
            let never = fresh > session.window || fresh * 16 > 600 || bytes > 4000
            let later =
                Int(session.next - base) + fresh > session.window || before.budget.open + bytes > 4000
                || before.unread + before.open * 16 + fresh * 16 > 600 || before.budget.unread + fresh * 16 > 1200
            expect(error.code == (never ? .tooLarge : .overloaded), "\(run): \(error)")
            expect(never || (later && error.retryAfter != nil), "\(run) refused without a reason: \(error)")
        } else {
            let fresh = sequences(session.next, Int(run.end - session.next))
            expect(texts(out) == ["accepted \(run.end - 1)", "dispatch \(fresh)"], "\(run): \(texts(out))")
            if case .dispatch(let open)? = out.last { checkDispatch(open, fresh, deadline, &session) }
            expect(Int(run.end - base) <= session.window, "\(run) over the window of \(session.window)")
        }
        model.sessions[id] = session
    }

    mutating func checkDispatch(
        _ open: OpenRun, _ fresh: SequenceRun, _ deadline: Duration?, _ session: inout PartitionModel.Session
    ) {
        let due = deadline.map { partition.now + $0 }
        expect(open.deadline == due && open.pipeline == 7 && open.attempt == 1, "\(open)")
        for (index, sequence) in (fresh.first..<fresh.end).enumerated() {
            expect(number(open.items, index) == sequence, "S3: the payload of \(sequence) is another's")
            expect(session.dispatched.insert(sequence).inserted, "\(sequence) dispatched twice")
            session.items[sequence] = .open(deadline: due ?? .never)
        }
        session.runs.append(PartitionModel.Run(sequences: fresh, bytes: items(fresh.count).chargedBytes))
        session.next = fresh.end
    }

    mutating func complete(_ id: SessionID) {
        guard var session = model.sessions[id] else { return }
        var runs: [OutcomeRun] = []
        var expected: [UInt64: PartitionModel.Outcome] = [:]
        let expires = partition.now + model.limits.outcomeTimeToLive
        for _ in 0..<1 + random.below(4) {
            let low = max(0, Int(session.base) - 3)
            let run = sequences(UInt64(low + random.below(Int(session.next) - low + 4)), 1 + random.below(12))
            let (outcome, each) = randomOutcome(run.count)
            runs.append(OutcomeRun(sequences: run, outcome: outcome))
            for (index, sequence) in (run.first..<run.end).enumerated()
            where session.complete(sequence, each[index], expires: expires) {
                expected[sequence] = each[index]
            }
        }
        model.sessions[id] = session
        let out = partition.step(.completed(session: id, runs: runs))
        checkDeliveries(out, id, expected, "completion")
    }

    mutating func randomOutcome(_ count: Int) -> (RunOutcome, [PartitionModel.Outcome]) {
        value += 1000
        switch random.below(7) {
        case 0: return (.filtered, Array(repeating: .filtered, count: count))
        case 1:
            return (
                .failed(FlockError(.stageFailed, "a text of some length")),
                Array(repeating: .failed(.stageFailed), count: count)
            )
        case 2:
            var mask = ItemMask(count: count)
            for index in 0..<count where random.chance(40) { mask[index] = true }
            let each = (0..<count).map { mask[$0] ? .filtered : PartitionModel.Outcome.value(value + UInt64($0)) }
            return (.values(items(count, from: value), filtered: mask), each)
        case 3:
            // Some results are larger than the 16 bytes that were reserved.
            let large = (0..<count).map { _ in random.chance(30) }
            let start = value
            guard
                let buffer = try? ItemBuffer(
                    count: count,
                    encode: { index, writer in
                        writer.write(start + UInt64(index))
                        if large[index] { writer.write(UInt64(0)); writer.write(UInt8(0)) }
                    })
            else { fatalError("items of \(count)") }
            let each = (0..<count).map {
                large[$0] ? .failed(.resultTooLarge) : PartitionModel.Outcome.value(start + UInt64($0))
            }
            return (.values(buffer, filtered: nil), each)
        default:
            return (.values(items(count, from: value), filtered: nil), (0..<count).map { .value(value + UInt64($0)) })
        }
    }

    /// Every one of `expected` is delivered once to the subscriber, nothing else is; chunks are bounded.
    mutating func checkDeliveries(
        _ out: [PartitionDirective], _ id: SessionID, _ expected: [UInt64: PartitionModel.Outcome], _ what: String
    ) {
        var left = model.sessions[id]?.subscriber == nil ? [:] : expected
        for directive in out {
            guard case .deliver(let subscriber, let session, let runs) = directive else { continue }
            expect(session == id && subscriber == model.sessions[id]?.subscriber, "\(what): \(directive.text)")
            expect(runs.count <= 3, "\(what): \(runs.count) runs in one directive")
            for run in runs {
                for (sequence, outcome) in PartitionModel.outcomes(of: run) {
                    expect(
                        left.removeValue(forKey: sequence) == outcome, "\(what): \(sequence) \(outcome) in \(session)")
                    let old = seen[id, default: [:]].updateValue(outcome, forKey: sequence)
                    let isSame = old == nil || old == outcome || outcome == .failed(.expired)
                    expect(isSame, "S2: \(sequence) was \(String(describing: old)), now \(outcome)")
                }
            }
        }
        expect(left.isEmpty, "\(what): not delivered: \(left)")
    }

    func sessionUnread(_ id: SessionID) -> Int {
        partition.replica.sessions.slot(of: id).map { partition.replica.sessions[$0].unreadBytes } ?? 0
    }
}
