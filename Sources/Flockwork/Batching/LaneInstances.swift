// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// Which instances of a lane are alive and what they are at. Pure: time comes in, and what to do comes out. An instance
// whose attempt takes too long is abandoned, since nothing can stop code that does not return: its runs are lost, and
// another instance takes its place. It may come back, for a bounded number of them is waited for.

/// The instances of one lane on one node.
struct LaneInstances<Work: Sendable>: Sendable {
    /// What became of an attempt that has ended.
    enum Ending: Equatable {
        /// In time: the result counts.
        case counts
        /// Its work was given up: the result is dropped. The instance goes on if the lane is short of instances.
        case late(goesOn: Bool)
    }

    /// What is overdue, and what to do about it.
    struct Findings {
        /// The work of each abandoned attempt, by instance.
        var lost: [(instance: Int, work: Work)] = []
        /// Instances to make.
        var replacements = 0
        /// As many instances as may hang, hang: the lane goes on with fewer, or with none.
        var isExhausted = false
        /// When to look again; nil = not before the next attempt begins.
        var lookAfter: Duration?
    }

    private struct Attempt: Sendable {
        var instance: Int
        var began: Tick
        var work: Work
    }

    private let wanted: Int
    private let attemptTime: Duration
    private let mayHang: Int
    // A few entries: no more than there are instances.
    private var running: [Attempt] = []
    private var hanging: Set<Int> = []
    private var next = 0
    private var isWatched = false
    /// Instances that take work, also those that are being made.
    private(set) var alive = 0
    /// Attempts that were given up, since the start.
    private(set) var abandoned: UInt64 = 0

    /// `mayHang` instances can hang at a time before no more are made in their place.
    init(wanted: Int, attemptTime: Duration, mayHang: Int) {
        self.wanted = wanted
        self.attemptTime = attemptTime
        self.mayHang = mayHang
    }

    /// Instances that were abandoned and have not returned.
    var hangingCount: Int { hanging.count }

    /// A number for another instance.
    mutating func add() -> Int {
        alive += 1
        next += 1
        return next
    }

    /// An instance ended by itself, or could not be made.
    mutating func remove() {
        alive -= 1
        precondition(alive >= 0, "more instances ended than there were")
    }

    /// An instance takes work. Returns when to look for overdue attempts, if nobody does yet.
    mutating func begin(_ instance: Int, _ work: Work, at now: Tick) -> Duration? {
        running.append(Attempt(instance: instance, began: now, work: work))
        if isWatched { return nil }
        isWatched = true
        return attemptTime
    }

    /// An instance calls its step again for the same work. False: the work is not its own any more.
    mutating func callAgain(_ instance: Int, at now: Tick) -> Bool {
        guard let index = running.firstIndex(where: { $0.instance == instance }) else { return false }
        running[index].began = now
        return true
    }

    /// An instance has a result.
    mutating func end(_ instance: Int) -> Ending {
        if let index = running.firstIndex(where: { $0.instance == instance }) {
            running.remove(at: index)
            return .counts
        }
        hanging.remove(instance)
        guard alive < wanted else { return .late(goesOn: false) }
        alive += 1
        return .late(goesOn: true)
    }

    /// Abandons the instances whose attempt began too long ago.
    mutating func look(at now: Tick) -> Findings {
        var findings = Findings()
        for attempt in running where attempt.began + attemptTime <= now {
            findings.lost.append((attempt.instance, attempt.work))
            hanging.insert(attempt.instance)
            alive -= 1
            abandoned += 1
            if hanging.count <= mayHang { findings.replacements += 1 } else { findings.isExhausted = true }
        }
        running.removeAll { $0.began + attemptTime <= now }
        let earliest = running.map(\.began).min()
        isWatched = earliest != nil
        findings.lookAfter = earliest.map { $0 + attemptTime - now }
        return findings
    }
}
