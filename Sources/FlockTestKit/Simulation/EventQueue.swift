// Flockwork · Apache-2.0 · see LICENSE

// What is going to happen, by virtual time and then by the order in which it was decided: two events at one time have
// an order, so a run can be repeated.

/// Events in the order of (time, serial). A heap of small keys, four children each; events lie still in a slab.
package struct EventQueue<Event> {
    /// An event and when it happens.
    package struct Due {
        package let time: UInt64
        package let event: Event
    }

    private struct Key {
        var time: UInt64
        var serial: UInt64
        var slot: Int

        @inline(__always)
        func isBefore(_ other: Key) -> Bool {
            time != other.time ? time < other.time : serial < other.serial
        }
    }

    private var heap: [Key] = []
    private var slab: [Event?] = []
    private var free: [Int] = []
    private var nextSerial: UInt64 = 0

    package init() {}

    /// Events that wait.
    package var count: Int { heap.count }
    /// When the next one is due.
    package var nextTime: UInt64? { heap.first?.time }

    /// Adds an event.
    package mutating func push(_ event: Event, at time: UInt64) {
        let slot: Int
        if let reused = free.popLast() {
            slot = reused
            slab[slot] = event
        } else {
            slot = slab.count
            slab.append(event)
        }
        let key = Key(time: time, serial: nextSerial, slot: slot)
        nextSerial += 1
        heap.append(key)
        heap.withUnsafeMutableBufferPointer { heap in
            var child = heap.count - 1
            while child > 0 {
                let parent = (child - 1) / 4
                guard key.isBefore(heap[parent]) else { break }
                heap[child] = heap[parent]
                child = parent
            }
            heap[child] = key
        }
    }

    /// The next event.
    package mutating func pop() -> Due? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty { heap.withUnsafeMutableBufferPointer { Self.replaceFirst(of: $0, by: last) } }
        // Moved out, not copied.
        guard let event = slab[first.slot].take() else { preconditionFailure("event \(first.serial) was taken twice") }
        free.append(first.slot)
        return Due(time: first.time, event: event)
    }

    @inline(__always)
    private static func replaceFirst(of heap: UnsafeMutableBufferPointer<Key>, by last: Key) {
        var parent = 0
        while true {
            let first = 4 * parent + 1
            guard first < heap.count else { break }
            var child = first
            var other = first + 1
            while other < min(first + 4, heap.count) {
                if heap[other].isBefore(heap[child]) { child = other }
                other += 1
            }
            guard heap[child].isBefore(last) else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
    }
}
