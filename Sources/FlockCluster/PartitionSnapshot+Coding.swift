// Flockwork · Apache-2.0 · see LICENSE

// A part of a partition's state in bytes, for another replica and for the disk. What is read is whole: runs follow each
// other, and the outcomes of a run in parts lie inside of it, so that a replica may take it over without another look.

package import FlockWire

extension SnapshotPart {
    /// Parts of a snapshot.
    static let mostParts = 1 << 20
    /// One without sessions.
    private static let smallestSize = 48

    /// A bound on the bytes that `write` appends.
    var encodedBound: Int { sessions.reduce(96) { $0 + $1.encodedBound } }

    /// Appends all but the epoch: index, its entry's epoch, time, hash (u64 each), next session, number, count,
    /// sessions (u32 each), then the sessions.
    func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(index)
        writer.write(entryEpoch)
        writer.write(time.nanoseconds)
        writer.write(hash)
        writer.write(nextSession)
        writer.write(UInt32(number))
        writer.write(UInt32(count))
        writer.write(UInt32(sessions.count))
        for session in sessions { session.write(to: &writer, limits: limits) }
        writer.align(to: 8)
    }

    /// All parts of a snapshot in one, for the disk: their number (u32), zero (u32), then each with its epoch (u64).
    package static func encoded(_ parts: [SnapshotPart], limits: Limits) -> Bytes {
        var writer = ByteWriter(capacity: parts.reduce(64) { $0 + $1.encodedBound + 16 })
        writer.write(UInt32(parts.count))
        writer.write(UInt32(0))
        for part in parts {
            writer.write(part.epoch)
            part.write(to: &writer, limits: limits)
        }
        return writer.finish()
    }

    /// Reads what `encoded` wrote: all parts of one snapshot, in order.
    package static func decoded(_ bytes: Bytes, limits: Limits) throws(WireError) -> [SnapshotPart] {
        var reader = ByteReader(bytes)
        let count = try reader.readLength(
            of: "parts", limit: mostParts, named: .codingElements, minimumSize: 8 + smallestSize)
        guard try reader.read(UInt32.self) == 0 else { throw .malformed("parts of a snapshot") }
        var parts: [SnapshotPart] = []
        for number in 0..<count {
            let epoch: UInt64 = try reader.read()
            let part = try SnapshotPart(epoch: epoch, from: &reader, limits: limits, inPlace: false)
            guard part.number == number, part.count == count, part.index == parts.first?.index ?? part.index else {
                throw .malformed("part \(part.number) of \(part.count)")
            }
            parts.append(part)
        }
        try reader.finish()
        return parts
    }

    init(epoch: UInt64, from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        let (index, entryEpoch): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let (time, hash): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let nextSession: UInt32 = try reader.read()
        let (number, count) = (Int(try reader.read(UInt32.self)), Int(try reader.read(UInt32.self)))
        guard count <= Self.mostParts, number < count else { throw .malformed("part \(number) of \(count)") }
        let held = try reader.readLength(
            of: "sessions", limit: limits.sessionsPerPartition, named: .sessionsPerPartition,
            minimumSize: SessionSnapshot.smallestSize)
        var sessions: [SessionSnapshot] = []
        for _ in 0..<held {
            let session = try SessionSnapshot(from: &reader, limits: limits, inPlace: inPlace)
            if let last = sessions.last, last.id >= session.id { throw .malformed("sessions out of order") }
            sessions.append(session)
        }
        try reader.align(to: 8)
        self.init(
            epoch: epoch, index: index, entryEpoch: entryEpoch, time: Tick(nanoseconds: time), hash: hash,
            nextSession: nextSession, number: number, count: count, sessions: sessions)
    }
}

extension SessionSnapshot {
    fileprivate var encodedBound: Int { entries.reduce(72) { $0 + $1.encodedBound } }
    /// One without runs.
    fileprivate static let smallestSize = 56

    /// Appends id, secret (two), window, base, next (u64 each), pipeline, runs (u32 each), then the runs.
    fileprivate func write(to writer: inout ByteWriter, limits: Limits) {
        writer.align(to: 8)
        writer.write(id.rawValue)
        writer.write(secret.high)
        writer.write(secret.low)
        writer.write(UInt64(window))
        writer.write(base)
        writer.write(next)
        writer.write(pipeline)
        writer.write(UInt32(entries.count))
        for entry in entries { entry.write(to: &writer, limits: limits) }
    }

    fileprivate init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        try reader.align(to: 8)
        let id = SessionID(rawValue: try reader.read())
        let secret = SessionSecret(try reader.read(), try reader.read())
        let window: UInt64 = try reader.read()
        guard window <= UInt64(limits.sessionWindow) else { throw .overLimit(.sessionWindow, "window of a session") }
        let (base, next): (UInt64, UInt64) = (try reader.read(), try reader.read())
        guard base <= next, next - base <= UInt64(Int32.max) else { throw .malformed("sequences of a session") }
        let pipeline: UInt32 = try reader.read()
        let count = try reader.readLength(
            of: "runs of a session", limit: Int(Int32.max), named: .sessionWindow,
            minimumSize: SessionEntry.smallestSize)
        var entries: [SessionEntry] = []
        for _ in 0..<count {
            let entry = try SessionEntry(from: &reader, limits: limits, inPlace: inPlace)
            guard entries.last.map({ $0.sequences.end == entry.sequences.first }) ?? true,
                entry.sequences.end > base, entry.sequences.end <= next
            else { throw .malformed("runs of a session") }
            entries.append(entry)
        }
        self.init(
            id: id, pipeline: pipeline, secret: secret, window: Int(window), base: base, next: next, entries: entries)
    }
}

extension SessionEntry {
    private enum Kind: UInt8 {
        case open = 1
        case done, freed, split
    }

    /// The sequences, deadline, time to live, numbers of deaths and failures, kind and whether there is a trace.
    fileprivate static let smallestSize = 48

    fileprivate var encodedBound: Int {
        let head = 96 + 24 * (deaths.count + failures.count)
        switch body {
        case .open(let items): return head + items.encodedSize
        case .done(let held): return head + held.encodedBound
        case .freed: return head
        case .split(let split):
            let start = head + 24 + (split.items?.encodedSize ?? 0)
            return split.pieces.reduce(start) { $0 + 24 + ($1.held?.encodedBound ?? 0) }
        }
    }

    fileprivate func write(to writer: inout ByteWriter, limits: Limits) {
        writer.align(to: 8)
        sequences.write(to: &writer)
        writer.write(deadline.nanoseconds)
        writer.write(timeToLive)
        writer.write(UInt32(deaths.count))
        writer.write(UInt32(failures.count))
        writer.write(UInt32(trace == nil ? 0 : 1))
        let kind: Kind =
            switch body {
            case .open: .open
            case .done: .done
            case .freed: .freed
            case .split: .split
            }
        writer.write(UInt32(kind.rawValue))
        trace?.write(to: &writer)
        for tally in deaths + failures {
            tally.sequences.write(to: &writer)
            writer.write(UInt64(tally.count))
        }
        switch body {
        case .open(let items): items.write(to: &writer)
        case .done(let held): held.write(sequences, to: &writer, limits: limits)
        case .freed: break
        case .split(let split):
            writer.write(UInt32(split.items == nil ? 0 : 1))
            writer.write(UInt32(split.pieces.count))
            split.items?.write(to: &writer)
            for piece in split.pieces {
                piece.sequences.write(to: &writer)
                writer.write(UInt8(piece.held == nil ? 0 : 1))
                piece.held?.write(piece.sequences, to: &writer, limits: limits)
            }
        }
    }

    fileprivate init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        try reader.align(to: 8)
        let sequences = try SequenceRun(from: &reader, limits: limits)
        guard sequences.count > 0 else { throw .malformed("run of a session") }
        let (deadline, timeToLive): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let (dead, failed): (UInt32, UInt32) = (try reader.read(), try reader.read())
        let (traced, raw): (UInt32, UInt32) = (try reader.read(), try reader.read())
        guard traced <= 1, let kind = UInt8(exactly: raw).flatMap(Kind.init) else {
            throw .malformed("run of a session: \(raw)")
        }
        let trace = traced == 0 ? nil : try TraceContext(from: &reader)
        guard max(dead, failed) <= sequences.count, Int(dead) + Int(failed) <= reader.remaining / Tally.size else {
            throw .malformed("tallies of a run: \(dead), \(failed)")
        }
        let deaths = try [Tally](Int(dead), of: sequences, from: &reader, limits: limits)
        let failures = try [Tally](Int(failed), of: sequences, from: &reader, limits: limits)
        let body: Body
        switch kind {
        case .open:
            let items = try ItemBuffer(from: &reader, limits: limits).kept(inPlace: inPlace)
            guard items.count == sequences.count else { throw .malformed("items of a run") }
            body = .open(items)
        case .done: body = .done(try Held(of: sequences, from: &reader, limits: limits, inPlace: inPlace))
        case .freed: body = .freed
        case .split: body = .split(try Split(of: sequences, from: &reader, limits: limits, inPlace: inPlace))
        }
        self.init(
            sequences: sequences, deadline: Tick(nanoseconds: deadline), trace: trace, timeToLive: timeToLive,
            deaths: deaths, failures: failures, body: body)
    }
}

extension Tally {
    fileprivate static let size = 24

    fileprivate init(
        of run: SequenceRun, from reader: inout ByteReader, limits: Limits
    ) throws(WireError) {
        let sequences = try SequenceRun(from: &reader, limits: limits)
        let count: UInt64 = try reader.read()
        guard sequences.count > 0, sequences.inside(run) == sequences else { throw .malformed("tally of a run") }
        guard count <= 1 << 20 else { throw .overLimit(.attempts, "tally of a run") }
        self.init(sequences, Int(count))
    }
}

extension [Tally] {
    /// Ascending and apart.
    fileprivate init(
        _ count: Int, of run: SequenceRun, from reader: inout ByteReader, limits: Limits
    ) throws(WireError) {
        self = []
        for _ in 0..<count {
            let tally = try Tally(of: run, from: &reader, limits: limits)
            if let last, last.sequences.end > tally.sequences.first { throw .malformed("tallies of a run") }
            append(tally)
        }
    }
}

extension SessionEntry.Split {
    fileprivate init(
        of sequences: SequenceRun, from reader: inout ByteReader, limits: Limits, inPlace: Bool
    ) throws(WireError) {
        let hasItems: UInt32 = try reader.read()
        let count = try reader.readLength(
            of: "parts of a run", limit: sequences.count, named: .itemsPerRun, minimumSize: 17)
        var items: ItemBuffer?
        if hasItems == 1 {
            let read = try ItemBuffer(from: &reader, limits: limits).kept(inPlace: inPlace)
            guard read.count == sequences.count else { throw .malformed("items of a run") }
            items = read
        }
        var pieces: [Piece] = []
        var (end, open) = (sequences.first, sequences.count)
        for _ in 0..<count {
            let run = try SequenceRun(from: &reader, limits: limits)
            guard run.count > 0, run.first >= end, run.end <= sequences.end else { throw .malformed("part of a run") }
            end = run.end
            open -= run.count
            let isHeld: UInt8 = try reader.read()
            guard isHeld <= 1 else { throw .malformed("part of a run") }
            let held = isHeld == 0 ? nil : try Held(of: run, from: &reader, limits: limits, inPlace: inPlace)
            pieces.append(Piece(sequences: run, held: held))
        }
        guard hasItems == (open > 0 ? 1 : 0) else { throw .malformed("items of a run") }
        self.init(items: items, open: open, pieces: pieces)
    }
}

extension Held {
    fileprivate var encodedBound: Int { 64 + outcome.encodedBound }

    /// Appends bytes and end (u64 each), then an `OutcomeRun`.
    fileprivate func write(_ sequences: SequenceRun, to writer: inout ByteWriter, limits: Limits) {
        writer.write(UInt64(bytes))
        writer.write(expires.nanoseconds)
        OutcomeRun(sequences: sequences, outcome: outcome).write(to: &writer, limits: limits)
    }

    fileprivate init(
        of sequences: SequenceRun, from reader: inout ByteReader, limits: Limits, inPlace: Bool
    ) throws(WireError) {
        let (bytes, expires): (UInt64, UInt64) = (try reader.read(), try reader.read())
        guard bytes <= UInt64(limits.unreadResultBytes) else {
            throw .overLimit(.unreadResultBytes, "bytes of an outcome: \(bytes)")
        }
        let run = try OutcomeRun(from: &reader, limits: limits).kept(inPlace: inPlace)
        guard run.sequences == sequences else { throw .malformed("sequences of an outcome") }
        self.init(outcome: run.outcome, bytes: Int(bytes), expires: Tick(nanoseconds: expires))
    }
}

extension RunOutcome {
    /// A bound on the bytes that it takes in an `OutcomeRun`.
    var encodedBound: Int {
        switch self {
        case .values(let items, let filtered): 32 + items.encodedSize + (filtered == nil ? 0 : items.count / 8 + 8)
        case .filtered: 16
        case .failed(let error):
            64 + error.message.utf8.count + (error.stage?.utf8.count ?? 0) + (error.node?.rawValue.utf8.count ?? 0)
        }
    }
}
