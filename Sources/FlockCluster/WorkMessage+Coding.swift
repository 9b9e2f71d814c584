// Flockwork · Apache-2.0 · see LICENSE

// Work between members in bytes. A run is named by partition, session and sequences as in the frames of stages.

internal import FlockWire

extension WorkFrame {
    /// Appends from, to (u32 each), first, expected (u64 each), messages (u32), zero (u32), then the messages.
    func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(from.rawValue)
        writer.write(to.rawValue)
        writer.write(first)
        writer.write(expected)
        writer.write(UInt32(messages.count))
        writer.write(UInt32(0))
        for message in messages { message.write(to: &writer, limits: limits) }
    }

    init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        let (from, to) = (try reader.readMember(), try reader.readMember())
        let (first, expected): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let count = try reader.readLength(
            of: "work messages", limit: limits.runsPerFrame, named: .runsPerFrame, minimumSize: 16)
        guard try reader.read(UInt32.self) == 0, first > 0, first <= .max - UInt64(count) else {
            throw .malformed("head of a work frame")
        }
        var messages: [WorkMessage] = []
        messages.reserveCapacity(count)
        for _ in 0..<count {
            messages.append(try WorkMessage(from: &reader, limits: limits, inPlace: inPlace))
        }
        self.init(from: from, to: to, first: first, expected: expected, messages: messages)
    }
}

extension WorkMessage {
    private enum Kind: UInt8 {
        case runs = 1
        case revoke, done, recorded
        case returned = 6
        case holding, held, hosts
    }

    /// A bound on the bytes that `write` appends.
    var encodedSize: Int {
        switch self {
        case .runs(_, let runs): runs.reduce(24) { $0 + 96 + $1.run.items.encodedSize }
        case .revoke, .recorded, .holding: 48
        case .done(_, _, _, _, let runs, let failed):
            runs.reduce(56 + 16 * failed.sequences.count) { $0 + $1.outcome.encodedBound }
        case .returned(_, let runs): 24 + 24 * runs.count
        case .held(_, _, let runs): 40 + 32 * runs.count
        case .hosts(let stages): 24 + 4 * stages.count
        }
    }

    /// Appends, at a multiple of 8: kind (u32), a number that each kind has (u32), then its fields.
    func write(to writer: inout ByteWriter, limits: Limits) {
        writer.align(to: 8)
        func head(_ kind: Kind, _ number: UInt32) {
            writer.write(UInt32(kind.rawValue))
            writer.write(number)
        }
        switch self {
        case .runs(let lane, let runs):
            head(.runs, lane)
            writer.write(UInt64(runs.count))
            for run in runs { run.write(to: &writer) }
        case .revoke(let lane, let run):
            head(.revoke, lane)
            run.write(to: &writer)
        case .done(let job, let lane, let partition, let session, let runs, let failed):
            head(.done, lane)
            writer.write(job)
            writer.write(session.rawValue)
            writer.write(UInt32(partition.rawValue))
            writer.write(UInt32(runs.count))
            writer.write(UInt32(clamping: failed.attempt))
            writer.write(UInt32(failed.sequences.count))
            for sequences in failed.sequences { sequences.write(to: &writer) }
            for run in runs { run.write(to: &writer, limits: limits) }
        case .recorded(let job):
            head(.recorded, 0)
            writer.write(job)
        case .returned(let lane, let runs):
            head(.returned, lane)
            writer.write(UInt64(runs.count))
            for run in runs { run.write(to: &writer) }
        case .holding(let partition, let epoch):
            head(.holding, UInt32(partition.rawValue))
            writer.write(epoch)
        case .held(let partition, let epoch, let runs):
            head(.held, UInt32(partition.rawValue))
            writer.write(epoch)
            writer.write(UInt64(runs.count))
            for run in runs {
                writer.write(run.lane)
                writer.write(UInt32(clamping: run.attempt))
                run.requests.write(to: &writer)
            }
        case .hosts(let stages):
            head(.hosts, 0)
            writer.write(UInt64(stages.count))
            for stage in stages { writer.write(stage) }
        }
    }

    init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        try reader.align(to: 8)
        let raw: UInt32 = try reader.read()
        guard let kind = UInt8(exactly: raw).flatMap(Kind.init) else { throw .malformed("work message \(raw)") }
        let number: UInt32 = try reader.read()
        switch kind {
        case .runs:
            let count = try reader.readCount(of: "runs", minimumSize: AssignedRun.smallestSize)
            var runs: [AssignedRun] = []
            runs.reserveCapacity(count)
            for _ in 0..<count { runs.append(try AssignedRun(from: &reader, limits: limits, inPlace: inPlace)) }
            self = .runs(lane: number, runs)
        case .revoke: self = .revoke(lane: number, try RequestRun(from: &reader, limits: limits))
        case .done: self = try Self.done(lane: number, from: &reader, limits: limits, inPlace: inPlace)
        case .recorded: self = .recorded(job: try reader.read())
        case .returned: self = .returned(lane: number, try reader.readRuns(limits))
        case .holding: self = .holding(try PartitionID(number: number), epoch: try reader.read())
        case .held:
            let partition = try PartitionID(number: number)
            let epoch: UInt64 = try reader.read()
            let count = try reader.readCount(of: "runs", minimumSize: 32)
            var runs: [LaneRun] = []
            runs.reserveCapacity(count)
            for _ in 0..<count {
                let (lane, attempt) = (try reader.read(UInt32.self), try reader.readAttempt())
                let requests = try RequestRun(from: &reader, limits: limits)
                runs.append(LaneRun(lane: lane, requests: requests, attempt: attempt))
            }
            self = .held(partition, epoch: epoch, runs)
        case .hosts:
            let count = try reader.readCount(of: "stages", minimumSize: 4)
            var stages: [UInt32] = []
            stages.reserveCapacity(count)
            for _ in 0..<count {
                let stage: UInt32 = try reader.read()
                if let last = stages.last, last >= stage { throw .malformed("stages out of order") }
                stages.append(stage)
            }
            self = .hosts(stages)
        }
    }

    private static func done(
        lane: UInt32, from reader: inout ByteReader, limits: Limits, inPlace: Bool
    ) throws(WireError) -> WorkMessage {
        let job: UInt64 = try reader.read()
        let session = SessionID(rawValue: try reader.read())
        let partition = try PartitionID(number: try reader.read())
        let count: UInt32 = try reader.read()
        let attempt = try reader.readAttempt()
        let parts = try reader.readLength(
            of: "failed parts", limit: limits.itemsPerRun, named: .itemsPerRun, minimumSize: 16)
        var failed = FailedRuns([], attempt: attempt)
        for _ in 0..<parts {
            let sequences = try SequenceRun(from: &reader, limits: limits)
            guard sequences.count > 0 else { throw .malformed("failed part of a run") }
            failed.sequences.append(sequences)
        }
        guard count <= limits.itemsPerRun else { throw .overLimit(.itemsPerRun, "outcomes: \(count)") }
        guard Int(count) <= reader.remaining / 13 else { throw .truncated }
        var runs: [OutcomeRun] = []
        runs.reserveCapacity(Int(count))
        for _ in 0..<count {
            runs.append(try OutcomeRun(from: &reader, limits: limits).kept(inPlace: inPlace))
        }
        return .done(job: job, lane: lane, partition, session, runs, failed)
    }
}

extension AssignedRun {
    /// Epoch, requests, pipeline and attempt, deadline, flags, head of the items.
    fileprivate static let smallestSize = 72

    /// Appends epoch (u64), the requests, pipeline, attempt (u32 each), deadline (u64, 0 for none), priority,
    /// deaths (u16 each), whether there is a trace (u32), the trace, the items.
    fileprivate func write(to writer: inout ByteWriter) {
        writer.align(to: 8)
        writer.write(epoch)
        run.requests.write(to: &writer)
        writer.write(run.pipeline)
        writer.write(UInt32(run.attempt))
        writer.write(run.deadline.map { max(1, $0.nanoseconds) } ?? 0)
        writer.write(UInt16(run.priority.rawValue))
        writer.write(UInt16(clamping: run.deaths))
        writer.write(UInt32(run.trace == nil ? 0 : 1))
        run.trace?.write(to: &writer)
        run.items.write(to: &writer)
    }

    fileprivate init(from reader: inout ByteReader, limits: Limits, inPlace: Bool) throws(WireError) {
        try reader.align(to: 8)
        let epoch: UInt64 = try reader.read()
        let requests = try RequestRun(from: &reader, limits: limits)
        let (pipeline, attempt) = (try reader.read(UInt32.self), try reader.readAttempt())
        let deadline: UInt64 = try reader.read()
        let (rank, deaths): (UInt16, UInt16) = (try reader.read(), try reader.read())
        let traced: UInt32 = try reader.read()
        guard let priority = UInt8(exactly: rank).flatMap(RequestPriority.init), traced <= 1 else {
            throw .malformed("assigned run")
        }
        let trace = traced == 0 ? nil : try TraceContext(from: &reader)
        let items = try ItemBuffer(from: &reader, limits: limits).kept(inPlace: inPlace)
        guard items.count == requests.count, items.count > 0 else { throw .malformed("items of an assigned run") }
        var run = OpenRun(
            requests: requests, pipeline: pipeline, items: items,
            deadline: deadline == 0 ? nil : Tick(nanoseconds: deadline), trace: trace, attempt: attempt)
        run.priority = priority
        run.deaths = Int(deaths)
        self.init(epoch: epoch, run: run)
    }
}

extension RequestRun {
    /// Appends partition, zero (u16 each), count (u32), session, first (u64 each).
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(partition.rawValue)
        writer.write(UInt16(0))
        writer.write(UInt32(count))
        writer.write(session.rawValue)
        writer.write(sequences.first)
    }

    fileprivate init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        let partition = PartitionID(rawValue: try reader.read())
        guard try reader.read(UInt16.self) == 0 else { throw .malformed("requests") }
        let count = Int(try reader.read(UInt32.self))
        guard count <= max(limits.sessionWindow, limits.itemsPerRun) else {
            throw .overLimit(.itemsPerRun, "requests of a run: \(count)")
        }
        let session = SessionID(rawValue: try reader.read())
        let first: UInt64 = try reader.read()
        guard first <= .max - UInt64(count) else { throw .malformed("requests") }
        self.init(partition: partition, session: session, sequences: SequenceRun(first: first, count: count))
    }
}

extension PartitionID {
    fileprivate init(number: UInt32) throws(WireError) {
        guard let raw = UInt16(exactly: number) else { throw .malformed("partition \(number)") }
        self.init(rawValue: raw)
    }
}

extension ByteReader {
    /// A u64 that counts things which must still follow.
    fileprivate mutating func readCount(of what: String, minimumSize: Int) throws(WireError) -> Int {
        let count: UInt64 = try read()
        // All of them are in this frame, which is bounded itself.
        guard count <= UInt64(remaining / minimumSize) else { throw .truncated }
        return Int(count)
    }

    fileprivate mutating func readAttempt() throws(WireError) -> Int {
        let attempt: UInt32 = try read()
        guard attempt <= 1 << 20 else { throw .overLimit(.attempts, "attempts of a run") }
        return Int(attempt)
    }

    fileprivate mutating func readRuns(_ limits: Limits) throws(WireError) -> [RequestRun] {
        let count = try readCount(of: "runs", minimumSize: 24)
        var runs: [RequestRun] = []
        runs.reserveCapacity(count)
        for _ in 0..<count { runs.append(try RequestRun(from: &self, limits: limits)) }
        return runs
    }
}
