// Flockwork · Apache-2.0 · see LICENSE

// The calls that wait for an answer, over one connection. A call's number is its slot and the slot's generation, so
// that an answer finds its waiter by an index, and an answer that comes too late finds nobody.

internal import FlockWire

/// A call that was sent to a peer, for `Peer.cancel`.
public struct CallNumber: Hashable, Sendable {
    /// Slot in the lower, generation in the upper 32 bits. Never zero.
    public let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    init(slot: Int, generation: UInt32) { rawValue = UInt64(generation) << 32 | UInt64(slot) }

    var slot: Int { Int(truncatingIfNeeded: rawValue & 0xFFFF_FFFF) }
    var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// Waiters by call number. Pure.
struct CallTable<Waiter> {
    private struct Slot {
        /// Of the current or next waiter; from 1 on.
        var generation: UInt32 = 1
        var deadline = Tick.never
        var waiter: Waiter?
    }

    private let limit: Int
    private var slots: [Slot] = []
    private var free: [UInt32] = []
    private(set) var count = 0

    init(limit: Int) { self.limit = limit }

    /// Slots ever used at once: what `expired` has to look through.
    var capacity: Int { slots.count }

    /// Nil when the table is full.
    mutating func insert(_ waiter: Waiter, deadline: Tick) -> CallNumber? {
        let index: Int
        if let reused = free.popLast() {
            index = Int(reused)
        } else {
            guard slots.count < limit else { return nil }
            index = slots.count
            slots.append(Slot())
        }
        slots[index].waiter = waiter
        slots[index].deadline = deadline
        count += 1
        return CallNumber(slot: index, generation: slots[index].generation)
    }

    subscript(number: CallNumber) -> Waiter? {
        guard number.slot < slots.count, slots[number.slot].generation == number.generation else { return nil }
        return slots[number.slot].waiter
    }

    mutating func remove(_ number: CallNumber) -> Waiter? {
        guard number.slot < slots.count, slots[number.slot].generation == number.generation else { return nil }
        return take(number.slot)
    }

    private mutating func take(_ index: Int) -> Waiter? {
        guard let waiter = slots[index].waiter.take() else { return nil }
        slots[index].generation = slots[index].generation == .max ? 1 : slots[index].generation + 1
        free.append(UInt32(index))
        count -= 1
        return waiter
    }

    /// Takes out what is due at `now`; also says when the next is due.
    mutating func expired(at now: Tick) -> (due: [(CallNumber, Waiter)], next: Tick) {
        var due: [(CallNumber, Waiter)] = []
        var next = Tick.never
        for index in slots.indices where slots[index].waiter != nil {
            if slots[index].deadline <= now {
                let number = CallNumber(slot: index, generation: slots[index].generation)
                if let waiter = take(index) { due.append((number, waiter)) }
            } else {
                next = min(next, slots[index].deadline)
            }
        }
        return (due, next)
    }

    mutating func removeAll() -> [Waiter] {
        slots.indices.compactMap { take($0) }
    }
}
