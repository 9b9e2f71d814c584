// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// The one actor that clients can call. It lives on the node's loop: frames are handled where they are read, partitions
// and dispatchers are plain values inside it, and nothing on the way of a batch takes a lock before the mailbox.
//
// It is the shell of the pure parts: it turns frames into events, hands them to `PartitionReplica` and `Dispatcher`,
// and carries their directives out. Its extensions: +Sessions and +Streams (clients), +Dispatch (stages). In a cluster
// whose views are agreed it is the shell of one `ClusterNode` instead (Cluster/): the same sessions, streams and lanes.

distributed actor InboxActor {
    typealias ActorSystem = FlockSystem

    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }

    let limits: Limits
    let log: Logger
    let view: View
    let generation: UInt16
    /// Copies and members are as an agreed view says: what follows about partitions is empty.
    let isClustered: Bool
    /// Nil until this process knows who the others are, or if it is not clustered.
    var cluster: ClusterShell?
    /// Where what a voter must not forget is; nil for a node without a data folder.
    var voterFile: VoterFile?
    /// Under this node's copies of durable partitions.
    var durableLog: DurableLog?
    /// Whoever waits for this process to be a member.
    var admission: [UnsafeContinuation<Void, any Error>] = []
    /// Why the disk under `durableLog` takes nothing any more.
    var diskError: FlockError?
    /// Whoever waits to hear that this process is out for good.
    var exclusion: [UnsafeContinuation<FlockError?, Never>] = []

    /// Those who wait for a view in which something is true.
    var viewWaiters: [UInt64: ViewWaiter] = [:]
    /// An operator asks this node to leave; and who wants to hear of it.
    var isAskedToLeave = false
    var askedToLeave: [UnsafeContinuation<Void, Never>] = []
    /// Suspended pipelines of a node that is in no cluster.
    var suspendedHere: [String] = []

    /// By partition number; nil where another node is primary.
    var replicas: [PartitionReplica?]
    var budget: ByteBudget
    /// The partitions of this node, and which of them gets the next session.
    let owned: [PartitionID]
    var nextOwned = 0

    var pipelines: [HostedPipeline] = []
    /// The instances of this node, by their plans; in a cluster as its views want them.
    var places: [PlacedLane] = []
    var laneFactory: LaneFactory?
    /// Instances whose place others have taken, that finish what they hold.
    var retiring: [UInt64: Task<Void, Never>] = [:]
    /// What all nodes of a cluster run.
    var plan: StagePlan?
    var isEndingPlaces = false
    /// For tests.
    var crashPoint: CrashPoint?
    var streams: [UInt64: OutcomeStream] = [:]
    var streamOfSession: [SessionPlace: UInt64] = [:]
    var nextNumber: UInt64 = 1
    var opening: [UInt64: UnsafeContinuation<SessionID, any Error>] = [:]
    var closing: [UInt64: UnsafeContinuation<Void, any Error>] = [:]
    var dirtyStreams: [UInt64] = []
    var directives: [PartitionDirective] = []
    /// The last sequence that the submit under way had accepted.
    var acceptedThrough: UInt64?
    var counters = Counters()
    /// Nil if nobody takes metrics.
    var metrics: NodeMetrics?
    var sampling: LoopTimer?
    var isDraining = false
    var drained: [UnsafeContinuation<Void, Never>] = []
    /// The time for draining is over.
    var isAbandoned = false
    var turn: TurnHook?
    var timer: LoopTimer?
    var timerDue = Tick.never

    /// What this node did since it started.
    struct Counters {
        var accepted: UInt64 = 0
        var completed: UInt64 = 0
        var failed: UInt64 = 0
        var refused: UInt64 = 0
    }

    init(
        view: View, generation: UInt16, isClustered: Bool, limits: Limits, log: Logger, actorSystem: FlockSystem
    ) {
        self.view = view
        self.isClustered = isClustered
        self.generation = generation
        self.limits = limits
        self.log = log
        self.actorSystem = actorSystem
        budget = ByteBudget(limits: limits)
        let node = actorSystem.node
        owned = isClustered ? [] : view.partitions(ownedBy: node)
        replicas = Array(repeating: nil, count: isClustered ? 0 : view.partitionCount)
        for partition in owned {
            replicas[Int(partition.rawValue)] = PartitionReplica(
                partition: partition, epoch: 1, node: node, inSync: [node], generation: generation, limits: limits)
        }
    }

    /// Takes the pipelines and begins to answer. Once, before the node listens.
    func start(_ pipelines: [HostedPipeline]) {
        self.pipelines = pipelines
        turn = TurnHook(on: actorSystem.loop) { [weak self] in
            self?.assumeIsolated { $0.endOfTurn() }
        }
        for index in pipelines.indices where !isClustered { startDispatching(index) }
        actorSystem.onPeer(
            up: { [weak self] peer in self?.assumeIsolated { $0.peerUp(peer) } },
            down: { [weak self] peer, reason in self?.assumeIsolated { $0.peerDown(peer, reason) } })
    }

    // MARK: Called by clients

    /// Opens a session for a pipeline, in one of this node's partitions.
    distributed func open(_ request: OpenRequest) async throws -> SessionToken {
        try await openSession(request)
    }

    /// Streams acceptance and outcomes of a session: a direct call with parts, for as long as it is connected.
    distributed func fetch(_ key: SessionKey) async throws {
        throw FlockError(.invalidInput, "InboxActor.fetch streams its answer: use a direct call.")
    }

    /// Requests, and what was taken of earlier outcomes. Answered through the session's stream.
    distributed func submit(_ message: EncodedMessage) async throws {
        var reader = ByteReader(message.bytes)
        try submitted(SubmitMessage(from: &reader, limits: limits))
    }

    /// What was taken of earlier outcomes: a submit without requests.
    distributed func ack(_ message: EncodedMessage) async throws {
        var reader = ByteReader(message.bytes)
        try submitted(SubmitMessage(from: &reader, limits: limits))
    }

    /// Gives requests up.
    distributed func cancel(_ message: EncodedMessage) async throws {
        var reader = ByteReader(message.bytes)
        try cancelled(CancelMessage(from: &reader, limits: limits))
    }

    /// Gives a session back, with all its outcomes.
    distributed func close(_ token: SessionToken) async throws {
        try await closeSession(token.key)
    }

    /// The cluster's nodes and pipelines.
    distributed func describe() async -> ClusterDescription {
        if isClustered { return clusterDescription() }
        return ClusterDescription(
            members: view.members.map { .init(node: $0.id, host: $0.host, port: $0.port) },
            pipelines: pipelines.map { PipelineInfo(name: $0.definition.name, form: $0.definition.form) })
    }

    /// What this node is doing.
    distributed func status() async -> NodeStatus { currentStatus() }

    // MARK: Direct calls, on the loop

    /// Has the hot methods answered in the frame's callback, without a task.
    static func registerDirect(in system: FlockSystem, limits: Limits) {
        system.direct(InboxActor.self, "fetch") { inbox, call in
            do {
                var reader = ByteReader(call.arguments)
                let key = try SessionKey(from: &reader)
                _ = inbox.assumeIsolated { $0.attach(key, to: .call(call)) }
            } catch {
                call.fail(FlockError(unreadable: "fetch", error, on: system.loop))
            }
        }
        system.direct(InboxActor.self, "submit") { inbox, call in
            do {
                var reader = ByteReader(call.arguments)
                let message = try SubmitMessage(from: &reader, limits: limits)
                inbox.assumeIsolated { $0.submitted(message) }
            } catch {
                // Nothing was accepted, and the client cannot be told which run it was: it speaks another protocol.
                call.peer.close(FlockError(unreadable: "submit", error, on: system.loop))
            }
        }
        system.direct(InboxActor.self, "cancel") { inbox, call in
            do {
                var reader = ByteReader(call.arguments)
                let message = try CancelMessage(from: &reader, limits: limits)
                inbox.assumeIsolated { $0.cancelled(message) }
            } catch {
                call.peer.close(FlockError(unreadable: "cancel", error, on: system.loop))
            }
        }
    }
}

/// A message in its frame form, for ordinary distributed calls of the methods that are usually called directly.
struct EncodedMessage: Codable, Sendable {
    var data: [UInt8]
    var bytes: Bytes { Bytes(data) }
}

/// A session's place, without its secret.
struct SessionPlace: Hashable, Sendable {
    var partition: PartitionID
    var session: SessionID
}

/// Where a session's outcomes go.
struct OutcomeStream {
    enum Sink {
        case call(DirectCall)
        case local(onPart: @Sendable (StreamPart) -> Void, onEnd: @Sendable (FlockError) -> Void)
    }
    let place: SessionPlace
    let sink: Sink
    /// Its number on this node, if the session exists.
    let pipeline: Int?
    var part = StreamPart()
    var hasNews = false
}

extension FlockError {
    /// A message of a peer that cannot be read; counted if it was over a bound.
    init(unreadable message: String, _ error: any Error, on loop: EventLoop) {
        loop.limitsReached.reached(by: error)
        self.init(.protocolViolation, "\(message): \(error)", limit: Limit(of: error))
    }
}
