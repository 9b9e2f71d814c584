// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

// What a client and an inbox say to each other. A submit carries what the client has taken out of its outbox since, so
// that a stream of requests needs no acknowledgement frames of its own.

/// A session of a client with one partition of an inbox. Whoever holds it can read the session's outcomes, so keep it
/// as a secret; with it, a caller that restarted resumes its outbox.
public struct SessionToken: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The partition's node when the session was opened.
    public var node: NodeID
    public var partition: PartitionID
    public var session: SessionID
    public var pipeline: String
    /// The pipeline's fingerprint.
    public var fingerprint: UInt64
    var secretHigh: UInt64
    var secretLow: UInt64
    /// Sequences that may be open at once.
    public var window: Int

    var key: SessionKey {
        SessionKey(partition: partition, session: session, secretHigh: secretHigh, secretLow: secretLow)
    }
    /// Without the secret.
    public var description: String { "\(pipeline)@\(node)/\(partition)/\(session)" }
}

/// Which session, and the proof that the caller may use it.
struct SessionKey: Hashable, Sendable, Codable {
    var partition: PartitionID
    var session: SessionID
    var secretHigh: UInt64
    var secretLow: UInt64

    func write(to writer: inout ByteWriter) {
        writer.write(partition.rawValue)
        writer.write(UInt16(0))
        writer.write(UInt32(0))
        writer.write(session.rawValue)
        writer.write(secretHigh)
        writer.write(secretLow)
    }

    init(partition: PartitionID, session: SessionID, secretHigh: UInt64, secretLow: UInt64) {
        self.partition = partition
        self.session = session
        self.secretHigh = secretHigh
        self.secretLow = secretLow
    }

    init(from reader: inout ByteReader) throws(WireError) {
        partition = PartitionID(rawValue: try reader.read())
        guard try reader.read(UInt16.self) == 0, try reader.read(UInt32.self) == 0 else {
            throw .malformed("session key")
        }
        session = SessionID(rawValue: try reader.read())
        secretHigh = try reader.read()
        secretLow = try reader.read()
    }
}

/// A run of requests on its way into an inbox.
struct SubmittedRun: Sendable {
    var first: UInt64
    var items: ItemBuffer
    var deadline: Duration?
    var trace: TraceContext?
    /// The client waits to hear that it was accepted; otherwise an outcome says it.
    var notify: Bool

    var sequences: SequenceRun { SequenceRun(first: first, count: items.count) }

    /// The first `count` items.
    func prefix(_ count: Int) -> SubmittedRun {
        guard count < items.count else { return self }
        var part = self
        part.items = items.slice(from: 0, count: count)
        return part
    }
}

/// `InboxActor.submit`: what the client has taken, then its new requests. Without requests it is an acknowledgement.
struct SubmitMessage: Sendable {
    var key: SessionKey
    /// Sequences whose outcomes the client has taken.
    var taken: [SequenceRun]
    /// Every sequence below has been taken.
    var lowestOpen: UInt64
    var runs: [SubmittedRun]

    /// Key (32 bytes), lowest open (u64), counts of ranges and runs (u32 each), ranges (u64, u64), then per run:
    /// first (u64), deadline in microseconds (u64, 0 = none), flags (u32: 1 notify, 2 trace), zero (u32), trace, items.
    func write(to writer: inout ByteWriter) {
        key.write(to: &writer)
        writer.write(lowestOpen)
        writer.write(UInt32(taken.count))
        writer.write(UInt32(runs.count))
        for range in taken {
            writer.write(range.first)
            writer.write(UInt64(range.count))
        }
        for run in runs {
            writer.write(run.first)
            writer.write(run.deadline.map { max(1, $0.clampedNanoseconds / 1000) } ?? 0)
            writer.write(UInt32((run.notify ? 1 : 0) | (run.trace == nil ? 0 : 2)))
            writer.write(UInt32(0))
            run.trace?.write(to: &writer)
            run.items.write(to: &writer)
        }
    }

    init(key: SessionKey, taken: [SequenceRun] = [], lowestOpen: UInt64, runs: [SubmittedRun] = []) {
        self.key = key
        self.taken = taken
        self.lowestOpen = lowestOpen
        self.runs = runs
    }

    init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        key = try SessionKey(from: &reader)
        lowestOpen = try reader.read()
        let ranges = Int(try reader.read(UInt32.self))
        let count = Int(try reader.read(UInt32.self))
        guard ranges <= limits.runsPerFrame, count <= limits.runsPerFrame else {
            throw .overLimit(.runsPerFrame, "runs of a submit")
        }
        taken = []
        taken.reserveCapacity(ranges)
        for _ in 0..<ranges {
            let first: UInt64 = try reader.read()
            let length: UInt64 = try reader.read()
            guard length <= UInt64(Int32.max), first <= UInt64.max - length else { throw .malformed("taken range") }
            taken.append(SequenceRun(first: first, count: Int(length)))
        }
        runs = []
        runs.reserveCapacity(count)
        for _ in 0..<count { runs.append(try SubmittedRun(from: &reader, limits: limits)) }
        try reader.finish()
    }
}

extension SubmittedRun {
    init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        // The items before this run were padded to 8 bytes by their writer.
        first = try reader.read()
        let microseconds: UInt64 = try reader.read()
        deadline = microseconds == 0 ? nil : .microseconds(Int64(clamping: microseconds))
        let flags: UInt32 = try reader.read()
        guard flags <= 3, try reader.read(UInt32.self) == 0 else { throw .malformed("submit flags") }
        notify = flags & 1 != 0
        trace = flags & 2 != 0 ? try TraceContext(from: &reader) : nil
        items = try ItemBuffer(from: &reader, limits: limits)
        guard first <= UInt64.max - UInt64(items.count), items.count > 0 else { throw .malformed("submitted run") }
    }
}

/// `InboxActor.cancel`.
struct CancelMessage: Sendable {
    var key: SessionKey
    var sequences: SequenceRun

    func write(to writer: inout ByteWriter) {
        key.write(to: &writer)
        writer.write(sequences.first)
        writer.write(UInt64(sequences.count))
    }

    init(key: SessionKey, sequences: SequenceRun) {
        self.key = key
        self.sequences = sequences
    }

    init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        key = try SessionKey(from: &reader)
        let first: UInt64 = try reader.read()
        let count: UInt64 = try reader.read()
        guard count <= UInt64(limits.sessionWindow) * 2 else { throw .overLimit(.sessionWindow, "cancelled run") }
        guard first <= UInt64.max - count else {
            throw .malformed("cancelled run")
        }
        sequences = SequenceRun(first: first, count: Int(count))
        try reader.finish()
    }
}

/// A part of what `InboxActor.fetch` streams: acceptance, refusal, outcomes.
struct StreamPart: Sendable {
    /// Every sequence below was accepted.
    var accepted: UInt64?
    /// From this sequence on nothing was accepted, and why.
    var refused: Refusal?
    var outcomes: [OutcomeRun] = []

    struct Refusal: Sendable {
        var from: UInt64
        var error: FlockError
    }

    /// Flags (u32: 1 accepted, 2 refused), count of outcome runs (u32), accepted (u64), refused from (u64) and error,
    /// then the outcome runs.
    func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(UInt32((accepted == nil ? 0 : 1) | (refused == nil ? 0 : 2)))
        writer.write(UInt32(outcomes.count))
        if let accepted { writer.write(accepted) }
        if let refused {
            writer.write(refused.from)
            refused.error.write(to: &writer, limits: limits)
        }
        for run in outcomes { run.write(to: &writer, limits: limits) }
    }

    init(accepted: UInt64? = nil, refused: Refusal? = nil, outcomes: [OutcomeRun] = []) {
        self.accepted = accepted
        self.refused = refused
        self.outcomes = outcomes
    }

    init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        let flags: UInt32 = try reader.read()
        let count = Int(try reader.read(UInt32.self))
        guard count <= limits.runsPerFrame else { throw .overLimit(.runsPerFrame, "runs of a stream part") }
        guard flags <= 3 else { throw .malformed("stream part") }
        if flags & 1 != 0 { accepted = try reader.read() }
        if flags & 2 != 0 {
            refused = Refusal(from: try reader.read(), error: try FlockError(from: &reader, limits: limits))
        }
        outcomes.reserveCapacity(count)
        for _ in 0..<count { outcomes.append(try OutcomeRun(from: &reader, limits: limits)) }
        try reader.finish()
    }
}

/// What a client asks for when it opens a session.
struct OpenRequest: Codable, Sendable {
    var pipeline: String
    var fingerprint: UInt64
    var window: Int
    /// Of all its requests.
    var priority = RequestPriority.normal
}

/// What a node tells a new client about its cluster.
struct ClusterDescription: Codable, Sendable {
    struct Member: Codable, Sendable {
        var node: NodeID
        var host: String
        var port: Int
    }
    var members: [Member]
    var pipelines: [PipelineInfo]
    /// Sessions move with their partitions, as views say.
    var isCluster = false
    /// Of the view; 0 without one.
    var version: UInt64 = 0
    /// By partition: the place of its primary in `members`, -1 for none.
    var primaries: [Int32] = []
}
