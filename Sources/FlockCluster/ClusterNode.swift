// Flockwork · Apache-2.0 · see LICENSE

// A node's whole share of the protocol as one value: membership, its copies of partitions, the dispatchers of what it
// is primary of, and what its stages hold for whomever. The live node and the simulator drive this same type.

internal import DequeModule
public import FlockWire

/// One process of a cluster, without I/O, clock or randomness.
public struct ClusterNode: Sendable {
    /// The node's stable name.
    public let node: NodeID
    let limits: Limits
    let rules: Rules
    let plan: StagePlan
    /// Entries whose hashes each copy remembers, for checkers.
    let history: Int
    /// It would begin a cluster with partitions on disks, and has none.
    let isMissingDisk: Bool
    /// It has a disk for its copies of durable partitions.
    let hasDisk: Bool
    /// What that disk had when the process started and no view has asked for yet.
    var recovered: [RecoveredCopy]
    /// The disk does not take anything any more.
    var isDiskFailed = false
    var control: ControlNode
    /// This node's copies, by partition; nil where it has no seat.
    var replicas: [PartitionReplica?]
    /// The seats that the replicas know.
    var seats: [PartitionSeats?]
    var budget: ByteBudget
    /// By lane.
    var dispatchers: [Dispatcher] = []
    /// To and from each other member, by number.
    var links: [WorkLink] = []
    /// What this node's stages hold.
    var jobs = JobTable()
    var calls = CallTable()
    /// Partitions whose runs may still be with stages that another primary gave them to.
    var inquiries: [Inquiry] = []
    /// Suspect runs that begin here once the log says so; one, or none.
    var charges: [Charge] = []
    /// Another member's suspect run was handed back since the last one began here.
    var hasTurnedAway = false
    /// Lanes of suspended pipelines, ascending.
    var suspended: [Int] = []
    /// Instances of each stage that the shell has, and that it was told to have.
    var hosted: [Int]
    var placed: [Int]?
    /// By lane: the dispatcher may send to this node's own stages.
    var isOpenHere: [Bool]
    /// The copies in sync that the replicas were told to need; 0 before any view.
    var minimumInSync = 0
    /// Why this process does nothing.
    var refusal: FlockError?
    /// This process's number; nil before it is admitted.
    public internal(set) var member: MemberNumber?
    /// When `tick` is due.
    public private(set) var nextDeadline = Tick.zero

    /// Not later than the first deadline of any replica.
    var replicaDeadline = Tick.never
    var workDeadline = Tick.never
    var now: Tick
    var dispatcherIsDue = false
    /// Its own stages are among the hosts of its dispatchers.
    var isHostItself = false
    /// Messages to this node's own stages and from them.
    var local: Deque<WorkMessage> = []
    // Reused.
    var controlDirectives: [ControlDirective] = []
    var partitionDirectives: [PartitionDirective] = []
    var dispatcherDirectives: [DispatcherDirective] = []
    /// Executions that begin when this step's frames are on their way.
    var beginning: [NodeDirective] = []
    /// By partition: who was primary before the present one.
    var formers: [MemberNumber?] = []
    /// It was told to go; and has said that only its seats keep it.
    var isLeaving = false
    var isDrained = false
    /// Partitions whose replica was given an event in this step, for whoever checks it.
    package var touched: [PartitionID] = []

    /// A process that starts. `record` is what its disk holds if it is a voter, `copies` what it holds of partitions if
    /// it is the candidate's `disk`; `seed` decides its random choices. It has no instances before it `hosts` some.
    package init(
        configuration: ControlConfiguration, record: VoterRecord?, copies: [RecoveredCopy] = [],
        plan: StagePlan,
        limits: Limits, seed: UInt64,
        rules: Rules = .all, history: Int = 0, now: Tick
    ) {
        node = configuration.candidate.node
        self.limits = limits
        self.rules = rules
        self.history = history
        self.plan = plan
        hosted = Array(repeating: 0, count: plan.stages.count)
        isOpenHere = Array(repeating: false, count: plan.pipelines.count)
        self.now = now
        control = ControlNode(configuration: configuration, record: record, seed: seed, rules: rules, now: now)
        replicas = []
        seats = []
        hasDisk = configuration.candidate.disk != 0
        isMissingDisk = configuration.isBootstrap && configuration.durablePartitions > 0 && !hasDisk
        recovered = copies
        budget = ByteBudget(limits: limits)
        dispatchers = plan.pipelines.indices.map { Dispatcher(seed: seed &+ UInt64($0), limits: limits) }
        nextDeadline = now
    }

    /// The state of the cluster that it knows; nil before it knows any.
    public var view: ControlState? { control.view }

    /// Handles one event and appends what is to be done. `now` must not go back.
    public mutating func step(_ event: NodeEvent, now: Tick, out: inout [NodeDirective]) {
        self.now = max(self.now, now)
        touched.removeAll(keepingCapacity: true)
        if isMissingDisk { refuse(Self.needsDisks(node), out: &out) }
        guard refusal == nil else {
            nextDeadline = .never
            return
        }
        switch event {
        case .message(let from, let message): receive(message, from: from, out: &out)
        case .persisted(let token): stepControl(.persisted(token), out: &out)
        case .persistFailed: stepControl(.persistFailed, out: &out)
        case .kept(let kept):
            for one in kept {
                stepReplica(one.partition, .persisted(through: one.through, epoch: one.epoch), out: &out)
            }
        case .snapshotWanted(let partition): keepSnapshot(of: partition, out: &out)
        case .diskFailed: diskFailed(out: &out)
        case .connectionReset(let node):
            if !rules.agreesOnOwnership, let peer = control.view?.member(on: node) {
                seize(from: peer.number, out: &out)
            }
            stepControl(.connectionReset(node), out: &out)
        case .call(let connection, let number, let call):
            handle(call, connection: connection, number: number, out: &out)
        case .clientGone(let connection): clientGone(connection, out: &out)
        case .executed(let job, let outcomes, let failed, let returned):
            executed(job: job, outcomes: outcomes, failed: failed, returned: returned)
        case .hosts(let counts): hosts(counts, out: &out)
        case .leave:
            isLeaving = true
            stepControl(.leave, out: &out)
        case .command(let command): stepControl(.command(command), out: &out)
        case .tick: tick(out: &out)
        }
        settle(out: &out)
    }

    private mutating func receive(_ message: NodeMessage, from: NodeID, out: inout [NodeDirective]) {
        switch message {
        case .control(let message): stepControl(.message(from: from, message), out: &out)
        case .replication(let sender, let receiver, let partition, let message):
            guard receiver == member else { return }
            stepReplica(partition, .replication(from: sender, message), out: &out)
        case .work(let frame):
            guard frame.to == member, let place = place(of: frame.from) else { return }
            var messages: [WorkMessage] = []
            let wasStalled = links[place].isStalled
            links[place].receive(frame, now: self.now, into: &messages)
            if wasStalled && !links[place].isStalled { hostUp(frame.from, out: &out) }
            for message in messages { handle(message, from: frame.from, out: &out) }
        }
    }

    private mutating func tick(out: inout [NodeDirective]) {
        if control.nextDeadline <= now { stepControl(.tick, out: &out) }
        if replicaDeadline <= now {
            replicaDeadline = .never
            for number in replicas.indices {
                guard let deadline = replicas[number]?.due() else { continue }
                if deadline <= now {
                    stepReplica(PartitionID(number), .tick, out: &out)
                } else {
                    replicaDeadline = min(replicaDeadline, deadline)
                }
            }
        }
        if workDeadline <= now { tickWork(out: &out) }
    }

    /// What the event led to within the node: queued runs go out, frames are closed, the next deadline is known.
    private mutating func settle(out: inout [NodeDirective]) {
        if !charges.isEmpty { lookAfterCharges(out: &out) }
        var rounds = 0
        while dispatcherIsDue || !local.isEmpty {
            rounds += 1
            precondition(rounds < 10_000, "\(node) does not come to rest")
            while let message = local.popFirst() {
                guard let member else { continue }
                handle(message, from: member, out: &out)
            }
            if dispatcherIsDue {
                dispatcherIsDue = false
                for lane in dispatchers.indices { stepDispatcher(lane, .tick, out: &out) }
            }
        }
        drain(out: &out)
        if let member {
            for place in links.indices {
                while links[place].hasToSend, let frame = links[place].takeFrame(from: member, now: now) {
                    out.append(.send(links[place].node, .work(frame)))
                }
                workDeadline = min(workDeadline, links[place].resendAt)
            }
        }
        if !beginning.isEmpty {
            out += beginning
            beginning.removeAll()
        }
        // One that is due goes on in a step of its own: there may be many.
        for lane in dispatchers.indices { workDeadline = min(workDeadline, dispatchers[lane].nextDeadline()) }
        nextDeadline = min(control.nextDeadline, replicaDeadline, workDeadline)
    }

    /// Says once that its stages and dispatchers are empty, after the view let others know that it leaves.
    private mutating func drain(out: inout [NodeDirective]) {
        guard isLeaving, !isDrained, let member, control.view?.member(member)?.phase == .leaving else { return }
        guard jobs.isEmpty, dispatchers.allSatisfy({ $0.queuedItems == 0 && $0.sentItems == 0 }) else { return }
        // First, that nobody sends what would only come back.
        isDrained = true
        tellHosted()
        hostsChanged(out: &out)
        stepControl(.drained, out: &out)
    }

    // MARK: Control

    mutating func stepControl(_ event: ControlEvent, out: inout [NodeDirective]) {
        var directives: [ControlDirective] = []
        swap(&directives, &controlDirectives)
        control.step(event, now: now, out: &directives)
        for directive in directives {
            switch directive {
            case .send(let node, let message): out.append(.send(node, .control(message)))
            case .persist(let record, let token): out.append(.persist(record, token: token))
            case .install(let changed): install(changed, out: &out)
            case .admitted(let number):
                member = number
                out.append(.admitted(number))
                installAll(out: &out)
            case .evicted: out.append(.evicted)
            case .left: out.append(.left)
            case .votesOn(let tolerated): out.append(.votesOn(tolerated: tolerated))
            case .refused(let error): refuse(error, out: &out)
            case .lost(let partitions): out.append(.lost(partitions))
            }
        }
        directives.removeAll(keepingCapacity: true)
        swap(&directives, &controlDirectives)
    }
}
