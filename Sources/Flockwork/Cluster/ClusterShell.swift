// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockCluster
internal import FlockWire

// A node's share of the cluster, and what its inbox keeps beside it. `ClusterNode` decides; the inbox carries out.

/// Of the inbox, on the loop. A class, so that the node is stepped where it lies.
final class ClusterShell {
    /// A call of a client that the node has not answered.
    enum Call {
        case open(UnsafeContinuation<SessionID, any Error>)
        case close(UnsafeContinuation<Void, any Error>)
        case attach(stream: UInt64)
        case submit(stream: UInt64, run: SequenceRun, notifies: Bool)
    }

    /// A run that this node's stages have, in whole or in part.
    struct Work {
        var requests: RequestRun
        var lane: Int
        /// Items that have not ended.
        var left: Int
    }

    var node: ClusterNode
    let configuration: ControlConfiguration
    let plan: StagePlan
    /// Stages that no member may have instances of, as the log has said.
    var unplaceable: [Int] = []
    /// What a voter must not forget; outlives the node, not the process.
    var record: VoterRecord?

    /// Directives that wait for their turn: carrying one out may lead to the next event.
    var directives: [NodeDirective] = []
    var waiting = Deque<NodeDirective>()
    var isCarryingOut = false

    var calls: [UInt64: Call] = [:]
    var work: [UInt64: Work] = [:]
    /// Counts the processes that this one has been, whose jobs have numbers of their own.
    var life = 0
    /// Runs that go to this node's stages at the end of the turn, by lane.
    var taken: [[WorkRun]]
    /// Messages that leave at the end of the turn.
    var outgoing: [NodeID: Outgoing] = [:]
    /// In the order in which they were first written to.
    var addressees: [NodeID] = []

    /// The view that links and streams follow.
    var followed: UInt64 = 0
    /// Members that a link is kept to, and where they are.
    var linked: [NodeID: Address] = [:]
    /// Nodes that introduced themselves and are no members yet, and until when they are kept.
    var guests: [NodeID: Tick] = [:]
    /// Where they are.
    var guestAddresses: [NodeID: Address] = [:]
    var hasLeft = false
    /// Why this process is no part of the cluster.
    var refusal: FlockError?
    var leaving: [UnsafeContinuation<Void, Never>] = []

    /// Where a node listens.
    struct Address: Equatable {
        var host: String
        var port: Int
    }

    init(
        _ configuration: ControlConfiguration, record: VoterRecord?, copies: [RecoveredCopy], plan: StagePlan,
        limits: Limits, now: Tick
    ) {
        self.configuration = configuration
        self.record = record
        self.plan = plan
        taken = Array(repeating: [], count: plan.pipelines.count)
        node = ClusterNode(
            configuration: configuration, record: record, copies: copies, plan: plan, limits: limits,
            seed: .random(in: .min ... .max), now: now)
    }

    var status: ClusterStatus? { node.view.map { ClusterStatus($0, member: node.member) } }

    /// The message leaves at the end of the turn, perhaps with an earlier one about the same partition.
    func post(_ message: NodeMessage, to node: NodeID) {
        if outgoing[node] == nil { addressees.append(node) }
        outgoing[node, default: Outgoing()].post(message)
    }

    /// This process is out: it goes on as another one, with an empty memory.
    func beginAgain(limits: Limits, now: Tick) {
        var configuration = configuration
        configuration.candidate.incarnation = .random(in: 1 ... .max)
        configuration.isBootstrap = false
        if let view = node.view { configuration.voters = view.voters }
        node = ClusterNode(
            configuration: configuration, record: record, plan: plan, limits: limits,
            seed: .random(in: .min ... .max), now: now)
        work = [:]
        life += 1
        followed = 0
    }
}

/// Messages of a turn to one node.
struct Outgoing {
    /// They have a connection of their own: no sign of life waits behind entries.
    private(set) var control: [NodeMessage] = []
    private(set) var bulk: [NodeMessage] = []

    /// Messages looked at for an earlier one of the same partition.
    private static let reach = 8

    /// Messages about different partitions may overtake each other; those about one do not.
    mutating func post(_ message: NodeMessage) {
        if case .control = message { return control.append(message) }
        if let partition = message.replicated {
            for place in bulk.indices.suffix(Self.reach).reversed() where bulk[place].replicated == partition {
                if bulk[place].absorb(message) { return }
                break
            }
        }
        bulk.append(message)
    }
}
