// Flockwork · Apache-2.0 · see LICENSE

// Runs are enqueued, sent, answered and revoked in different parts, so they are kept as pieces: cut where a border
// falls into one, found by session and sequence. A slab holds them; each session has a sorted list of slots.

internal import DequeModule
internal import FlockWire

/// All runs that a dispatcher holds, queued or sent.
struct PieceTable: Sendable {
    struct Piece: Sendable {
        var run: OpenRun
        /// The slot of the host that has it; nil while it is queued.
        var host: Int?
        /// Bytes of the host's credit that it binds.
        var chargedBytes = 0
        /// Nobody waits for it; only the host's answer is outstanding.
        var isRevoked = false
        /// Suspect, and its host has said that it begins with it.
        var hasBegun = false
        /// Suspect, and its host does not answer: what becomes of it will be known when the host does, or dies.
        var isStranded = false
        /// Tells a queue's place whether the slot still holds what it meant.
        var serial: UInt64
    }

    private var pieces: [Piece] = []
    private var free: [Int] = []
    private var lanes: [Dispatcher.SessionKey: Deque<Int>] = [:]
    private var keptLanes = 256
    private var nextSerial: UInt64 = 1

    var sessionCount: Int { lanes.count }

    // Not `_read`: what a coroutine yields may be read after its end (decision 0014).
    subscript(slot: Int) -> Piece {
        @inline(__always) get { pieces[slot] }
        @inline(__always) _modify { yield &pieces[slot] }
    }

    private func key(_ run: RequestRun) -> Dispatcher.SessionKey {
        Dispatcher.SessionKey(partition: run.partition, session: run.session)
    }

    private mutating func takeSerial() -> UInt64 {
        nextSerial += 1
        return nextSerial
    }

    /// The first place in `lane` whose piece ends after `sequence`.
    private func place(endingAfter sequence: UInt64, in lane: Deque<Int>) -> Int {
        // Nearly always work is added at the end and answered at the front.
        guard let last = lane.last, pieces[last].run.requests.sequences.end > sequence else { return lane.count }
        var low = 0
        var high = lane.count - 1
        if pieces[lane[0]].run.requests.sequences.end > sequence { return 0 }
        while low < high {
            let middle = (low + high) / 2
            if pieces[lane[middle]].run.requests.sequences.end <= sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Changes a session's list in place: moved out of the dictionary it has one owner, so it is not copied.
    private mutating func edit(_ run: RequestRun, _ change: (inout Deque<Int>, borrowing PieceTable) -> Void) {
        var lane: Deque<Int> = []
        swap(&lane, &lanes[key(run), default: []])
        change(&lane, self)
        swap(&lane, &lanes[key(run), default: []])
    }

    private mutating func store(_ piece: Piece) -> Int {
        if let slot = free.popLast() {
            pieces[slot] = piece
            return slot
        }
        pieces.append(piece)
        return pieces.count - 1
    }

    /// A new queued piece.
    mutating func insert(_ run: OpenRun) -> Dispatcher.Place {
        let serial = takeSerial()
        let slot = store(Piece(run: run, serial: serial))
        let sequences = run.requests.sequences
        edit(run.requests) { lane, table in
            let at = table.place(endingAfter: sequences.first, in: lane)
            if at < lane.count {
                let other = table.pieces[lane[at]].run.requests
                precondition(other.sequences.first >= sequences.end, "\(run.requests) enqueued beside \(other)")
            }
            lane.insert(slot, at: at)
        }
        return Dispatcher.Place(slot: slot, serial: serial)
    }

    func isQueued(_ place: Dispatcher.Place) -> Bool {
        pieces[place.slot].serial == place.serial && pieces[place.slot].host == nil
    }

    /// Makes a piece that a host gave back a queued one.
    mutating func queueAgain(_ slot: Int) -> Dispatcher.Place {
        let serial = takeSerial()
        pieces[slot].serial = serial
        pieces[slot].host = nil
        pieces[slot].chargedBytes = 0
        pieces[slot].hasBegun = false
        pieces[slot].isStranded = false
        return Dispatcher.Place(slot: slot, serial: serial)
    }

    /// Leaves the first `count` items in `slot`; the rest becomes a piece of its own, in the same state.
    mutating func split(_ slot: Int, after count: Int) -> Dispatcher.Place {
        var rest = pieces[slot]
        let whole = rest.run
        pieces[slot].run = whole.slice(from: 0, count: count)
        rest.run = whole.slice(from: count, count: whole.items.count - count)
        if rest.host != nil {
            pieces[slot].chargedBytes = min(rest.chargedBytes, pieces[slot].run.items.byteCount)
            rest.chargedBytes -= pieces[slot].chargedBytes
        }
        rest.serial = takeSerial()
        let added = store(rest)
        let first = rest.run.requests.sequences.first
        edit(whole.requests) { lane, table in
            lane.insert(added, at: table.place(endingAfter: first, in: lane))
        }
        return Dispatcher.Place(slot: added, serial: rest.serial)
    }

    /// The pieces within `run` that `isWanted`, cut at its borders. Queued parts that were cut off need a place in the
    /// queue; they are appended to `cutOff`.
    mutating func cut(
        _ run: RequestRun, cutOff: inout [Dispatcher.Place], where isWanted: (Piece) -> Bool
    ) -> [Int] {
        guard let lane = lanes[key(run)], !lane.isEmpty, run.count > 0 else { return [] }
        var at = place(endingAfter: run.sequences.first, in: lane)
        var found: [Int] = []
        while at < lane.count, pieces[lane[at]].run.requests.sequences.first < run.sequences.end {
            if isWanted(pieces[lane[at]]) { found.append(lane[at]) }
            at += 1
        }
        for index in found.indices {
            let sequences = pieces[found[index]].run.requests.sequences
            if sequences.first < run.sequences.first {
                let rest = split(found[index], after: Int(run.sequences.first - sequences.first))
                if pieces[rest.slot].host == nil { cutOff.append(rest) }
                found[index] = rest.slot
            }
            if sequences.end > run.sequences.end {
                let inside = pieces[found[index]].run.requests.sequences
                let rest = split(found[index], after: Int(run.sequences.end - inside.first))
                if pieces[rest.slot].host == nil { cutOff.append(rest) }
            }
        }
        return found
    }

    /// The parts of `run` that no piece holds.
    func missing(of run: RequestRun) -> [SequenceRun] {
        guard let lane = lanes[key(run)] else { return [run.sequences] }
        var missing: [SequenceRun] = []
        var next = run.sequences.first
        var at = place(endingAfter: next, in: lane)
        while at < lane.count, next < run.sequences.end {
            let held = pieces[lane[at]].run.requests.sequences
            let start = min(held.first, run.sequences.end)
            if start > next { missing.append(SequenceRun(first: next, count: Int(start - next))) }
            next = held.end
            at += 1
        }
        if next < run.sequences.end {
            missing.append(SequenceRun(first: next, count: Int(run.sequences.end - next)))
        }
        return missing
    }

    mutating func remove(_ slot: Int) {
        let requests = pieces[slot].run.requests
        edit(requests) { lane, table in
            let at = table.place(endingAfter: requests.sequences.first, in: lane)
            precondition(at < lane.count && lane[at] == slot, "\(requests) is not at its place")
            lane.remove(at: at)
        }
        pieces[slot].run.items = .empty  // lets the payload go
        pieces[slot].serial = 0
        free.append(slot)
        // Empty lanes are kept for the session's next run, but not for ever.
        if lanes.count > 2 * keptLanes {
            lanes = lanes.filter { !$0.value.isEmpty }
            keptLanes = max(lanes.count, 256)
        }
    }

    /// What is held of a partition, in the order of ids.
    func slots(of partition: PartitionID) -> [Int] {
        pieces.indices.filter { pieces[$0].serial != 0 && pieces[$0].run.requests.partition == partition }
            .sorted { left, right in
                let (a, b) = (pieces[left].run.requests, pieces[right].run.requests)
                return (a.session, a.sequences.first) < (b.session, b.sequences.first)
            }
    }

    /// What a host has, in the order of ids.
    func slots(of host: Int) -> [Int] {
        pieces.indices.filter { pieces[$0].serial != 0 && pieces[$0].host == host }
            .sorted { left, right in
                let (a, b) = (pieces[left].run.requests, pieces[right].run.requests)
                return (a.partition, a.session, a.sequences.first) < (b.partition, b.session, b.sequences.first)
            }
    }
}
