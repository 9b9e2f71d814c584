// Flockwork · Apache-2.0 · see LICENSE

// Sessions by id. Ids only grow, so a new one goes to the end of a sorted array of ids; sessions themselves stay in
// their slot. Iteration is in the order of ids, in every process.

internal import FlockWire

/// The sessions of a partition.
struct SessionTable: Sendable {
    private var ids: [SessionID] = []
    private var slots: [Int] = []
    private var free: [Int] = []
    private var storage: [Session] = []

    var count: Int { ids.count }

    /// Place `place` in the order of ids.
    func slot(at place: Int) -> Int { slots[place] }

    private func place(of id: SessionID) -> Int {
        var low = 0
        var high = ids.count
        while low < high {
            let middle = (low + high) / 2
            if ids[middle] < id { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Where the session lies until it is removed; nil if there is none.
    func slot(of id: SessionID) -> Int? {
        let place = place(of: id)
        return place < ids.count && ids[place] == id ? slots[place] : nil
    }

    // Not `_read`: what a coroutine yields may be read after its end (decision 0014).
    subscript(slot: Int) -> Session {
        @inline(__always) get { storage[slot] }
        @inline(__always) _modify { yield &storage[slot] }
    }

    mutating func insert(_ session: Session) {
        let place = place(of: session.id)
        precondition(place == ids.count || ids[place] != session.id, "\(session.id) exists")
        ids.insert(session.id, at: place)
        if let slot = free.popLast() {
            storage[slot] = session
            slots.insert(slot, at: place)
        } else {
            storage.append(session)
            slots.insert(storage.count - 1, at: place)
        }
    }

    mutating func remove(_ id: SessionID) {
        let place = place(of: id)
        precondition(place < ids.count && ids[place] == id, "\(id) does not exist")
        ids.remove(at: place)
        free.append(slots.remove(at: place))
    }
}
