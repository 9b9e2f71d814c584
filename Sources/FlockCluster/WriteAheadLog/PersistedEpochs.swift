// Flockwork · Apache-2.0 · see LICENSE

// The log says how far a partition is on the disk by index. A replica wants to know of which epoch the entry there is:
// what was written for an entry that is gone since must not count for the one that took its place.

internal import FlockWire

/// Which epoch the entries of each partition have: replicas count what is persisted only together with it.
struct PersistedEpochs: Sendable {
    /// Where an epoch begins, and where the log ends.
    private struct Marks {
        var starts: [(index: UInt64, epoch: UInt64)] = []
        var last: UInt64 = 0

        mutating func add(_ index: UInt64, _ epoch: UInt64) {
            last = index
            if starts.last?.epoch != epoch { starts.append((index, epoch)) }
        }

        mutating func cut(after index: UInt64) {
            last = min(last, index)
            while let start = starts.last, start.index > index { starts.removeLast() }
        }
    }

    private var partitions: [PartitionID: Marks] = [:]

    /// Partitions that have something in the log, ascending.
    var known: [PartitionID] { partitions.keys.sorted() }

    /// Index of the last entry given to the log; 0 for none.
    func last(of partition: PartitionID) -> UInt64 { partitions[partition]?.last ?? 0 }

    mutating func recovered(_ partition: RecoveredPartition) {
        var marks = Marks()
        if let snapshot = partition.snapshot { marks.add(snapshot.through, snapshot.epoch) }
        for entry in partition.entries { marks.add(entry.index, entry.epoch) }
        partitions[partition.partition] = marks
    }

    mutating func note(_ event: WALEvent) {
        switch event {
        case .append(let partition, let entries):
            for entry in entries { partitions[partition, default: Marks()].add(entry.index, entry.epoch) }
        case .truncate(let partition, let index): partitions[partition]?.cut(after: index)
        case .snapshot(let partition, let snapshot):
            var marks = Marks()
            marks.add(snapshot.through, snapshot.epoch)
            for entry in snapshot.tail { marks.add(entry.index, entry.epoch) }
            partitions[partition] = marks
        case .drop(let partition, _): partitions[partition] = nil
        case .turn, .idle, .flushed, .failed: break
        }
    }

    /// The epoch of the entry there; earlier ones are not asked for any more. Nil if the copy was dropped since.
    mutating func persisted(_ partition: PartitionID, through index: UInt64) -> UInt64? {
        guard let marks = partitions[partition], index <= marks.last,
            let place = marks.starts.lastIndex(where: { $0.index <= index })
        else { return nil }
        partitions[partition]?.starts.removeFirst(place)
        return marks.starts[place].epoch
    }
}
