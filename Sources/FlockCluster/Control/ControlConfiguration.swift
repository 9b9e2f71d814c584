// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What a process knows about the cluster when it starts.
public struct ControlConfiguration: Sendable {
    /// This process.
    public var candidate: Candidate
    /// The voters of a new cluster, the same list at each of them; or nodes that a joining process asks. A process
    /// whose node is in the list of a bootstrap is a voter.
    public var voters: [NodeID]
    /// Whether `voters` begin a new cluster if there is none. A voter that lost its record must be started without.
    public var isBootstrap: Bool
    /// The same at each bootstrap voter.
    public var clusterID: UInt64
    /// Partitions of a new cluster.
    public var partitions: Int
    /// So many of them, the last ones, are on disks as well as in memory.
    public var durablePartitions = 0
    /// Names of the pipelines that this process runs, by the numbers that sessions have for them; the same everywhere.
    public var pipelines: [String] = []
    /// The detector's, the register's and the moves' bounds.
    public var times = ControlTimes()

    /// A process of a cluster.
    public init(
        candidate: Candidate, voters: [NodeID], isBootstrap: Bool = true, clusterID: UInt64 = 1, partitions: Int = 271
    ) {
        precondition((1...65_536).contains(partitions), "\(partitions) partitions")
        self.candidate = candidate
        self.voters = voters.sorted()
        self.isBootstrap = isBootstrap
        self.clusterID = clusterID
        self.partitions = partitions
    }
}

/// Times and bounds of control.
public struct ControlTimes: Sendable, Equatable {
    /// Between two probes of a member by a voter.
    public var probeInterval = Duration.milliseconds(100)
    /// A member that answered no probe for that long is suspected, at the latest and at the earliest; between them the
    /// time follows its slowest answers.
    public var suspectAfterMaximum = Duration.milliseconds(500)
    /// See `suspectAfterMaximum`.
    public var suspectAfterMinimum = Duration.milliseconds(300)
    /// The same after its connection was reset.
    public var suspectAfterReset = Duration.milliseconds(50)
    /// A suspected member without a copy that counts is removed after that.
    public var evictAfter = Duration.seconds(3)
    /// Between two sendings of what has no effect yet: a request to join or leave, a report.
    public var resendInterval = Duration.milliseconds(200)
    /// A reason that nobody repeats is forgotten after that.
    public var reasonLife = Duration.seconds(1)
    /// A member that hears of no voter for that long asks one for a newer view.
    public var orphanInterval = Duration.milliseconds(500)
    /// Time for one turn of the register, doubled with every failing one up to eightfold.
    public var roundTime = Duration.milliseconds(150)
    /// How long a voter waits for those that come before it in the order of proposers, per place.
    public var proposerDelay = Duration.milliseconds(60)
    /// How long the first view waits for all voters of a new cluster before it gives partitions to those that came.
    public var bootstrapGrace = Duration.seconds(1)
    /// Partitions that a member learns at once (rule R5).
    public var learnersPerMember = 4
    /// Partitions that a member gets or gives away as primary in one view (rule R5).
    public var movesPerMember = 4

    /// The defaults.
    public init() {}
}
