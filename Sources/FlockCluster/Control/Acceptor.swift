// Flockwork · Apache-2.0 · see LICENSE

// The voting half of the register. What it promises and accepts goes to the disk first: answers wait here until the
// shell says that the record is durable.

import FlockWire

/// A voter's part in the turns of proposers.
struct Acceptor: Sendable {
    /// An answer, and the record that must be durable before it is sent.
    struct Answer: Sendable {
        let token: UInt64
        let to: NodeID
        let message: ControlMessage
    }

    private(set) var record: VoterRecord
    /// Bootstrap voters that know this voter's first record.
    private var confirmed: [NodeID] = []
    private var waiting: [Answer] = []
    private var lastToken: UInt64 = 0
    private var durableToken: UInt64 = 0
    private var isFailed = false
    private let rules: Rules

    init(record: VoterRecord, rules: Rules) {
        self.record = record
        self.rules = rules
    }

    /// Writes an empty record: from then on this process is known to be a voter.
    mutating func enrol(out: inout [ControlDirective]) {
        record.isFounded = true
        persist(&out)
    }
    /// Writes a bootstrap voter's first record, with which it does not vote yet.
    mutating func begin(out: inout [ControlDirective]) { persist(&out) }
    /// Everything that it promised and accepted is on its disk.
    var isDurable: Bool { durableToken == lastToken && !isFailed }

    private mutating func persist(_ out: inout [ControlDirective]) {
        lastToken += 1
        out.append(.persist(record, token: lastToken))
    }

    /// Also a repeated answer waits: the record behind it may not be durable yet.
    private mutating func answer(_ to: NodeID, _ message: ControlMessage) {
        waiting.append(Answer(token: lastToken, to: to, message: message))
    }

    // MARK: Founding

    /// The mark of its own first record; nil if it has none.
    func mark(of own: NodeID) -> UInt64? { record.founders.first { $0.node == own }?.mark }

    /// A bootstrap voter asks to be known by that mark, or knows this one's. False for another record than the one
    /// that this voter voted with: then the asker's disk was wiped, and it must not vote.
    mutating func meet(_ node: NodeID, mark: UInt64) -> Bool {
        if let place = record.founders.firstIndex(where: { $0.node == node }) {
            if record.isFounded { return record.founders[place].mark == mark }
            if record.founders[place].mark != mark {
                record.founders[place].mark = mark
                confirmed.removeAll { $0 == node }
            }
            return true
        }
        guard !record.isFounded else { return false }
        record.founders.append(.init(node: node, mark: mark))
        return true
    }

    /// That voter knows this one's record. True once all do, and this one may vote.
    mutating func confirm(
        _ node: NodeID, mark: UInt64, of voters: [NodeID], own: NodeID, out: inout [ControlDirective]
    ) -> Bool {
        guard !record.isFounded, meet(node, mark: mark) else { return false }
        if !confirmed.contains(node) { confirmed.append(node) }
        return found(voters, own: own, out: &out)
    }

    /// Says that it knows that voter's record, once its own is durable, and asks to be known in turn: the other is
    /// there now. Were it asked with the next repetition only, and it died before, this one never voted.
    mutating func acknowledge(_ node: NodeID, yours: UInt64, mine: UInt64) {
        guard !isFailed else { return }
        answer(node, .founded(yours: yours, mine: mine))
        if !record.isFounded && !confirmed.contains(node) { answer(node, .founding(mark: mine)) }
    }

    /// Begins to vote if all bootstrap voters know its record.
    mutating func found(_ voters: [NodeID], own: NodeID, out: inout [ControlDirective]) -> Bool {
        guard !record.isFounded, voters.allSatisfy({ $0 == own || confirmed.contains($0) }) else { return false }
        record.isFounded = true
        persist(&out)
        return true
    }

    // MARK: Turns

    mutating func prepare(from node: NodeID, _ ballot: Ballot, known: Ballot, out: inout [ControlDirective]) {
        guard !isFailed, record.isFounded else { return }
        guard ballot >= record.promised else { return answer(node, .rejected(ballot, promised: record.promised)) }
        if ballot > record.promised {
            record.promised = ballot
            if rules.persistsPromise { persist(&out) }
        }
        let state = record.accepted == known ? nil : record.state
        answer(node, .promise(ballot, accepted: record.accepted, state: state))
    }

    mutating func accept(
        from node: NodeID, _ ballot: Ballot, _ state: ControlState, out: inout [ControlDirective]
    ) {
        guard !isFailed, record.isFounded else { return }
        guard ballot >= record.promised else { return answer(node, .rejected(ballot, promised: record.promised)) }
        if ballot != record.accepted {
            (record.promised, record.accepted, record.state) = (ballot, ballot, state)
            persist(&out)
        }
        answer(node, .accepted(ballot))
    }

    mutating func accept(
        from node: NodeID, _ ballot: Ballot, base: Ballot, _ delta: ControlDelta, out: inout [ControlDirective]
    ) {
        guard !isFailed, record.isFounded else { return }
        if ballot >= record.promised, ballot != record.accepted {
            guard base == record.accepted, var state = record.state, delta.apply(to: &state) else {
                return answer(node, .acceptWhole(ballot))
            }
            return accept(from: node, ballot, state, out: &out)
        }
        if ballot == record.accepted { return answer(node, .accepted(ballot)) }
        answer(node, .rejected(ballot, promised: record.promised))
    }

    /// The record of that token is durable.
    mutating func persisted(_ token: UInt64) { durableToken = max(durableToken, min(token, lastToken)) }

    /// The disk refuses. Nothing is promised any more, least of all what only memory has.
    mutating func fail() {
        isFailed = true
        waiting = []
    }

    /// What may be sent now, in order.
    mutating func takeAnswers() -> [Answer] {
        guard let first = waiting.first, first.token <= durableToken else { return [] }
        let ready = waiting.prefix { $0.token <= durableToken }
        waiting.removeFirst(ready.count)
        return Array(ready)
    }

    /// Forgets its record for one that an operator forces.
    mutating func force(_ state: ControlState, ballot: Ballot, out: inout [ControlDirective]) {
        record = VoterRecord(promised: ballot, accepted: ballot, state: state)
        waiting = []
        persist(&out)
    }
}
