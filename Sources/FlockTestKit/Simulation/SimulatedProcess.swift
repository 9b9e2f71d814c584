// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

/// A voter's disk. A write is on it when it is synced; what is under way at a crash may or may not be.
struct VoterDisk {
    var record: VoterRecord?
    /// What was on it when the process began: all that there is after a crash if the disk lies about syncing.
    var stale: VoterRecord?
    var underWay: VoterRecord?
    /// When the last write is synced.
    var busyUntil: UInt64 = 0
}

/// A node's logic in a box, since copying it for each look at it would take longer than running it.
final class RunningNode {
    @exclusivity(unchecked) var core: ClusterNode

    init(_ core: ClusterNode) { self.core = core }

    // Kept beside it: a getter of the core would copy it.
    @exclusivity(unchecked) private(set) var member: MemberNumber?
    @exclusivity(unchecked) private(set) var viewVersion: UInt64 = 0
    @exclusivity(unchecked) private(set) var nextDeadline = Tick.never

    var view: ControlState? { core.view }
    var work: String { core.work }
    var awaitsCommands: Bool { core.awaitsCommands }
    var holdsSuspects: Bool { core.holdsSuspects() }

    /// Under the copies of durable partitions.
    var log: NodeLog?

    func step(_ event: NodeEvent, now: Tick, out: inout [NodeDirective]) {
        core.step(event, now: now, out: &out)
        let state = core.state()
        (member, viewVersion, nextDeadline) = (state.member, state.viewVersion, state.nextDeadline)
    }

    func touched() -> [PartitionID] { core.lastTouched() }
    func mark(of partition: PartitionID) -> ReplicaMark? { core.mark(of: partition) }
    func epoch(of partition: PartitionID) -> UInt64? { core.epoch(of: partition) }
    func digest(of partition: PartitionID) -> UInt64? { core.digest(of: partition) }
    func entry(_ index: UInt64, of partition: PartitionID) -> LogEntry? { core.entry(index, of: partition) }
}

/// One node: its process while it runs, and what outlives the process.
struct SimulatedProcess {
    let name: NodeID
    var node: RunningNode?
    var disk = VoterDisk()
    /// What its log is written to.
    var files = SimulatedDisk()
    var clock: SimulatedClock
    /// Counts starts, so that what was meant for an earlier process is told apart.
    var run: UInt32 = 0
    /// Nothing happens in the process before that.
    var pausedUntil: UInt64 = 0
    /// The wake-up that is scheduled; later ones are void.
    var wakeAt = UInt64.max
    var isLeaving = false
    /// Left for good, or not there yet.
    var isGone = false
    /// Instances of each stage that it has, and that its node wants it to have.
    var hosted: [Int] = []
    var wanted: [Int] = []
    /// It is a voter whose disk was lost.
    var isWithoutRecord = false

    var isUp: Bool { node != nil }
}
