// Flockwork · Apache-2.0 · see LICENSE

// A log entry as bytes, for the disk and for other replicas. Little-endian, aligned to 8 bytes, so that the items of an
// accepted run lie in place when they are read back.

public import FlockWire

extension LogEntry {
    private enum Kind: UInt8 {
        case epoch = 1
        case openSession, closeSession, accept, completed, failed, acked, expired, tried
    }

    /// Appends: epoch, index, time (u64 each), kind (u8, padded to 8), then what the operation says.
    public func write(to writer: inout ByteWriter, limits: Limits) {
        writer.align(to: 8)
        writer.write(epoch)
        writer.write(index)
        writer.write(time.nanoseconds)
        func head(_ kind: Kind, _ session: SessionID) {
            writer.write(UInt64(kind.rawValue))
            writer.write(session.rawValue)
        }
        switch operation {
        case .epoch(let number):
            writer.write(UInt64(Kind.epoch.rawValue))
            writer.write(number)
        case .openSession(let id, let pipeline, let secret, let window):
            head(.openSession, id)
            writer.write(secret.high)
            writer.write(secret.low)
            writer.write(UInt64(pipeline))
            writer.write(UInt64(window))
        case .closeSession(let id): head(.closeSession, id)
        case .accept(let id, let run, let timeToLive):
            head(.accept, id)
            writer.write(timeToLive)
            run.write(to: &writer)
        case .completed(let id, let run):
            head(.completed, id)
            run.write(to: &writer, limits: limits)
        case .failed(let id, let run, let attempts):
            head(.failed, id)
            run.write(to: &writer)
            writer.write(UInt64(attempts))
        case .tried(let id, let run, let attempts):
            head(.tried, id)
            run.write(to: &writer)
            writer.write(UInt64(attempts))
        case .acked(let id, let runs, let lowestOpen):
            head(.acked, id)
            writer.write(lowestOpen)
            writer.write(UInt64(runs.count))
            for run in runs { run.write(to: &writer) }
        case .expired(let id, let run):
            head(.expired, id)
            run.write(to: &writer)
        }
        writer.align(to: 8)
    }

    /// Reads what `write(to:limits:)` wrote. Its items do not pin a storage much larger than they are, unless they are
    /// to stay `inPlace` because most of that storage is kept for as long as they are.
    public convenience init(from reader: inout ByteReader, limits: Limits, inPlace: Bool = false) throws(WireError) {
        try reader.align(to: 8)
        let epoch: UInt64 = try reader.read()
        let index: UInt64 = try reader.read()
        let time = Tick(nanoseconds: try reader.read())
        let operation: PartitionOperation
        guard let kind = Kind(rawValue: UInt8(truncatingIfNeeded: try reader.read(UInt64.self))) else {
            throw .malformed("kind of a log entry")
        }
        let id = SessionID(rawValue: try reader.read())
        switch kind {
        case .epoch: operation = .epoch(id.rawValue)
        case .openSession:
            let secret = SessionSecret(try reader.read(), try reader.read())
            let pipeline = UInt32(truncatingIfNeeded: try reader.read(UInt64.self))
            let window = try reader.readNumber(of: "window", limit: limits.sessionWindow, named: .sessionWindow)
            operation = .openSession(id, pipeline: pipeline, secret: secret, window: window)
        case .closeSession: operation = .closeSession(id)
        case .accept:
            let timeToLive: UInt64 = try reader.read()
            operation = .accept(
                id, try AcceptRun(from: &reader, limits: limits, inPlace: inPlace), timeToLive: timeToLive)
        case .completed:
            operation = .completed(id, try OutcomeRun(from: &reader, limits: limits).kept(inPlace: inPlace))
        case .failed:
            let run = try SequenceRun(from: &reader, limits: limits)
            operation = .failed(
                id, run, attempts: try reader.readNumber(of: "attempts", limit: 1 << 20, named: .attempts))
        case .tried:
            let run = try SequenceRun(from: &reader, limits: limits)
            operation = .tried(
                id, run, attempts: try reader.readNumber(of: "attempts", limit: 1 << 20, named: .attempts))
        case .acked:
            let lowestOpen: UInt64 = try reader.read()
            let count = try reader.readNumber(of: "runs", limit: limits.runsPerFrame, named: .runsPerFrame)
            var runs: [SequenceRun] = []
            for _ in 0..<count { runs.append(try SequenceRun(from: &reader, limits: limits)) }
            operation = .acked(id, runs, lowestOpen: lowestOpen)
        case .expired: operation = .expired(id, try SequenceRun(from: &reader, limits: limits))
        }
        try reader.align(to: 8)
        self.init(epoch: epoch, index: index, time: time, operation: operation)
    }
}

extension AcceptRun {
    fileprivate func write(to writer: inout ByteWriter) {
        sequences.write(to: &writer)
        // 0 stands for none; a deadline of no time at all is one of a nanosecond.
        writer.write(deadline.map { max(1, $0.clampedNanoseconds) } ?? 0)
        writer.write(UInt64(trace == nil ? 0 : 1))
        trace?.write(to: &writer)
        items.write(to: &writer)
    }

    fileprivate init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        let sequences = try SequenceRun(from: &reader, limits: limits)
        let deadline: UInt64 = try reader.read()
        let traced: UInt64 = try reader.read()
        let trace = traced == 0 ? nil : try TraceContext(from: &reader)
        let items = try ItemBuffer(from: &reader, limits: limits)
        guard items.count == sequences.count else { throw .malformed("items of an accepted run") }
        self.init(
            sequences: sequences, items: items.kept(inPlace: inPlace),
            deadline: deadline == 0 ? nil : .nanoseconds(Int64(clamping: deadline)), trace: trace)
    }
}

extension ItemBuffer {
    /// These items, in place or without pinning much more than they are.
    func kept(inPlace: Bool) -> ItemBuffer { inPlace ? self : unpinned() }
}

extension OutcomeRun {
    /// The same with its values in place, or without pinning much more than they are.
    func kept(inPlace: Bool) -> OutcomeRun {
        guard !inPlace, case .values(let items, let filtered) = outcome else { return self }
        return OutcomeRun(sequences: sequences, outcome: .values(items.unpinned(), filtered: filtered))
    }
}

extension SequenceRun {
    func write(to writer: inout ByteWriter) {
        writer.write(first)
        writer.write(UInt64(count))
    }

    init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        let first: UInt64 = try reader.read()
        let count: UInt64 = try reader.read()
        // A run of sequences that are done may be the whole window, which is larger than a run of items may be.
        guard count <= UInt64(max(limits.sessionWindow, limits.itemsPerRun)), first <= .max - count else {
            throw .overLimit(.itemsPerRun, "sequences of a run")
        }
        self.init(first: first, count: Int(count))
    }
}

extension ByteReader {
    /// A u64 that counts something.
    fileprivate mutating func readNumber(of what: String, limit: Int, named name: Limit) throws(WireError) -> Int {
        let number: UInt64 = try read()
        guard number <= UInt64(limit) else {
            throw .overLimit(name, "\(what): \(number) of at most \(limit)")
        }
        return Int(number)
    }
}
