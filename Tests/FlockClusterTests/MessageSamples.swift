// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire

@testable import FlockCluster

/// Random messages between nodes, one kind after the other.
enum MessageSamples {
    static let kinds = 20

    static func message(kind: Int, _ random: inout SeededRandom) -> NodeMessage {
        let from = MemberNumber(rawValue: UInt32.random(in: 1...UInt32.max, using: &random))
        let to = MemberNumber(rawValue: UInt32.random(in: 1...UInt32.max, using: &random))
        let partition = PartitionID(rawValue: UInt16.random(in: 0...UInt16.max, using: &random))
        switch kind {
        case 0:
            let messages = ControlCodingTests.messages
            return .control(messages[Int.random(in: 0..<messages.count, using: &random)])
        case 1..<10:
            return .replication(from: from, to: to, partition, replication(kind - 1, &random))
        default:
            let count = kind == kinds - 1 ? 0 : Int.random(in: 1...4, using: &random)
            var messages: [WorkMessage] = []
            for place in 0..<count { messages.append(work(place == 0 ? kind - 10 : Int(random.next() % 8), &random)) }
            return .work(
                WorkFrame(
                    from: from, to: to, first: 1 + random.next() >> 8, expected: random.next(), messages: messages))
        }
    }

    static func replication(_ kind: Int, _ random: inout SeededRandom) -> ReplicationMessage {
        let epoch = random.next()
        switch kind {
        case 0, 1, 2: return .append(append(entries: [0, 1, 7][kind], &random))
        case 3: return .appended(epoch: epoch, through: random.next(), committed: random.next())
        case 4:
            return .mismatch(epoch: epoch, committed: random.next(), last: random.next(), lastEpoch: random.next())
        case 5, 6: return .snapshot(part(sessions: kind == 5 ? Int(random.next() % 2) : 3, &random))
        case 7: return .received(epoch: epoch, index: random.next(), parts: Int(random.next() % 1000))
        default: return .stale(epoch: epoch)
        }
    }

    static func append(entries: Int, _ random: inout SeededRandom) -> ReplicationAppend {
        let index = random.next() >> 8
        var list: [LogEntry] = []
        for place in 0..<entries {
            let kind = Int.random(in: 0..<EntrySamples.kinds, using: &random)
            list.append(EntrySamples.entry(kind: kind, index: index + UInt64(place) + 1, &random))
        }
        return ReplicationAppend(
            epoch: random.next(), previousIndex: index, previousEpoch: random.next(), commit: random.next(),
            held: random.next(), entries: list)
    }

    static func part(sessions: Int, _ random: inout SeededRandom) -> SnapshotPart {
        var list: [SessionSnapshot] = []
        // A single session has nothing in it.
        for place in 0..<sessions { list.append(session(counter: UInt32(place), most: sessions == 1 ? 0 : 6, &random)) }
        return SnapshotPart(
            epoch: random.next(), index: random.next(), entryEpoch: random.next(),
            time: Tick(nanoseconds: random.next()), hash: random.next(),
            nextSession: UInt32(truncatingIfNeeded: random.next()), number: 2, count: 5, sessions: list)
    }

    private static func session(counter: UInt32, most: Int, _ random: inout SeededRandom) -> SessionSnapshot {
        let base = random.next() >> 8
        var next = base
        var entries: [SessionEntry] = []
        for kind in 0..<Int.random(in: 0...most, using: &random) {
            let run = sequences(next, Int.random(in: 3...20, using: &random))
            next = run.end
            entries.append(entry(kind, run, &random))
        }
        return SessionSnapshot(
            id: SessionID(generation: 3, counter: counter), pipeline: UInt32(truncatingIfNeeded: random.next()),
            secret: SessionSecret(random.next(), random.next()), window: Int(random.next() % 65_536), base: base,
            next: next, entries: entries)
    }

    private static func entry(_ kind: Int, _ run: SequenceRun, _ random: inout SeededRandom) -> SessionEntry {
        let payload = (try? items(lengths: (0..<run.count).map { _ in Int(random.next() % 30) })) ?? .empty
        let body: SessionEntry.Body
        switch kind {
        case 0: body = .open(payload)
        case 1: body = .done(held(run.count, &random))
        case 2: body = .freed
        case 3:
            let pieces = [
                Piece(sequences: sequences(run.first, 1), held: held(1, &random)),
                Piece(sequences: sequences(run.first + 2, 1), held: nil),
            ]
            body = .split(.init(items: payload, open: run.count - 2, pieces: pieces))
        case 4:
            let first = Piece(sequences: sequences(run.first, 1), held: nil)
            let rest = Piece(sequences: sequences(run.first + 1, run.count - 1), held: held(run.count - 1, &random))
            body = .split(.init(items: nil, open: 0, pieces: [first, rest]))
        default: body = .open(items(run.count))
        }
        var entry = SessionEntry(
            sequences: run, deadline: kind == 2 ? .never : Tick(nanoseconds: random.next()), trace: trace(&random),
            timeToLive: random.next(), body: body)
        // One part of the run, and another part twice.
        if kind > 0 { entry.died(sequences(run.first, 1), 1) }
        if kind > 2 { entry.died(sequences(run.end - 1, 1), 2) }
        if kind > 1 { entry.failed(sequences(run.first, 1), 3) }
        return entry
    }

    private static func held(_ count: Int, _ random: inout SeededRandom) -> Held {
        Held(outcome: outcome(count, &random), bytes: Int(random.next() % 1000), expires: Tick(nanoseconds: 77))
    }

    static func outcome(_ count: Int, _ random: inout SeededRandom) -> RunOutcome {
        var mask = ItemMask(count: count)
        for index in 0..<count { mask[index] = random.next() & 1 == 1 }
        switch random.next() % 4 {
        case 0: return .values(items(count), filtered: nil)
        case 1: return .values(items(count), filtered: mask)
        case 2: return .filtered
        default: return .failed(FlockError(.stageFailed, "it broke", stage: "s", node: "n"))
        }
    }

    private static func trace(_ random: inout SeededRandom) -> TraceContext? {
        random.next() & 1 == 0
            ? nil : TraceContext(traceHigh: random.next(), traceLow: 1, spanID: random.next() | 1, flags: 1)
    }

    private static func requests(_ count: Int, _ random: inout SeededRandom) -> RequestRun {
        RequestRun(
            partition: PartitionID(rawValue: UInt16(truncatingIfNeeded: random.next())),
            session: SessionID(rawValue: random.next()), sequences: sequences(random.next() >> 8, count))
    }

    static func work(_ kind: Int, _ random: inout SeededRandom) -> WorkMessage {
        let lane = UInt32(truncatingIfNeeded: random.next())
        let count = Int.random(in: 1...9, using: &random)
        let partition = PartitionID(rawValue: UInt16(truncatingIfNeeded: random.next()))
        var runs: [RequestRun] = []
        for _ in 0..<count { runs.append(requests(Int(random.next() % 100), &random)) }
        switch kind {
        case 0:
            var assigned: [AssignedRun] = []
            for place in 0..<count {
                let lengths = Array(repeating: place, count: count)
                let payload = place & 1 == 0 ? items(count) : try? items(lengths: lengths)
                var run = OpenRun(
                    requests: requests(count, &random), pipeline: lane, items: payload ?? .empty,
                    deadline: place & 2 == 0 ? nil : Tick(nanoseconds: random.next() | 1), trace: trace(&random),
                    attempt: place)
                run.priority = RequestPriority.allCases[place % 3]
                run.deaths = place
                assigned.append(AssignedRun(epoch: random.next(), run: run))
            }
            return .runs(lane: lane, assigned)
        case 1: return .revoke(lane: lane, runs[0])
        case 2:
            var outcomes: [OutcomeRun] = []
            for _ in 0..<count {
                let part = outcome(count, &random)
                outcomes.append(OutcomeRun(sequences: sequences(random.next() >> 8, count), outcome: part))
            }
            let failed = runs.map(\.sequences).filter { $0.count > 0 }
            return .done(
                job: random.next(), lane: lane, partition, SessionID(rawValue: random.next()), outcomes,
                FailedRuns(failed, attempt: count))
        case 3: return .recorded(job: random.next())
        case 4: return .returned(lane: lane, runs)
        case 5: return .holding(partition, epoch: random.next())
        case 6: return .hosts((0..<UInt32(count)).map { $0 * 3 })
        default:
            return .held(partition, epoch: random.next(), runs.map { LaneRun(lane: lane, requests: $0, attempt: 2) })
        }
    }
}
