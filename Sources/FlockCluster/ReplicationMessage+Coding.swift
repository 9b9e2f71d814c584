// Flockwork · Apache-2.0 · see LICENSE

// Replication in bytes: fixed widths, so that entries begin at a multiple of 8 and are read in place.

internal import FlockWire

extension ReplicationMessage {
    private enum Kind: UInt8 {
        case append = 1
        case appended, mismatch, snapshot, received, stale
    }

    /// A bound on the bytes that `write` appends.
    var encodedBound: Int {
        switch self {
        case .append(let append): append.entries.reduce(64) { $0 + $1.encodedBound }
        case .snapshot(let part): part.encodedBound
        case .appended, .mismatch, .received, .stale: 48
        }
    }

    /// Appends the kind (u64), the epoch (u64), then the fields.
    func write(to writer: inout ByteWriter, limits: Limits) {
        func head(_ kind: Kind, _ numbers: UInt64...) {
            writer.write(UInt64(kind.rawValue))
            writer.write(epoch)
            for number in numbers { writer.write(number) }
        }
        switch self {
        case .append(let append):
            head(
                .append, append.previousIndex, append.previousEpoch, append.commit, append.held,
                UInt64(append.entries.count))
            for entry in append.entries { entry.write(to: &writer, limits: limits) }
        case .appended(_, let through, let committed): head(.appended, through, committed)
        case .mismatch(_, let committed, let last, let lastEpoch): head(.mismatch, committed, last, lastEpoch)
        case .snapshot(let part):
            head(.snapshot)
            part.write(to: &writer, limits: limits)
        case .received(_, let index, let parts): head(.received, index, UInt64(parts))
        case .stale: head(.stale)
        }
    }

    init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        let raw: UInt64 = try reader.read()
        guard let kind = UInt8(exactly: raw).flatMap(Kind.init) else {
            throw .malformed("replication message \(raw)")
        }
        let epoch: UInt64 = try reader.read()
        switch kind {
        case .append:
            self = .append(try ReplicationAppend(epoch: epoch, from: &reader, limits: limits, inPlace: inPlace))
        case .appended: self = .appended(epoch: epoch, through: try reader.read(), committed: try reader.read())
        case .mismatch:
            self = .mismatch(
                epoch: epoch, committed: try reader.read(), last: try reader.read(), lastEpoch: try reader.read())
        case .snapshot:
            self = .snapshot(try SnapshotPart(epoch: epoch, from: &reader, limits: limits, inPlace: inPlace))
        case .received:
            let index: UInt64 = try reader.read()
            let parts = try reader.read(UInt64.self)
            guard parts <= UInt64(SnapshotPart.mostParts) else { throw .malformed("parts of a snapshot") }
            self = .received(epoch: epoch, index: index, parts: Int(parts))
        case .stale: self = .stale(epoch: epoch)
        }
    }
}

extension LogEntry {
    /// A bound on the bytes that it takes: `encodedSize` is about right, its alignment and texts come on top.
    fileprivate var encodedBound: Int { encodedSize + 80 }
}

extension ReplicationAppend {
    fileprivate init(
        epoch: UInt64, from reader: inout ByteReader, limits: Limits, inPlace: Bool
    ) throws(WireError) {
        let (index, indexEpoch): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let (commit, held): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let count: UInt64 = try reader.read()
        guard count <= UInt64(limits.uncommittedEntries) else {
            throw .overLimit(.uncommittedEntries, "entries of a message: \(count)")
        }
        guard count <= reader.remaining / LogEntry.smallestSize else { throw .truncated }
        guard index <= .max - count else { throw .malformed("index of an append") }
        var entries: [LogEntry] = []
        entries.reserveCapacity(Int(count))
        for place in 0..<count {
            let entry = try LogEntry(from: &reader, limits: limits, inPlace: inPlace)
            guard entry.index == index + place + 1 else { throw .malformed("entries out of order") }
            entries.append(entry)
        }
        self.init(
            epoch: epoch, previousIndex: index, previousEpoch: indexEpoch, commit: commit, held: held,
            entries: entries)
    }
}

extension LogEntry {
    /// Epoch, index, time, kind and one number.
    static let smallestSize = 40
}
