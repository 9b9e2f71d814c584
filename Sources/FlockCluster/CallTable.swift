// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// Calls of clients that a replica has not answered yet. A replica knows a call by one number, the index of its slot
/// and a serial: an answer that comes twice, or too late, finds nobody.
struct CallTable: Sendable {
    struct Call: Sendable {
        var connection: UInt64
        var number: UInt64
        var partition: PartitionID
        var serial: UInt32
        var isOpen: Bool
    }

    private var calls: [Call] = []
    private var free: [Int] = []
    private var nextSerial: UInt32 = 1

    mutating func insert(connection: UInt64, number: UInt64, partition: PartitionID) -> UInt64 {
        nextSerial = nextSerial == .max ? 1 : nextSerial + 1
        let call = Call(
            connection: connection, number: number, partition: partition, serial: nextSerial, isOpen: true)
        let slot: Int
        if let reused = free.popLast() {
            slot = reused
            calls[slot] = call
        } else {
            slot = calls.count
            calls.append(call)
        }
        return UInt64(nextSerial) << 32 | UInt64(slot)
    }

    mutating func take(_ reply: UInt64) -> (connection: UInt64, number: UInt64)? {
        let slot = Int(reply & 0xFFFF_FFFF)
        guard slot < calls.count, calls[slot].isOpen, UInt64(calls[slot].serial) == reply >> 32 else { return nil }
        calls[slot].isOpen = false
        free.append(slot)
        return (calls[slot].connection, calls[slot].number)
    }

    /// Takes all calls of a partition, in the order of their slots.
    mutating func takeAll(of partition: PartitionID) -> [(connection: UInt64, number: UInt64)] {
        var taken: [(connection: UInt64, number: UInt64)] = []
        for slot in calls.indices where calls[slot].isOpen && calls[slot].partition == partition {
            calls[slot].isOpen = false
            free.append(slot)
            taken.append((calls[slot].connection, calls[slot].number))
        }
        return taken
    }

    /// Forgets the calls of a connection that is gone.
    mutating func drop(connection: UInt64) {
        for slot in calls.indices where calls[slot].isOpen && calls[slot].connection == connection {
            calls[slot].isOpen = false
            free.append(slot)
        }
    }
}
