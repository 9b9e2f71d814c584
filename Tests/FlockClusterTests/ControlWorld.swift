// Flockwork · Apache-2.0 · see LICENSE

// Many control nodes, a bad network, disks and a clock, all from one seed. Replicas are faked: a learner whose primary
// reaches it has caught up a while later.

import FlockWire

@testable import FlockCluster

/// What can go wrong between and in processes, in milliseconds and percent.
struct Faults {
    var delay: ClosedRange<Int> = 0...2
    var loss = 0
    var duplication = 0
    /// Percent of persists that are not on the disk when their process crashes at that moment anyway.
    var diskDelay: ClosedRange<Int> = 0...3
}

struct ControlWorld {
    /// A process, running or not.
    struct Process {
        var node: ControlNode
        var incarnation: UInt64
        var isUp = true
        var pausedUntil = Tick.zero
        var disk: VoterRecord?
        /// Records that are being written.
        var writing: [(token: UInt64, record: VoterRecord)] = []
        /// The tick event that is queued.
        var wakeAt = Tick.never
        var version: UInt64 = 0
        var isEvicted = false
        var hasLeft = false
        var isLeaving = false
        var votesOn: Int?
        var refusal: FlockError?
    }

    enum Happening {
        case deliver(to: Int, from: Int, ControlMessage)
        case wake(Int, incarnation: UInt64)
        case written(Int, incarnation: UInt64, token: UInt64)
        case caughtUp(Int, incarnation: UInt64, PartitionID, epoch: UInt64, MemberNumber)
    }

    var random: Seeded
    var faults = Faults()
    var now = Tick.zero
    var queue = Timeline<Happening>()
    var processes: [Process] = []
    var configurations: [ControlConfiguration] = []
    var blocked: [[Bool]]
    var audit = ControlAudit()
    var rules = Rules.all
    var problems: [String] = []
    var messages = 0
    /// Control bytes by sender, counted only if asked for: encoding costs.
    var bytes: [Int]?
    /// By receiver.
    var received: [Int] = []
    var respawns = true
    /// Partitions that some process was told were lost.
    var lost: Set<PartitionID> = []

    static func name(_ index: Int) -> NodeID { NodeID("node-\(index)") }

    /// `voters` of `nodes` nodes bootstrap a cluster; the others join it.
    init(
        seed: UInt64, nodes: Int, voters: Int, partitions: Int = 16, rules: Rules = .all,
        configure: (Int, inout ControlConfiguration) -> Void = { _, _ in }
    ) {
        random = Seeded(seed)
        self.rules = rules
        blocked = Array(repeating: Array(repeating: false, count: nodes + 8), count: nodes + 8)
        for index in 0..<nodes { add(index, voters: voters, partitions: partitions, configure) }
    }

    private mutating func add(
        _ index: Int, voters: Int, partitions: Int, _ configure: (Int, inout ControlConfiguration) -> Void
    ) {
        var configuration = ControlConfiguration(
            candidate: Candidate(node: Self.name(index), incarnation: 0, port: 7400 + index),
            voters: (0..<voters).map(Self.name), isBootstrap: index < voters, clusterID: 77, partitions: partitions)
        configure(index, &configuration)
        configurations.append(configuration)
        received.append(0)
        boot(index, record: nil)
    }

    /// One more node, which joins.
    mutating func join(voters: Int, partitions: Int = 16) {
        add(processes.count, voters: voters, partitions: partitions) { _, _ in }
    }

    private mutating func boot(_ index: Int, record: VoterRecord?) {
        configurations[index].candidate.incarnation = random.next()
        let incarnation = configurations[index].candidate.incarnation
        let node = ControlNode(
            configuration: configurations[index], record: record, seed: random.next(), rules: rules, now: now)
        if index == processes.count {
            processes.append(Process(node: node, incarnation: incarnation))
        } else {
            processes[index].node = node
            processes[index].incarnation = incarnation
            processes[index].isUp = true
            processes[index].pausedUntil = .zero
            processes[index].writing = []
            processes[index].version = 0
            processes[index].isEvicted = false
            processes[index].hasLeft = false
            processes[index].isLeaving = false
        }
        processes[index].wakeAt = .never
        schedule(index)
    }

    // MARK: Faults

    mutating func crash(_ index: Int, resets: Bool = true) {
        guard processes[index].isUp else { return }
        processes[index].isUp = false
        processes[index].writing = []
        guard resets else { return }
        for other in processes.indices where other != index && processes[other].isUp && !blocked[index][other] {
            step(other, .connectionReset(Self.name(index)))
        }
    }

    mutating func restart(_ index: Int) {
        guard !processes[index].isUp else { return }
        boot(index, record: processes[index].disk)
    }

    /// Cuts `group` off from all others, both ways or only one.
    mutating func split(_ group: [Int], inbound: Bool = true, outbound: Bool = true) {
        for inside in group {
            for other in processes.indices where !group.contains(other) {
                blocked[inside][other] = blocked[inside][other] || outbound
                blocked[other][inside] = blocked[other][inside] || inbound
            }
        }
    }

    mutating func connectAll() {
        for row in blocked.indices { blocked[row] = Array(repeating: false, count: blocked.count) }
    }

    mutating func heal() {
        connectAll()
        faults = Faults()
    }

    // MARK: Running

    /// Runs until that time.
    mutating func run(until end: Tick) {
        while let time = queue.nextTime, time <= end {
            guard let (time, happening) = queue.pop() else { break }
            now = time
            happen(happening)
        }
        now = end
    }

    mutating func run(for milliseconds: UInt64) { run(until: now + .milliseconds(Int64(milliseconds))) }

    /// Runs until `condition` holds, checked every 10 ms; the milliseconds that it took, nil if it did not.
    mutating func run(atMost limit: UInt64, until condition: (ControlWorld) -> Bool) -> UInt64? {
        var passed: UInt64 = 0
        while !condition(self) {
            guard passed < limit else { return nil }
            run(for: 10)
            passed += 10
        }
        return passed
    }

    private mutating func happen(_ happening: Happening) {
        switch happening {
        case .deliver(let to, let from, let message):
            guard processes[to].isUp, !blocked[from][to] else { return }
            if isPostponed(to, happening) { return }
            if bytes != nil { received[to] += message.encodedSize }
            step(to, .message(from: Self.name(from), message))
        case .wake(let index, let incarnation):
            guard processes[index].isUp, processes[index].incarnation == incarnation,
                processes[index].wakeAt <= now
            else { return }
            if isPostponed(index, happening) { return }
            processes[index].wakeAt = .never
            if processes[index].node.nextDeadline <= now { step(index, .tick) } else { schedule(index) }
        case .written(let index, let incarnation, let token):
            guard processes[index].isUp, processes[index].incarnation == incarnation else { return }
            if isPostponed(index, happening) { return }
            guard let last = processes[index].writing.last(where: { $0.token <= token }) else { return }
            processes[index].disk = last.record
            processes[index].writing.removeAll { $0.token <= token }
            audit.living = living
            audit.accepted(index, last.record, &problems)
            step(index, .persisted(token))
        case .caughtUp(let index, let incarnation, let partition, let epoch, let learner):
            guard processes[index].isUp, processes[index].incarnation == incarnation,
                let view = processes[index].node.view, view.seats(partition).epoch == epoch
            else { return }
            guard let place = place(of: learner, view), !blocked[index][place], !blocked[place][index] else {
                return queue.push(happening, at: now + .milliseconds(50))
            }
            audit.reported(partition, epoch, learner)
            step(index, .report(.caughtUp(partition, epoch: epoch, learner)))
        }
    }

    /// A paused process gets everything when it wakes.
    private mutating func isPostponed(_ index: Int, _ happening: Happening) -> Bool {
        guard processes[index].pausedUntil > now else { return false }
        queue.push(happening, at: processes[index].pausedUntil)
        return true
    }

    mutating func step(_ index: Int, _ event: ControlEvent) {
        guard processes[index].isUp else { return }
        var out: [ControlDirective] = []
        processes[index].node.step(event, now: now, out: &out)
        for directive in out { carry(index, directive) }
        schedule(index)
    }

    private mutating func schedule(_ index: Int) {
        let deadline = max(processes[index].node.nextDeadline, now)
        guard deadline != .never, deadline < processes[index].wakeAt else { return }
        processes[index].wakeAt = deadline
        queue.push(.wake(index, incarnation: processes[index].incarnation), at: deadline)
    }

    private mutating func carry(_ index: Int, _ directive: ControlDirective) {
        let incarnation = processes[index].incarnation
        switch directive {
        case .send(let node, let message): transmit(message, from: index, to: node)
        case .persist(let record, let token):
            processes[index].writing.append((token, record))
            let time = now + .milliseconds(random.between(faults.diskDelay))
            queue.push(.written(index, incarnation: incarnation, token: token), at: time)
        case .install(let changed):
            guard let view = processes[index].node.view else { return }
            if view.version <= processes[index].version { problems.append("C2: \(index) went back to \(view.version)") }
            processes[index].version = view.version
            audit.living = living
            audit.installed(view, &problems)
            learn(index, view, changed)
        case .admitted: break
        case .lost(let partitions): lost.formUnion(partitions)
        case .votesOn(let tolerated): processes[index].votesOn = tolerated
        case .refused(let error): processes[index].refusal = error
        case .evicted:
            processes[index].isEvicted = true
            if respawns {
                processes[index].isUp = false
                boot(index, record: processes[index].disk)
            }
        case .left:
            processes[index].hasLeft = true
            processes[index].isUp = false
        }
    }

    private mutating func transmit(_ message: ControlMessage, from index: Int, to node: NodeID) {
        guard let to = processes.indices.first(where: { Self.name($0) == node }) else { return }
        messages += 1
        if bytes != nil { bytes![index] += message.encodedSize }
        if random.chance(faults.loss) { return }
        for _ in 0..<(random.chance(faults.duplication) ? 2 : 1) {
            queue.push(
                .deliver(to: to, from: index, message),
                at: now + .microseconds(random.between(faults.delay) * 1000 + 50))
        }
    }

    private var living: [MemberNumber] { processes.filter(\.isUp).compactMap(\.node.member) }

    private func place(of member: MemberNumber, _ view: ControlState) -> Int? {
        guard let node = view.member(member)?.node else { return nil }
        return processes.indices.first { Self.name($0) == node && processes[$0].isUp }
    }

    /// The primary's learners catch up, once they can be reached.
    private mutating func learn(_ index: Int, _ view: ControlState, _ changed: [PartitionID]) {
        guard let own = processes[index].node.member else { return }
        for partition in changed {
            let seats = view.seats(partition)
            guard seats.primary == own else { continue }
            for learner in seats.learners {
                queue.push(
                    .caughtUp(index, incarnation: processes[index].incarnation, partition, epoch: seats.epoch, learner),
                    at: now + .milliseconds(random.between(10...80)))
            }
        }
    }
}

extension Seeded {
    mutating func between(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
}

/// Happenings by time, and in the order of their making within one.
struct Timeline<Happening> {
    private var heap: [(time: Tick, order: UInt64, what: Happening)] = []
    private var order: UInt64 = 0

    var nextTime: Tick? { heap.first?.time }

    mutating func push(_ what: Happening, at time: Tick) {
        order += 1
        heap.append((time, order, what))
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> (Tick, Happening)? {
        guard let first = heap.first else { return nil }
        heap[0] = heap[heap.count - 1]
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) {
                least = child
            }
            guard least != parent else { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return (first.time, first.what)
    }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (heap[left].time, heap[left].order) < (heap[right].time, heap[right].order)
    }
}
