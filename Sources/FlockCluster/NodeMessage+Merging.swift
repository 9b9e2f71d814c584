// Flockwork · Apache-2.0 · see LICENSE

// A replica says what it has to say after each event. What it says twice in one turn of its process's loop to the same
// member is said once: entries follow each other in one append, and of acknowledgements the last says all.

package import FlockWire

extension NodeMessage {
    /// Takes in the message that would follow it; false if they are to be sent one after the other.
    ///
    /// Whoever receives the one is afterwards as if it had received both.
    package mutating func absorb(_ next: NodeMessage) -> Bool {
        guard case .replication(let from, let to, let partition, let first) = self,
            case .replication(from, to, partition, let second) = next
        else { return false }
        switch (first, second) {
        case (.appended(let epoch, let through, let committed), .appended(let epoch2, let through2, let committed2)):
            guard epoch == epoch2 else { return false }
            self = .replication(
                from: from, to: to, partition,
                .appended(epoch: epoch, through: max(through, through2), committed: max(committed, committed2)))
            return true
        case (.append(var append), .append(let append2)):
            guard append.isFollowed(by: append2) else { return false }
            // So that the entries have one owner while they become more.
            self = next
            append.entries += append2.entries
            append.commit = max(append.commit, append2.commit)
            append.held = max(append.held, append2.held)
            self = .replication(from: from, to: to, partition, .append(append))
            return true
        default: return false
        }
    }

    /// The partition whose log it is about, if it is.
    package var replicated: PartitionID? {
        if case .replication(_, _, let partition, _) = self { partition } else { nil }
    }
}

extension ReplicationAppend {
    /// Entries of a message that takes in another one.
    private static let mergedEntries = 64
    /// And their bytes, about.
    private static let mergedBytes = 64 << 10

    fileprivate func isFollowed(by next: ReplicationAppend) -> Bool {
        epoch == next.epoch && next.previousIndex == previousIndex + UInt64(entries.count)
            && next.previousEpoch == (entries.last?.epoch ?? previousEpoch)
            && entries.count + next.entries.count <= Self.mergedEntries
            && size + next.size <= Self.mergedBytes
    }
    private var size: Int { entries.reduce(0) { $0 + $1.encodedSize } }
}
