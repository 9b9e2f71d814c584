// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// `StageHost.run`: runs of any sessions, and their items in one buffer.
struct RunMessage: Sendable {
    struct Run: Sendable {
        var requests: RequestRun
        /// What is left of the deadline.
        var deadline: Duration?
        /// The caller's trace.
        var trace: TraceContext?
        var priority = RequestPriority.normal
    }
    var runs: [Run]
    var items: ItemBuffer

    init(_ work: [WorkRun], at now: Tick) {
        runs = work.map { work in
            Run(
                requests: work.run, deadline: work.deadline.map { max($0 - now, .microseconds(1)) }, trace: work.trace,
                priority: work.priority)
        }
        items = work.count == 1 ? work[0].items : ItemBuffer.joined(work.map(\.items))
    }

    /// Count of runs (u32), zero (u32), per run: partition (u16), flags (u16: 1 trace, 2 and 4 the priority),
    /// count (u32), session (u64), first (u64), deadline in microseconds (u64, 0 = none), trace (25 bytes, padded to
    /// 32); then the items.
    func write(to writer: inout ByteWriter) {
        writer.write(UInt32(runs.count))
        writer.write(UInt32(0))
        for run in runs {
            writer.write(run.requests.partition.rawValue)
            writer.write(UInt16(run.trace == nil ? 0 : 1) | UInt16(run.priority.rawValue) << 1)
            writer.write(UInt32(run.requests.count))
            writer.write(run.requests.session.rawValue)
            writer.write(run.requests.sequences.first)
            writer.write(run.deadline.map { max(1, $0.clampedNanoseconds / 1000) } ?? UInt64(0))
            run.trace?.write(to: &writer)
            if run.trace != nil { writer.align(to: 8) }
        }
        items.write(to: &writer)
    }

    init(from reader: inout ByteReader, limits: Limits) throws {
        let count = Int(try reader.read(UInt32.self))
        guard count <= limits.runsPerFrame else { throw WireError.overLimit(.runsPerFrame, "runs of a batch") }
        guard count > 0, try reader.read(UInt32.self) == 0 else {
            throw WireError.malformed("runs of a batch")
        }
        runs = []
        runs.reserveCapacity(count)
        var total = 0
        for _ in 0..<count {
            let partition = PartitionID(rawValue: try reader.read())
            let flags: UInt16 = try reader.read()
            guard flags <= 7, let priority = RequestPriority(rawValue: UInt8(flags >> 1)) else {
                throw WireError.malformed("run of a batch")
            }
            let items = Int(try reader.read(UInt32.self))
            let session = SessionID(rawValue: try reader.read())
            let first: UInt64 = try reader.read()
            let microseconds: UInt64 = try reader.read()
            guard items <= limits.itemsPerRun else { throw WireError.overLimit(.itemsPerRun, "items of a run") }
            guard items > 0, first <= UInt64.max - UInt64(items) else { throw WireError.malformed("run of a batch") }
            total += items
            let trace = flags & 1 != 0 ? try TraceContext(from: &reader) : nil
            if trace != nil { try reader.align(to: 8) }
            runs.append(
                Run(
                    requests: RequestRun(
                        partition: partition, session: session, sequences: SequenceRun(first: first, count: items)),
                    deadline: microseconds == 0 ? nil : .microseconds(Int64(clamping: microseconds)), trace: trace,
                    priority: priority))
        }
        var itemLimits = limits
        itemLimits.itemsPerRun = limits.creditItems
        items = try ItemBuffer(from: &reader, limits: itemLimits)
        guard items.count == total else { throw WireError.malformed("items of a batch") }
        try reader.finish()
    }
}

/// A part of the answer of `StageHost.run`.
struct OutcomesMessage: Sendable {
    var outcomes: [SessionOutcomes]

    init(outcomes: [SessionOutcomes]) {
        self.outcomes = outcomes
    }

    /// Count (u32), zero (u32), per session: partition (u16), zero (u16), count of runs (u32), session (u64), runs.
    func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(UInt32(outcomes.count))
        writer.write(UInt32(0))
        for session in outcomes {
            writer.write(session.place.partition.rawValue)
            writer.write(UInt16(0))
            writer.write(UInt32(session.runs.count))
            writer.write(session.place.session.rawValue)
            for run in session.runs { run.write(to: &writer, limits: limits) }
        }
    }

    init(from reader: inout ByteReader, limits: Limits) throws {
        let count = Int(try reader.read(UInt32.self))
        guard count <= limits.runsPerFrame else { throw WireError.overLimit(.runsPerFrame, "outcomes of a batch") }
        guard try reader.read(UInt32.self) == 0 else {
            throw WireError.malformed("outcomes of a batch")
        }
        outcomes = []
        for _ in 0..<count {
            let partition = PartitionID(rawValue: try reader.read())
            guard try reader.read(UInt16.self) == 0 else { throw WireError.malformed("outcomes of a batch") }
            let runCount = Int(try reader.read(UInt32.self))
            let session = SessionID(rawValue: try reader.read())
            guard runCount <= limits.runsPerFrame else { throw WireError.overLimit(.runsPerFrame, "runs of a frame") }
            var runs: [OutcomeRun] = []
            for _ in 0..<runCount { runs.append(try OutcomeRun(from: &reader, limits: limits)) }
            outcomes.append(SessionOutcomes(place: SessionPlace(partition: partition, session: session), runs: runs))
        }
        try reader.finish()
    }
}
