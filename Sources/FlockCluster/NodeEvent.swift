// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What happens to a node.
public enum NodeEvent: Sendable {
    /// A process of that node said something.
    case message(from: NodeID, NodeMessage)
    /// A voter's record is on disk.
    case persisted(UInt64)
    /// A voter's record could not be written.
    case persistFailed
    /// Entries of durable partitions are on the disk, all that one flush wrote.
    case kept([KeptEntries])
    /// The log on the disk is to forget old records: it needs all that the partition has.
    case snapshotWanted(PartitionID)
    /// The disk failed: nothing was kept after the last `kept`, and nothing will be.
    case diskFailed
    /// The connection to a process of that node was reset or refused: it may be gone.
    case connectionReset(NodeID)
    /// A client called. `number` comes back with the answer.
    case call(connection: UInt64, number: UInt64, ClientCall)
    /// A client's connection ended.
    case clientGone(UInt64)
    /// The stages are done with a part of a job, or with all of it. Over the job's life each of its sequences is in
    /// exactly one of the three lists of exactly one part; the job ends with the last. Outcomes go out at once, so
    /// hand over what a batch has finished and do not wait for the rest. What is said of a job that ended is ignored.
    case executed(job: UInt64, outcomes: [OutcomeRun], failed: [SequenceRun], returned: [SequenceRun])
    /// So many instances of each stage take work here now. Said when the node begins and whenever a number changes:
    /// before instances end, and after they were made.
    case hosts([Int])
    /// Hand over what is here, then go.
    case leave
    /// An operator asks.
    case command(OperatorCommand)
    /// Time went by. Due at `nextDeadline`; earlier or later calls are harmless.
    case tick
}

/// What the shell does for a node, in order.
public enum NodeDirective: Sendable {
    /// To the process that the node of that name is now.
    case send(NodeID, NodeMessage)
    /// Write the voter's record, sync it, and say `persisted(token)`.
    indirect case persist(VoterRecord, token: UInt64)
    /// Durable: write these entries of a partition, the first of which is at `first`, over whatever was written there
    /// and after it. Answer: `kept`, for as many as are on the disk together.
    case keep(PartitionID, first: UInt64, [LogEntry])
    /// Durable: nothing that was written of the partition is needed any more. Answer: `kept`, with its last entry.
    indirect case keepSnapshot(PartitionID, WALSnapshot)
    /// Durable: the copy is given up; one that comes after it is of that generation.
    case dropCopy(PartitionID, generation: UInt16)
    /// To a client. A connection that is gone gets nothing.
    case answer(connection: UInt64, number: UInt64, ClientAnswer)
    /// Outcomes for a session that the client attached.
    case push(connection: UInt64, PartitionID, SessionID, [OutcomeRun])
    /// Let the lane's stages have the run; say `executed` of each part of it, whatever happens.
    indirect case execute(job: UInt64, lane: UInt32, OpenRun)
    /// Nobody waits for this part of a job; what has not been started may be returned at once.
    case revoke(job: UInt64, SequenceRun)
    /// This node is to have so many instances of each stage, by its view. Make or end them, and say `hosts`. What is
    /// said later replaces this.
    case place([Int])
    /// This process is a member now.
    case admitted(MemberNumber)
    /// This process is out for good: its copies count nowhere. It has to start again.
    case evicted
    /// Everything was handed over; the process may end.
    case left
    /// Said at `leave` if the node votes: it goes as a member and stays a voter. So many more voters may then fail;
    /// 0 means that control stops with the next. Start it again with its disk, or have it replaced.
    case votesOn(tolerated: Int)
    /// This process cannot be part of the cluster as it is configured: say it, and stop. Nothing happens here any more.
    case refused(FlockError)
    /// All copies of these partitions are gone, and what was accepted there with them.
    case lost([PartitionID])
}
