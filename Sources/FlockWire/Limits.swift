// Flockwork · Apache-2.0 · see LICENSE

// Every bound of the system, in one place. A node and a client take a `Limits`; the defaults fit a machine with a few
// cores and some GiB. Reaching one is never silent: the caller gets an error, and a counter moves.

/// The bounds of a process.
public struct Limits: Sendable, Equatable {
    public init() {}

    // MARK: Wire

    /// Body bytes of a frame before authentication.
    public var handshakeFrameBytes = 4096
    /// Body bytes of a frame.
    public var frameBytes = 16 << 20
    /// Bytes of one encoded request, or of one result.
    public var payloadBytes = 1 << 20
    /// Items of a run of requests or outcomes in one frame.
    public var itemsPerRun = 65_536
    /// Runs in one frame.
    public var runsPerFrame = 4096
    /// Nesting of a decoded value.
    public var codingDepth = 64
    /// Elements of a decoded collection.
    public var codingElements = 1 << 20
    /// UTF-8 bytes of an error's message on the wire.
    public var errorTextBytes = 1024
    /// UTF-8 bytes of a name: node, pipeline, stage, actor.
    public var nameBytes = 255
    /// Dimensions of a tensor.
    public var tensorDimensions = 8

    // MARK: Connections

    /// Connections of a listener, authenticated or not.
    public var connections = 10_000
    /// Connections that have not authenticated yet.
    public var halfOpenConnections = 128
    /// Time for the handshake.
    public var handshakeTime = Duration.seconds(5)
    /// Time in which a frame that began must end.
    public var frameTime = Duration.seconds(30)
    /// Bytes of a read buffer; one frame may need a larger one of its own.
    public var readBufferBytes = 256 << 10
    /// Bytes waiting to be written at which a connection asks its producers to stop.
    public var writeHighWaterBytes = 4 << 20
    /// Bytes waiting to be written at which they may go on.
    public var writeLowWaterBytes = 1 << 20
    /// Bytes waiting to be written at which the connection is closed: its peer does not read.
    public var writeMaximumBytes = 64 << 20
    /// Time in which a peer's host must acknowledge what was sent to it, and its process make room for more.
    public var acknowledgeTime = Duration.seconds(2)
    /// First and last pause between attempts to connect.
    public var reconnectMinimum = Duration.milliseconds(10)
    public var reconnectMaximum = Duration.seconds(2)
    /// Time for one attempt to connect, and in which a new call or submit waits for a connection.
    public var connectTime = Duration.seconds(5)
    /// How long a session of a cluster looks for a node that takes its requests over, when its own is lost.
    public var recoveryTime = Duration.seconds(60)

    // MARK: Calls

    /// Calls that wait for an answer, over one connection.
    public var pendingCalls = 65_536
    /// Calls of one peer that run at once.
    public var runningCalls = 4096
    /// Entries of a method table.
    public var methods = 4096
    /// Bytes of a method's identifier.
    public var methodNameBytes = 1024
    /// A call without a deadline of its own.
    public var callTime = Duration.seconds(30)

    // MARK: Inbox

    /// Partitions of a partition group.
    public var partitions = 271
    /// Sequences of a session that are open, or done and not yet acknowledged.
    public var sessionWindow = 65_536
    /// Sessions of a partition.
    public var sessionsPerPartition = 4096
    /// Payload bytes accepted and not yet done, plus result bytes reserved, on one node.
    public var openBytes = 512 << 20
    /// Result bytes of a session that wait for their acknowledgement.
    public var sessionResultBytes = 64 << 20
    /// Result bytes that an accepted item reserves.
    public var reservedResultBytes = 1024
    /// How long an outcome is kept for a client that does not acknowledge it.
    public var outcomeTimeToLive = Duration.seconds(600)
    /// How long a session without a call is kept.
    public var sessionIdleTime = Duration.seconds(1800)
    /// A request is accepted if, by what was learned, it takes at most so much of its deadline. A queue that is just
    /// short enough makes all late when anything takes longer, and one of half that length keeps a stage as busy.
    public var deadlineShare = 0.6
    /// What `overloaded` tells callers, at least.
    public var retryAfter = Duration.milliseconds(5)
    /// Result bytes of all sessions of a node that wait for their acknowledgement; above it nothing new is accepted.
    public var unreadResultBytes = 1 << 30

    // MARK: Replication

    /// Log bytes sent to one replica of a partition and not yet acknowledged.
    public var replicationWindowBytes = 4 << 20
    /// Log bytes of one message, unless a single entry is larger.
    public var replicationMessageBytes = 1 << 20
    /// Log bytes kept for replicas that do not count yet; one that needs older ones starts again with a snapshot.
    public var replicationLogBytes = 64 << 20
    /// Entries of a partition that wait for its in-sync set; above it calls are refused as `overloaded`.
    public var uncommittedEntries = 65_536
    /// First and last pause before entries that were not acknowledged are sent again.
    public var resendMinimum = Duration.milliseconds(50)
    public var resendMaximum = Duration.milliseconds(500)
    /// A replica in sync that is so far behind is reported.
    public var laggingTime = Duration.milliseconds(500)
    /// Backups hear of a commit with the next entries, or after this time without any.
    public var commitNoticeTime = Duration.milliseconds(100)

    // MARK: Stages

    /// Items sent to one stage host and not yet answered, per dispatcher.
    public var creditItems = 65_536
    /// Bytes sent to one stage host and not yet answered, per dispatcher.
    public var creditBytes = 64 << 20
    /// Items of one call of `process`.
    public var batchItems = 16_384
    /// Item bytes of one call of `process`.
    public var batchBytes = 16 << 20
    /// Calls of `process` spent on finding the bad items of one failing batch.
    public var bisectionCalls = 64
    /// Time for one call of `process` before its instance counts as hung.
    public var attemptTime = Duration.seconds(60)
    /// Executions of an item before it is given up.
    public var attempts = 3
    /// Time that a draining node gives to what it holds.
    public var drainTime = Duration.seconds(30)

    // MARK: Bundles

    /// Files of a bundle.
    public var bundleFiles = 10_000
    /// Bytes of a bundle's files together.
    public var bundleBytes = 16 << 30
    /// UTF-8 bytes of a path in a bundle.
    public var bundlePathBytes = 512
    /// Bytes of a bundle that a node asks a peer for at once.
    public var bundleChunkBytes = 1 << 20
}
