// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

/// The naive reference: a dictionary per id, nothing merged, nothing clever.
struct PartitionModel {
    enum Outcome: Equatable {
        case value(UInt64)
        case filtered
        case failed(FlockError.Code)
    }
    enum Item: Equatable {
        case open(deadline: Tick)
        case done(Outcome, expires: Tick)
        case acked
    }
    struct Run {
        let sequences: SequenceRun
        let bytes: Int
    }
    struct Session {
        var window: Int
        var items: [UInt64: Item] = [:]
        var runs: [Run] = []
        var next: UInt64 = 0
        var subscriber: UInt64?
        var lastCall: Tick
        var latestExpiry = Tick.zero
        var dispatched: Set<UInt64> = []

        var base: UInt64 {
            var base: UInt64 = 0
            while base < next && items[base] == .acked { base += 1 }
            return base
        }
        var open: [UInt64] {
            (0..<next).filter { if case .open = items[$0] { true } else { false } }
        }
        var done: [UInt64] {
            (0..<next).filter { if case .done = items[$0] { true } else { false } }
        }
        func isOpen(_ sequence: UInt64) -> Bool { if case .open = items[sequence] { true } else { false } }

        mutating func complete(_ sequence: UInt64, _ outcome: Outcome, expires: Tick) -> Bool {
            guard isOpen(sequence) else { return false }
            items[sequence] = .done(outcome, expires: expires)
            latestExpiry = max(latestExpiry, expires)
            return true
        }
    }

    var limits: Limits
    var sessions: [SessionID: Session] = [:]

    /// What the node's budget must hold for open work.
    var openBytes: Int {
        sessions.values.reduce(0) { total, session in
            let open = Set(session.open)
            let pinned = session.runs.filter { run in
                (run.sequences.first..<run.sequences.end).contains { open.contains($0) }
            }
            return total + open.count * limits.reservedResultBytes + pinned.reduce(0) { $0 + $1.bytes }
        }
    }

    /// Bytes of values that wait, and how many other outcomes: the text of failures counts, and so does the blank value
    /// of an item that was filtered out of a batch.
    var unread: (values: Int, others: Int) {
        var result = (values: 0, others: 0)
        for session in sessions.values {
            for sequence in session.done {
                guard case .done(let outcome, _) = session.items[sequence] else { continue }
                switch outcome {
                case .value: result.values += 8
                case .filtered, .failed: result.others += 1
                }
            }
        }
        return result
    }

    /// What time does to it. Returns the sessions that are closed.
    mutating func tick(_ now: Tick) -> [SessionID] {
        var closed: [SessionID] = []
        for id in sessions.keys.sorted() {
            guard var session = sessions[id] else { continue }
            for sequence in session.open {
                if case .open(let deadline) = session.items[sequence], deadline <= now {
                    let expires = now + limits.outcomeTimeToLive
                    _ = session.complete(sequence, .failed(.deadlineExceeded), expires: expires)
                }
            }
            for sequence in session.done {
                if case .done(_, let expires) = session.items[sequence], expires <= now {
                    session.items[sequence] = .done(.failed(.expired), expires: .never)
                }
            }
            sessions[id] = session
            let idleEnd = session.lastCall + limits.sessionIdleTime
            let end = session.base == session.next ? idleEnd : max(idleEnd, session.latestExpiry)
            if session.subscriber == nil && session.open.isEmpty && end <= now {
                sessions[id] = nil
                closed.append(id)
            }
        }
        return closed
    }

    static func outcomes(of run: OutcomeRun) -> [(UInt64, Outcome)] {
        (0..<run.sequences.count).map { index in
            let outcome: Outcome =
                switch run.outcome {
                case .values(let items, let mask):
                    mask?[index] == true ? .filtered : .value(number(items, index))
                case .filtered: .filtered
                case .failed(let error): .failed(error.code)
                }
            return (run.sequences.first + UInt64(index), outcome)
        }
    }
}
