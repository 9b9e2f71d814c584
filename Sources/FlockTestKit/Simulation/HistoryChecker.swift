// Flockwork · Apache-2.0 · see LICENSE

// Ids are write-once registers, so that the checks are equalities: every accepted id has one outcome (S1), always the
// same (S2), made from its own payload (S3), as long as it is not acknowledged (S4).

internal import FlockWire

/// Something that must never happen.
package struct Violation: Sendable, Equatable, CustomStringConvertible {
    /// The invariant: `S1`, `P2`, …
    package var rule: String
    package var time: UInt64
    package var text: String

    package init(_ rule: String, time: UInt64, _ text: String) {
        self.rule = rule
        self.time = time
        self.text = text
    }

    /// `S2 at 1234.567 ms: …`
    package var description: String {
        let micros = time / 1000 % 1000
        let digits = String(repeating: "0", count: 3 - String(micros).count) + String(micros)
        return "\(rule) at \(time / 1_000_000).\(digits) ms: \(text)"
    }
}

/// Reads histories, line by line in the order of time of each client, and says what is wrong.
package struct HistoryChecker: Sendable {
    private struct Item {
        var payload: UInt64?
        var isCancelled = false
        var isAccepted = false
        var isAcked = false
        var outcome: HistoryLine.Outcome?
        /// Has to be seen again: the client asked for everything that it did not acknowledge.
        var isAwaited = false
    }

    private struct Session: Hashable, Comparable {
        var partition: Int
        var id: UInt64
        static func < (left: Session, right: Session) -> Bool {
            (left.partition, left.id) < (right.partition, right.id)
        }
    }

    private var places: [Session: Int] = [:]
    private var items: [[Item]] = []
    private var isLost: [Bool] = []
    private var last: (session: Session, place: Int)?
    package private(set) var violations: [Violation] = []
    /// Ids that were accepted, and that have an outcome.
    package private(set) var accepted = 0
    package private(set) var completed = 0

    /// L6: whether a payload kills whoever executes it. Set if no process dies of anything else: then no other request
    /// may be taken for poison.
    package var isDeadly: (@Sendable (UInt64) -> Bool)?

    package init() {}

    package mutating func check(_ line: HistoryLine) {
        guard line.operation != .open else { return }
        let place = place(of: Session(partition: line.partition, id: line.session))
        switch (line.operation, line.kind) {
        case (.submit, .invoke): submit(line, place)
        case (.submit, .ok):
            eachItem(line, place) { item, _, checker in
                if !item.isAccepted { checker.accepted += 1 }
                item.isAccepted = true
            }
        case (.cancel, .invoke): eachItem(line, place) { item, _, _ in item.isCancelled = true }
        case (.ack, .invoke): eachItem(line, place) { item, _, _ in item.isAcked = true }
        case (.recollect, .invoke):
            for index in items[place].indices where items[place][index].outcome != nil {
                items[place][index].isAwaited = !items[place][index].isAcked
            }
        case (.outcome, _): outcome(line, place)
        case (.lost, _): isLost[place] = true
        default: break
        }
    }

    /// Something was accepted, is not lost, and has no outcome.
    package var hasOpen: Bool {
        zip(items, isLost).contains { items, isLost in
            !isLost && items.contains { $0.isAccepted && $0.outcome == nil }
        }
    }

    /// At the end of a run in which everything was healed, and waited for.
    package mutating func finish(time: UInt64) {
        for session in places.keys.sorted() {
            guard let place = places[session], !isLost[place] else { continue }
            for (sequence, item) in items[place].enumerated() {
                var name: String { "p\(session.partition)/s\(session.id)/\(sequence)" }
                if item.isAccepted && item.outcome == nil {
                    violations.append(Violation("S1", time: time, "\(name) was accepted and has no outcome"))
                } else if item.payload != nil && item.outcome == nil {
                    violations.append(Violation("L3", time: time, "\(name) was submitted and has no outcome"))
                }
                if item.isAwaited {
                    violations.append(Violation("S4", time: time, "\(name) has an outcome that cannot be fetched"))
                }
            }
        }
    }

    private mutating func place(of session: Session) -> Int {
        if let last, last.session == session { return last.place }
        let place = places[session] ?? items.count
        if place == items.count {
            places[session] = place
            items.append([])
            isLost.append(false)
        }
        last = (session, place)
        return place
    }

    private mutating func eachItem(
        _ line: HistoryLine, _ place: Int, _ body: (inout Item, Int, inout HistoryChecker) -> Void
    ) {
        let end = Int(line.first) + line.count
        while items[place].count < end { items[place].append(Item()) }
        for index in 0..<line.count {
            var item = items[place][Int(line.first) + index]
            body(&item, index, &self)
            items[place][Int(line.first) + index] = item
        }
    }

    private mutating func submit(_ line: HistoryLine, _ place: Int) {
        eachItem(line, place) { item, index, checker in
            if let payload = item.payload, payload != line.words[index] {
                checker.violations.append(
                    Violation("history", time: line.time, "a client changed a payload: \(line)"))
            }
            item.payload = line.words[index]
        }
    }

    private mutating func outcome(_ line: HistoryLine, _ place: Int) {
        eachItem(line, place) { item, index, checker in
            let outcome = HistoryLine.Outcome(
                kind: line.words[3 * index], echo: line.words[3 * index + 1], hash: line.words[3 * index + 2])
            var name: String { "p\(line.partition)/s\(line.session)/\(Int(line.first) + index)" }
            if item.payload == nil && !item.isCancelled {
                checker.violations.append(Violation("S3", time: line.time, "\(name) was never submitted"))
            }
            if outcome.kind == 0 && outcome.echo != item.payload {
                checker.violations.append(
                    Violation("S3", time: line.time, "\(name) has the result of another payload"))
            }
            if let isDeadly = checker.isDeadly, outcome.kind == 2 + UInt64(FlockError.Code.poison.rawValue),
                let payload = item.payload, !isDeadly(payload)
            {
                checker.violations.append(
                    Violation("L6", time: line.time, "\(name) is called poison, and killed nobody"))
            }
            if let old = item.outcome, old != outcome {
                checker.violations.append(
                    Violation("S2", time: line.time, "\(name) has two outcomes, kinds \(old.kind), \(outcome.kind)"))
            }
            if item.outcome == nil { checker.completed += 1 }
            item.outcome = outcome
            item.isAwaited = false
        }
    }
}
