// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// What this node's stages hold, and outcomes that no primary has confirmed yet.
struct JobTable: Sendable {
    struct Job: Sendable {
        let id: UInt64
        let lane: UInt32
        let requests: RequestRun
        /// Whose run it is now: the primary in `epoch`, as it said itself.
        var dispatcher: MemberNumber
        var epoch: UInt64
        /// To whom the outcomes were sent last; nobody else can confirm them.
        var target: MemberNumber?
        /// Nil while the stages have it.
        var outcomes: [OutcomeRun]?
        /// When the outcomes are sent again.
        var resendAt = Tick.never
    }

    /// By id, which is their age.
    private(set) var jobs: [Job] = []
    private var nextID: UInt64 = 1

    mutating func insert(lane: UInt32, requests: RequestRun, dispatcher: MemberNumber, epoch: UInt64) -> UInt64 {
        defer { nextID += 1 }
        jobs.append(Job(id: nextID, lane: lane, requests: requests, dispatcher: dispatcher, epoch: epoch))
        return nextID
    }

    func place(of id: UInt64) -> Int? {
        var low = 0
        var high = jobs.count
        while low < high {
            let middle = (low + high) / 2
            if jobs[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low < jobs.count && jobs[low].id == id ? low : nil
    }

    subscript(place: Int) -> Job {
        get { jobs[place] }
        set { jobs[place] = newValue }
    }

    mutating func remove(at place: Int) { jobs.remove(at: place) }
}
