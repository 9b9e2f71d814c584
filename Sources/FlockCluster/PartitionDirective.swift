// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A run of accepted requests on its way to a stage.
public struct OpenRun: Sendable {
    /// Which requests.
    public var requests: RequestRun
    /// The pipeline's number, as given when the session was opened.
    public var pipeline: UInt32
    /// One item a request.
    public var items: ItemBuffer
    /// When its outcome is due, in this process's time; nil for no limit.
    public var deadline: Tick?
    /// The caller's trace.
    public var trace: TraceContext?
    /// Which execution this is, from 1; those that their process did not survive are `deaths`.
    public var attempt: Int
    /// Processes that died, or may have, while they had these requests: with one the run is *suspect*. It is executed
    /// apart from others, where its own death harms least, and is parted in halves with each.
    public var deaths = 0
    /// Its share where it waits with others. A partition knows none: its shell says it.
    public var priority = RequestPriority.normal

    /// A run of `requests.count` items.
    public init(
        requests: RequestRun, pipeline: UInt32, items: ItemBuffer, deadline: Tick? = nil, trace: TraceContext? = nil,
        attempt: Int = 1
    ) {
        precondition(requests.count == items.count, "\(items.count) items for \(requests)")
        self.requests = requests
        self.pipeline = pipeline
        self.items = items
        self.deadline = deadline
        self.trace = trace
        self.attempt = attempt
    }

    /// The requests `first ..< first + count` of this run, on the same storage.
    public func slice(from first: Int, count: Int) -> OpenRun {
        if first == 0 && count == items.count { return self }
        var part = self
        part.requests.sequences = SequenceRun(first: requests.sequences.first + UInt64(first), count: count)
        part.items = items.slice(from: first, count: count)
        return part
    }
}

/// What the shell does for a partition, in order.
public enum PartitionDirective: Sendable {
    /// Answers `open`: the session exists.
    case opened(reply: UInt64, session: SessionID)
    /// Answers `submit`: every sequence of the run up to and including `through` is accepted.
    case accepted(reply: UInt64, through: UInt64)
    /// Answers `submit`: no sequence of the run from `from` on was accepted (those before it, if any, were).
    ///
    /// `unavailable` and `moved` say that this replica does not know: they may have been accepted before.
    /// `overloaded` and a retry after `retryAfter` may help; `tooLarge` and `invalidInput` never will: submit less at
    /// once or cancel; `expired` says that these sequences were acknowledged long ago.
    indirect case refused(reply: UInt64, from: UInt64, error: FlockError)
    /// Hand the run to the dispatcher of its pipeline.
    case dispatch(OpenRun)
    /// Nobody waits for these any more: take them out of queues, cancel them where they run. Best effort.
    case revoke(RequestRun)
    /// Outcomes for a subscriber, at most `limits.runsPerFrame` runs and about a quarter of `limits.frameBytes` (a
    /// single run may be larger).
    case deliver(subscriber: UInt64, session: SessionID, runs: [OutcomeRun])
    /// Answers any call: it had no effect. With `unavailable` or `moved` that is not known, as this replica is not, or
    /// no longer, the primary: a retry with the same ids is safe and will find out.
    indirect case failed(reply: UInt64, error: FlockError)
    /// Answers `cancel`, `attach`, `ack` and `close` that gave a `reply`.
    case done(reply: UInt64)
    /// The session is gone, by `close` or by idleness.
    case sessionClosed(SessionID)
    /// The log says what has befallen these open requests: they may be dispatched again. `attempts` is what the entry
    /// counted, of deaths or of executions.
    case attempted(RequestRun, attempts: Int)
    /// To another replica of this partition. May be lost, doubled and overtaken.
    case send(MemberNumber, ReplicationMessage)
    /// For the voters.
    case report(PartitionReport)
    /// Durable groups: write these entries, the first of which is at `first`, over whatever was written there and
    /// after it; then say `persisted`.
    case persist(first: UInt64, [LogEntry])
    /// Durable groups: the log begins anew with this state; then say `persisted` with its index.
    case persistSnapshot([SnapshotPart])
    /// This replica is the primary now and has committed the entry of its epoch: `openRuns` are to be dispatched.
    case serving
    /// This replica is no longer the primary: its runs are to be taken out of dispatchers.
    case demoted
    /// Another replica is in this later epoch: the view that is installed here is old.
    case behind(epoch: UInt64)
}
