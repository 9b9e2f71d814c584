// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What the processes of a cluster say to each other.
public enum NodeMessage: Sendable {
    /// Membership, detection, views.
    case control(ControlMessage)
    /// One partition's log, from one member's copy to another's.
    case replication(from: MemberNumber, to: MemberNumber, PartitionID, ReplicationMessage)
    /// Runs on their way to stages and back.
    case work(WorkFrame)
}

/// Work messages from one member to another: each has a number, so that none is lost or heard twice while both live,
/// whatever becomes of the connections between them.
public struct WorkFrame: Sendable {
    /// Who sends.
    public var from: MemberNumber
    /// Whom it is for; a later process of the same node is somebody else.
    public var to: MemberNumber
    /// The number of the first message, from 1.
    public var first: UInt64
    /// All messages of the other direction below this number have arrived.
    public var expected: UInt64
    /// In order, without gaps; empty to acknowledge only.
    public var messages: [WorkMessage]

    /// A frame.
    public init(from: MemberNumber, to: MemberNumber, first: UInt64, expected: UInt64, messages: [WorkMessage]) {
        self.from = from
        self.to = to
        self.first = first
        self.expected = expected
        self.messages = messages
    }
}

/// What members say about runs. A lane is a pipeline's dispatcher and its stages.
public enum WorkMessage: Sendable {
    /// Execute these. Deadlines are nanoseconds from now, since clocks are nobody else's business.
    case runs(lane: UInt32, [AssignedRun])
    /// Nobody waits for these any more.
    case revoke(lane: UInt32, RequestRun)
    /// Outcomes, and what failed, that stages handed over together, for whoever is the partition's primary now. The
    /// sender numbers them, and repeats them until that number is `recorded`; more of the same run may follow under
    /// another number.
    case done(job: UInt64, lane: UInt32, PartitionID, SessionID, [OutcomeRun], FailedRuns)
    /// The primary has proposed the outcomes of that number, which need not be committed; and its log has counted what
    /// failed, which is committed.
    case recorded(job: UInt64)
    /// These were not started and will not be.
    case returned(lane: UInt32, [RequestRun])
    /// A new primary of the partition asks who has runs of it.
    case holding(PartitionID, epoch: UInt64)
    /// The answer; who answers sends what becomes of them to the one who asked.
    case held(PartitionID, epoch: UInt64, [LaneRun])
    /// The sender has instances of these stages now, by number, and of no others.
    case hosts([UInt32])
}

/// A run on its way to a stage, and the epoch of its partition in which its primary sent it.
public struct AssignedRun: Sendable {
    /// Outcomes go to the sender until a view has a later epoch.
    public var epoch: UInt64
    /// What is to be executed.
    public var run: OpenRun

    /// A run of an epoch.
    public init(epoch: UInt64, run: OpenRun) {
        self.epoch = epoch
        self.run = run
    }
}

/// Requests whose execution began and gave no outcome.
public struct FailedRuns: Sendable, Hashable {
    /// In order; empty if there are none.
    public var sequences: [SequenceRun]
    /// Which execution of them it was, from 1.
    public var attempt: Int

    /// Requests that failed in that execution.
    public init(_ sequences: [SequenceRun], attempt: Int) {
        self.sequences = sequences
        self.attempt = attempt
    }
}

/// A run and the lane that it is in.
public struct LaneRun: Sendable, Hashable {
    /// The pipeline's number.
    public var lane: UInt32
    /// Which requests.
    public var requests: RequestRun
    /// Which execution of them it is, from 1.
    public var attempt: Int

    /// A run in a lane.
    public init(lane: UInt32, requests: RequestRun, attempt: Int) {
        self.lane = lane
        self.requests = requests
        self.attempt = attempt
    }
}

/// What a client asks of a node. All but `open` name a session, whose secret they carry.
public enum ClientCall: Sendable {
    /// A session in that partition, please.
    case open(PartitionID, pipeline: UInt32, SessionSecret, window: Int)
    /// Accept this run.
    indirect case submit(PartitionID, SessionID, SessionSecret, AcceptRun)
    /// Nobody waits for these any more.
    case cancel(PartitionID, SessionID, SessionSecret, SequenceRun)
    /// Send all outcomes that are not acknowledged, then each later one.
    case attach(PartitionID, SessionID, SessionSecret)
    /// These outcomes arrived, and everything below `lowestOpen`. There is no answer.
    case ack(PartitionID, SessionID, SessionSecret, [SequenceRun], lowestOpen: UInt64)
    /// The session is not needed any more.
    case close(PartitionID, SessionID, SessionSecret)

    /// Which partition it is about.
    public var partition: PartitionID {
        switch self {
        case .open(let partition, _, _, _), .submit(let partition, _, _, _), .cancel(let partition, _, _, _),
            .attach(let partition, _, _), .ack(let partition, _, _, _, _), .close(let partition, _, _):
            partition
        }
    }
}

/// What a node answers.
public enum ClientAnswer: Sendable {
    /// To `open`.
    case opened(SessionID)
    /// To `submit`: accepted up to and including `through`.
    case accepted(through: UInt64)
    /// To `submit`: nothing from `from` on was accepted.
    indirect case refused(from: UInt64, FlockError)
    /// It had no effect.
    indirect case failed(FlockError)
    /// To `cancel`, `attach` and `close`.
    case done
    /// Another node has the partition, as of that version of the view.
    case moved(version: UInt64, NodeID)
    /// Nobody serves the partition now, as far as is known here; whether an earlier try had an effect is unknown.
    case unavailable(retryAfter: Duration)
}
