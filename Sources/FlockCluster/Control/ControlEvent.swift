// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What happens to the control part of a process.
public enum ControlEvent: Sendable {
    /// From the process that runs on a node, which may be an earlier one than the sender's view has.
    case message(from: NodeID, ControlMessage)
    /// The record of that token, and so all before it, is on the disk.
    case persisted(UInt64)
    /// The disk refuses: this voter never answers again.
    case persistFailed
    /// A connection to that node was reset or refused. It is a hint to look, not a death.
    case connectionReset(NodeID)
    /// A replica of this process wants its seats changed.
    case report(PartitionReport)
    /// This process is to go: hand over what it has.
    case leave
    /// After `leave`: batches are finished, nothing holds the process but its seats.
    case drained
    /// An operator asks; any process takes it.
    case command(OperatorCommand)
    /// Time passed: `nextDeadline` is due.
    case tick
}

/// What the shell does for control, in order.
public enum ControlDirective: Sendable {
    /// Send it; it may be lost.
    case send(NodeID, ControlMessage)
    /// Write it to the disk, flush, then step `persisted(token)`. A later record replaces an earlier one.
    indirect case persist(VoterRecord, token: UInt64)
    /// A newer view: read it from the node. Named are the partitions whose seats are others than before; all of them if
    /// the number of copies is another that each needs in sync.
    case install(changed: [PartitionID])
    /// This process is a member, under that number.
    case admitted(MemberNumber)
    /// The cluster goes on without this process: it must start again, as a new incarnation.
    case evicted
    /// This process left; it can exit.
    case left
    /// Said at `leave` if the node votes: it goes as a member and stays a voter. So many more voters may then fail;
    /// 0 means that control stops with the next. Start it again with its disk, or have it replaced.
    case votesOn(tolerated: Int)
    /// This process cannot be part of the cluster as it is configured: say it, and stop. Nothing happens here any more.
    case refused(FlockError)
    /// Everything in these partitions is lost. Say it loudly.
    case lost([PartitionID])
}

/// What an operator decides, because no rule can.
public enum OperatorCommand: Sendable, Hashable {
    /// Give up what a partition held, though some copies may come back: it starts empty, with a new generation. Only
    /// while no copy in sync can be reached.
    case acceptLoss(PartitionID)
    /// Copies and in-sync copies of each partition, also fewer than now.
    case replication(factor: Int, minimumInSync: Int)
    /// One voter goes and a member comes in its place; also how a voter that lost its record is replaced.
    case replaceVoter(NodeID, by: NodeID)
    /// All voters lost their records: the receiving process goes on alone from its view. **What the lost voters agreed
    /// on after it is gone, and a voter that comes back makes a second cluster**: destroy the old ones first.
    case forceNewControl
    /// A member votes besides those that do.
    case addVoter(NodeID)
    /// A voter goes, and nobody comes. Only if a majority of the others votes.
    case removeVoter(NodeID)
    /// A member leads nothing and gets no work any more, and stays.
    case drain(NodeID)
    /// It takes its share again.
    case undrain(NodeID)
    /// A pipeline accepts nothing new; it finishes what it has.
    case suspend(pipeline: String)
    /// It accepts again.
    case resume(pipeline: String)
}
