// Flockwork · Apache-2.0 · see LICENSE

package import FlockCluster

/// What a run is made of: how large, how busy, and how unlucky. Times are virtual nanoseconds.
package struct FaultProfile: Sendable {
    /// Nodes at the start, the first `voters` of them voters.
    package var nodes = 5
    package var voters = 3
    package var partitions = 16
    package var clients = 6
    /// Sessions of each client.
    package var sessions = 3
    /// Items of a run at most.
    package var itemsPerRun = 8
    /// Between two runs of a session, on average.
    package var thinkTime = 250 * Virtual.millisecond

    /// When faults begin, when all are healed, when the run ends.
    package var faultsBegin = 2 * Virtual.second
    package var faultsEnd = 11 * Virtual.second
    package var end = 20 * Virtual.second
    /// Between two faults, on average; faults of different kinds overlap.
    package var faultInterval = 350 * Virtual.millisecond

    /// How often each kind of fault is drawn, relative to the others; 0 for never.
    package var crash = 4
    package var pause = 3
    package var cut = 3
    package var oneWayCut = 3
    package var isolation = 2
    package var clientCut = 2
    package var badWeather = 4
    package var slow = 2
    package var join = 0
    package var leave = 1
    package var burst = 1
    package var stageDeath = 1
    /// A voter restarts without its record, which a majority of voters must outlive.
    package var voterLoss = 0
    /// Connections of a live process break.
    package var reset = 1
    /// An operator exchanges a voter, or sets the copies and the minimum.
    package var replaceVoter = 0
    package var replication = 0
    /// All processes are killed at once; a process is killed and its disk lost; a disk takes nothing any more.
    package var outage = 0
    package var diskLoss = 0
    package var diskFailure = 0
    /// So many partitions, the last ones, are on disks.
    package var durablePartitions = 0
    /// The longest time that a disk takes to sync.
    package var longestSync = 2 * Virtual.millisecond
    /// An operator drains a node or takes that back, suspends the pipeline or resumes it, adds a voter.
    package var drain = 0
    package var suspend = 0
    package var addVoter = 0
    package var removeVoter = 0

    /// The longest pause of a process.
    package var longestPause = 2500 * Virtual.millisecond
    /// Copies of a partition that are destroyed beyond what is promised to be survived.
    package var beyond = 0
    /// The shortest and the longest time that a process stays down.
    package var shortestDown = 100 * Virtual.millisecond
    package var longestDown = 3 * Virtual.second
    /// The longest time of a cut, of bad weather, of slowness.
    package var longestCut = 3 * Virtual.second
    package var lossPerMille = 250
    package var doublePerMille = 150
    package var latePerMille = 300
    package var longestDelay = 400 * Virtual.millisecond
    /// How far a clock's speed is from true, in parts per million, either way.
    package var driftPartsPerMillion = 2000
    /// Of 1,000 crashes, so many are seen by the others as a reset connection.
    package var resetPerMille = 500
    /// Whether voters' disks say "synced" when nothing is.
    package var diskLies = false
    /// Requests that no stage survives, and requests with a deadline, per mille.
    package var poisonPerMille = 3
    package var deadlinePerMille = 100
    /// Requests of the first two seconds with faults that kill the process which executes them, per mille.
    package var deadlyPerMille = 0
    package var cancelPerMille = 20
    /// Nanoseconds for which an outcome is kept.
    package var timeToLive = 600 * Virtual.second

    /// Where the stage has instances.
    package var placement = SimulatedPlacement.mixed

    /// Whether the states of copies are compared, which costs more than all the rest.
    package var comparesStates = false
    /// How often, of 1,000 times that it could, a client closes a session and opens another.
    package var closePerMille = 5
    /// The detector's and the register's.
    package var times = ControlTimes()

    package init() {}

    /// The same but for what `change` changes.
    package func with(_ change: (inout FaultProfile) -> Void) -> FaultProfile {
        var profile = self
        change(&profile)
        return profile
    }

    /// Nothing keeps a running process from answering: no cut, no pause, no weather.
    var isConnected: Bool {
        pause == 0 && cut == 0 && oneWayCut == 0 && isolation == 0 && badWeather == 0 && slow == 0
    }

    /// Everything at once, as a fresh seed meets it.
    package static let all = FaultProfile().with {
        $0.join = 1
    }

    /// Whether there are disks under the partitions, or one of them.
    package var isDurable: Bool { durablePartitions > 0 }
    package func isDurable(_ partition: Int) -> Bool { partition >= partitions - durablePartitions }

    /// Copies are on disks: all processes may die at once, with torn ends of their logs, and nothing is lost.
    package static let durable = FaultProfile.all.with {
        $0.durablePartitions = $0.partitions
        $0.outage = 2
        $0.diskLoss = 1
        $0.diskFailure = 1
        $0.longestSync = 20 * Virtual.millisecond
    }

    /// A voter's disk is wiped, voters are exchanged and copies are set by operators, among the other faults.
    package static let operators = FaultProfile.all.with {
        $0.voterLoss = 1
        $0.replaceVoter = 1
        $0.removeVoter = 1
        $0.replication = 1
        // Who leaves does not come back, and an exchange may have made a voter of it.
        $0.leave = 0
    }

    /// Operators drain nodes, suspend the pipeline and add voters, among the other faults.
    package static let maintenance = FaultProfile.all.with {
        $0.drain = 4
        $0.suspend = 2
        $0.addVoter = 1
        $0.removeVoter = 1
        // Who leaves does not come back, and may have become a voter.
        $0.leave = 0
    }

    /// Nothing goes wrong.
    package static let calm = FaultProfile.none.with {
        $0.driftPartsPerMillion = 0
    }

    /// Processes die and come back; nothing else goes wrong, and nobody is told.
    package static let crashes = FaultProfile.none.with {
        $0.crash = 1
        $0.faultInterval = 2500 * Virtual.millisecond
        $0.resetPerMille = 0
    }

    /// Nothing goes wrong but that some requests kill the processes that execute them.
    package static let poison = FaultProfile.none.with {
        $0.deadlyPerMille = 4
        $0.placement = .mixed
        $0.shortestDown = 20 * Virtual.millisecond
        $0.longestDown = 1500 * Virtual.millisecond
        $0.faultsEnd = 18 * Virtual.second
        $0.end = 27 * Virtual.second
    }

    /// No process dies but of a request.
    var diesOfRequestsOnly: Bool {
        deadlyPerMille > 0 && isConnected && crash + stageDeath + voterLoss + reset + leave == 0
            && poisonPerMille == 0
    }

    /// No fault is ever drawn.
    package static let none = FaultProfile().with {
        for kind in FaultKind.allCases { $0[keyPath: kind.weight] = 0 }
        $0.placement = .everywhere
        $0.poisonPerMille = 0
    }
}

/// What can go wrong.
package enum FaultKind: CaseIterable, Sendable {
    case crash, pause, cut, oneWayCut, isolation, clientCut, badWeather, slow, join, leave, burst, stageDeath
    case voterLoss, reset, replaceVoter, replication
    // New ones come last: a weight of 0 then leaves the draws of others as they are.
    case outage, diskLoss, diskFailure, drain, suspend, addVoter, removeVoter

    package var weight: WritableKeyPath<FaultProfile, Int> {
        switch self {
        case .crash: \.crash
        case .pause: \.pause
        case .cut: \.cut
        case .oneWayCut: \.oneWayCut
        case .isolation: \.isolation
        case .clientCut: \.clientCut
        case .badWeather: \.badWeather
        case .slow: \.slow
        case .join: \.join
        case .leave: \.leave
        case .burst: \.burst
        case .stageDeath: \.stageDeath
        case .voterLoss: \.voterLoss
        case .reset: \.reset
        case .replaceVoter: \.replaceVoter
        case .replication: \.replication
        case .outage: \.outage
        case .diskLoss: \.diskLoss
        case .diskFailure: \.diskFailure
        case .drain: \.drain
        case .suspend: \.suspend
        case .addVoter: \.addVoter
        case .removeVoter: \.removeVoter
        }
    }
}
