// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// 128 bits that prove a session's ownership: session ids can be guessed, so every call carries its secret.
public struct SessionSecret: Sendable, Equatable, CustomStringConvertible {
    /// The upper 64 bits.
    public let high: UInt64
    /// The lower 64 bits.
    public let low: UInt64

    /// A secret from 128 random bits (drawn by the shell: this target has no randomness).
    public init(_ high: UInt64, _ low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Compares both halves always, so that the time taken says nothing about where they differ.
    public static func == (left: SessionSecret, right: SessionSecret) -> Bool {
        (left.high ^ right.high) | (left.low ^ right.low) == 0
    }

    /// Never the secret.
    public var description: String { "***" }
}

/// A run of requests that a client wants accepted.
public struct AcceptRun: Sendable {
    /// The sequences, contiguous with what the session submitted before.
    public var sequences: SequenceRun
    /// One item a sequence. Pass `unpinned()` items: the budget counts their bytes, not the storage behind them.
    public var items: ItemBuffer
    /// Time from acceptance in which there must be an outcome; nil for no limit.
    public var deadline: Duration?
    /// The caller's trace, if it has one.
    public var trace: TraceContext?

    /// A run of `sequences.count` items; a count that differs is refused as `invalidInput`, not trapped.
    public init(sequences: SequenceRun, items: ItemBuffer, deadline: Duration? = nil, trace: TraceContext? = nil) {
        self.sequences = sequences
        self.items = items
        self.deadline = deadline
        self.trace = trace
    }
}

/// What happens to a partition. Values may come from the wire as they are: nothing in them can break the replica.
///
/// `reply` and `subscriber` are numbers of the shell's own; the replica hands them back in directives and knows
/// nothing else about them. Where `reply` is optional the call is answered with `done` or `failed` if it is given.
public enum PartitionEvent: Sendable {
    /// A client wants a session. `window` is cut to `1...limits.sessionWindow`. Answer: `opened` or `failed`.
    case open(pipeline: UInt32, secret: SessionSecret, window: Int, reply: UInt64)
    /// A client submits a run. Answer: `accepted` or `refused`; `failed` when there is no such session.
    ///
    /// Sequences that were accepted before are accepted again (their payload is the first one, whatever this run
    /// carries) and never dispatched twice.
    case submit(session: SessionID, secret: SessionSecret, run: AcceptRun, reply: UInt64)
    /// Open sequences get the outcome `cancelled` and are revoked; done ones keep theirs; those never accepted (from
    /// the next expected one on) are committed as cancelled, so that later runs of the session may follow.
    case cancel(session: SessionID, secret: SessionSecret, sequences: SequenceRun, reply: UInt64? = nil)
    /// `subscriber` gets all outcomes that are done and not acknowledged, then each later one. The newest wins.
    case attach(session: SessionID, secret: SessionSecret, subscriber: UInt64, reply: UInt64? = nil)
    /// `subscriber` is gone; its sessions go on without one.
    case detach(subscriber: UInt64)
    /// The client has these outcomes, and everything below `lowestOpen`. Unknown and open sequences are left alone.
    case ack(
        session: SessionID, secret: SessionSecret, runs: [SequenceRun], lowestOpen: UInt64, reply: UInt64? = nil)
    /// The client is done with the session: what is open is revoked, everything is given back.
    case close(session: SessionID, secret: SessionSecret, reply: UInt64? = nil)
    /// Outcomes from a stage, from whomever and whenever: the first one of a sequence counts. Goes to the primary;
    /// elsewhere it changes nothing.
    case completed(session: SessionID, runs: [OutcomeRun])
    /// A host that held these sequences went down; with it `attempts` processes did so far. Logged before they are
    /// dispatched again, so that a new primary knows the count. One event for each part that is to be apart from then
    /// on.
    case attempted(session: SessionID, sequences: SequenceRun, attempts: Int)
    /// Of these sequences `attempts` executions have begun that gave no outcome, while the processes that had them
    /// lived. Logged before they are dispatched again, as above.
    case failed(session: SessionID, sequences: SequenceRun, attempts: Int)
    /// The installed view's seats of this partition; nil (or seats without this member) if it has none here, and the
    /// copy is dropped. Seats of an earlier epoch than the installed one change nothing.
    case seats(PartitionSeats?, minimumInSync: Int)
    /// Another replica of this partition says something.
    case replication(from: MemberNumber, ReplicationMessage)
    /// Durable groups: what `persist` handed out is on the disk up to the entry at `through`, whose epoch is `epoch`.
    case persisted(through: UInt64, epoch: UInt64)
    /// Time went by. Due at `nextDeadline`; earlier or later calls are harmless.
    case tick
}
