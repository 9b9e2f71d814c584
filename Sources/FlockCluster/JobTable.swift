// Flockwork · Apache-2.0 · see LICENSE

// Stages hand over a job in parts, as their batches finish. What is with the stages and what waits for a primary are
// two tables: outcomes go out at once and are repeated by a number of their own, while the rest of the job goes on.

internal import FlockWire

/// What this node's stages hold, and outcomes that no primary has confirmed yet.
struct JobTable: Sendable {
    /// A run that the stages have, in whole or in part.
    struct Job: Sendable {
        let id: UInt64
        let lane: UInt32
        let requests: RequestRun
        /// Whose run it is now: the primary in `epoch`, as it said itself.
        var dispatcher: MemberNumber
        var epoch: UInt64
        /// Which execution of them it is, from 1.
        let attempt: Int
        /// It was on a process that died: it is the only such run here.
        let isSuspect: Bool
        /// What the stages did not hand over yet: ascending, apart, never empty.
        fileprivate(set) var rest: [SequenceRun]
    }

    /// Outcomes, and what failed, that were handed over together.
    struct Part: Sendable {
        let number: UInt64
        let lane: UInt32
        let partition: PartitionID
        let session: SessionID
        var dispatcher: MemberNumber
        var epoch: UInt64
        let outcomes: [OutcomeRun]
        let failed: FailedRuns
        /// To whom they were sent last; nobody else can confirm them.
        var target: MemberNumber?
        /// When they are sent again.
        var resendAt = Tick.never
    }

    /// By id, which is their age.
    private(set) var jobs: [Job] = []
    /// By number, which is their age.
    private(set) var parts: [Part] = []
    private var lastNumber: UInt64 = 0

    var isEmpty: Bool { jobs.isEmpty && parts.isEmpty }

    /// Whether the stages have a run that was on a process that died.
    var hasSuspect: Bool { jobs.contains(where: \.isSuspect) }

    private mutating func newNumber() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    /// A job begins. Returns its number.
    mutating func insert(
        lane: UInt32, requests: RequestRun, attempt: Int = 1, dispatcher: MemberNumber, epoch: UInt64,
        isSuspect: Bool = false
    ) -> UInt64 {
        let id = newNumber()
        jobs.append(
            Job(
                id: id, lane: lane, requests: requests, dispatcher: dispatcher, epoch: epoch, attempt: attempt,
                isSuspect: isSuspect, rest: [requests.sequences]))
        return id
    }

    func job(_ id: UInt64) -> Int? { Self.place(of: id, in: jobs, \.id) }
    func part(_ number: UInt64) -> Int? { Self.place(of: number, in: parts, \.number) }

    private static func place<Row>(of number: UInt64, in rows: [Row], _ key: (Row) -> UInt64) -> Int? {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if key(rows[middle]) < number { low = middle + 1 } else { high = middle }
        }
        return low < rows.count && key(rows[low]) == number ? low : nil
    }

    /// The stages hand these sequences of a job over, each for the first time.
    mutating func handOver(_ run: SequenceRun, of place: Int) {
        guard run.count > 0 else { return }
        guard let at = jobs[place].rest.firstIndex(where: { $0.inside(run) == run }) else {
            preconditionFailure("\(run) of job \(jobs[place].id) handed over, of which \(jobs[place].rest) are left")
        }
        let left = jobs[place].rest[at].outside(run)
        jobs[place].rest.replaceSubrange(at...at, with: left)
    }

    /// Ends the job if the stages have nothing of it any more.
    mutating func endIfDone(_ place: Int) { if jobs[place].rest.isEmpty { jobs.remove(at: place) } }

    /// Outcomes of a job, and what failed of it, wait for its primary. Returns their place.
    mutating func add(_ outcomes: [OutcomeRun], failed: [SequenceRun] = [], of job: Job) -> Int {
        parts.append(
            Part(
                number: newNumber(), lane: job.lane, partition: job.requests.partition,
                session: job.requests.session, dispatcher: job.dispatcher, epoch: job.epoch, outcomes: outcomes,
                failed: FailedRuns(failed, attempt: job.attempt)))
        return parts.count - 1
    }

    mutating func removePart(at place: Int) { parts.remove(at: place) }

    mutating func claimJob(at place: Int, by asker: MemberNumber, epoch: UInt64) {
        jobs[place].dispatcher = asker
        jobs[place].epoch = epoch
    }

    mutating func claimPart(at place: Int, by asker: MemberNumber, epoch: UInt64) {
        parts[place].dispatcher = asker
        parts[place].epoch = epoch
        parts[place].target = nil
    }

    mutating func sent(_ place: Int, to target: MemberNumber, again time: Tick) {
        parts[place].target = target
        parts[place].resendAt = time
    }
}
