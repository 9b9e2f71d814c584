// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// The oldest record that each partition needs, ascending by partition: a segment below all of them can go.
struct WALBases: Sendable {
    private var entries: [(partition: PartitionID, position: UInt64, isWanted: Bool)] = []

    /// The position of the partition's oldest record; nil if it needs none. A new one ends the wait for a snapshot.
    subscript(partition: PartitionID) -> UInt64? {
        get {
            let place = place(of: partition)
            guard place < entries.count, entries[place].partition == partition else { return nil }
            return entries[place].position
        }
        set {
            let place = place(of: partition)
            let isThere = place < entries.count && entries[place].partition == partition
            if let newValue {
                if isThere { entries.remove(at: place) }
                entries.insert((partition, newValue, false), at: place)
            } else if isThere {
                entries.remove(at: place)
            }
        }
    }

    /// The partitions that need a record before `position`.
    func partitions(before position: UInt64) -> [PartitionID] {
        entries.filter { $0.position < position }.map(\.partition)
    }

    /// Notes that a snapshot of the partition is wanted; false if it was before.
    mutating func want(_ partition: PartitionID) -> Bool {
        let place = place(of: partition)
        guard !entries[place].isWanted else { return false }
        entries[place].isWanted = true
        return true
    }

    private func place(of partition: PartitionID) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].partition < partition { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
