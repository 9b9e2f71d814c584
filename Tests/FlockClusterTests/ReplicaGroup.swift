// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

/// The replicas of one partition in one process, with a network that does what the test says.
struct ReplicaGroup {
    /// A process: a replica, what its shell keeps, and its own clock.
    struct Place {
        var replica: PartitionReplica
        var budget: ByteBudget
        /// How far this process's clock is ahead of the test's.
        var ahead: UInt64
        var isUp = true
    }

    static let secret = SessionSecret(11, 22)
    var limits: Limits
    var isDurable: Bool
    var rules: Rules
    var places: [MemberNumber: Place] = [:]
    var network: [(from: MemberNumber, to: MemberNumber, message: ReplicationMessage)] = []
    var reports: [PartitionReport] = []
    var now = milliseconds(1000)
    var seats = PartitionSeats(epoch: 0, primary: nil, inSync: [])
    var minimum = 1

    init(_ limits: Limits = Limits(), members: Int = 3, isDurable: Bool = false, rules: Rules = .all) {
        self.limits = limits
        self.isDurable = isDurable
        self.rules = rules
        for number in 0..<members { add(member(number + 1)) }
    }

    mutating func add(_ member: MemberNumber, ahead: UInt64 = 0) {
        let replica = PartitionReplica(
            partition: Partition.id, node: NodeID("\(member)"), member: member, limits: limits, isDurable: isDurable,
            rules: rules, history: 1 << 20)
        places[member] = Place(replica: replica, budget: ByteBudget(limits: limits), ahead: ahead)
    }

    subscript(_ number: Int) -> PartitionReplica { replica(member(number)) }

    func replica(_ member: MemberNumber) -> PartitionReplica {
        guard let place = places[member] else { fatalError("no \(member)") }
        return place.replica
    }

    /// Steps one replica; messages go to the network, reports to `reports`, the rest is returned.
    mutating func step(_ member: MemberNumber, _ event: PartitionEvent) -> [PartitionDirective] {
        guard var place = places[member], place.isUp else { return [] }
        var out: [PartitionDirective] = []
        let tick = Tick(nanoseconds: now.nanoseconds + place.ahead)
        place.replica.step(event, now: tick, budget: &place.budget, out: &out)
        places[member] = place
        var rest: [PartitionDirective] = []
        for directive in out {
            switch directive {
            case .send(let to, let message): network.append((member, to, message))
            case .report(let report): reports.append(report)
            default: rest.append(directive)
            }
        }
        return rest
    }

    mutating func step(_ number: Int, _ event: PartitionEvent) -> [PartitionDirective] {
        step(member(number), event)
    }

    /// New seats in the next epoch, installed by `installing` (all that are up if nil).
    @discardableResult
    mutating func seat(
        primary: Int?, inSync: [Int], learners: [Int] = [], minimum: Int? = nil, generation: UInt16 = 1,
        installing: [Int]? = nil
    ) -> [MemberNumber: [PartitionDirective]] {
        self.minimum = minimum ?? self.minimum
        seats = PartitionSeats(
            epoch: seats.epoch + 1, primary: primary.map(member), inSync: inSync.map(member),
            learners: learners.map(member), generation: generation)
        var result: [MemberNumber: [PartitionDirective]] = [:]
        for number in installing?.map(member) ?? places.keys.sorted() { result[number] = install(number) }
        return result
    }

    mutating func install(_ member: MemberNumber) -> [PartitionDirective] {
        step(member, .seats(seats, minimumInSync: minimum))
    }

    /// Hands every message over, and those that come of it, except those that `isLost`. What the replicas did, by
    /// member.
    @discardableResult
    mutating func deliver(
        except isLost: (MemberNumber, MemberNumber) -> Bool = { _, _ in false }
    ) -> [MemberNumber: [PartitionDirective]] {
        var result: [MemberNumber: [PartitionDirective]] = [:]
        var steps = 0
        while !network.isEmpty {
            steps += 1
            precondition(steps < 100_000, "messages never end")
            let (from, to, message) = network.removeFirst()
            if !isLost(from, to) { result[to, default: []] += step(to, .replication(from: from, message)) }
        }
        return result
    }

    /// Time goes by; ticks are given when they are due.
    @discardableResult
    mutating func pass(
        _ time: UInt64, delivering: Bool = true, except isLost: (MemberNumber, MemberNumber) -> Bool = { _, _ in false }
    ) -> [MemberNumber: [PartitionDirective]] {
        var result: [MemberNumber: [PartitionDirective]] = [:]
        for _ in 0..<time {
            now = now + .milliseconds(1)
            for member in places.keys.sorted() {
                guard let place = places[member], place.isUp,
                    place.replica.nextDeadline <= Tick(nanoseconds: now.nanoseconds + place.ahead)
                else { continue }
                result[member, default: []] += step(member, .tick)
            }
            if delivering {
                for (member, directives) in deliver(except: isLost) { result[member, default: []] += directives }
            }
        }
        return result
    }

    // MARK: Clients

    mutating func submit(
        _ number: Int, _ session: SessionID, _ first: UInt64, _ count: Int, deadline: Duration? = nil,
        reply: UInt64 = 9
    ) -> [PartitionDirective] {
        let run = AcceptRun(sequences: sequences(first, count), items: items(count, from: first), deadline: deadline)
        return step(number, .submit(session: session, secret: Self.secret, run: run, reply: reply))
    }

    mutating func complete(
        _ number: Int, _ session: SessionID, _ first: UInt64, _ count: Int, value: UInt64 = 100
    ) -> [PartitionDirective] {
        let values = RunOutcome.values(items(count, from: value + first), filtered: nil)
        return step(
            number,
            .completed(session: session, runs: [OutcomeRun(sequences: sequences(first, count), outcome: values)]))
    }

    mutating func attach(_ number: Int, _ session: SessionID, _ subscriber: UInt64 = 5) -> [PartitionDirective] {
        step(number, .attach(session: session, secret: Self.secret, subscriber: subscriber, reply: 6))
    }

    /// A session of the primary `number`, open on all replicas.
    mutating func open(_ number: Int, window: Int = 1000) -> SessionID {
        var out = step(number, .open(pipeline: 7, secret: Self.secret, window: window, reply: 1))
        out += deliver()[member(number)] ?? []
        for case .opened(reply: 1, let session) in out { return session }
        fatalError("no session: \(texts(out))")
    }
}

func member(_ number: Int) -> MemberNumber { MemberNumber(rawValue: UInt32(number)) }
