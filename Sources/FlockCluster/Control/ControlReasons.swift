// Flockwork · Apache-2.0 · see LICENSE

// Why the state should change. A proposer hands all that it knows to the rules, which look at each reason again in the
// state that was read, so that a stale one does nothing and one view answers all of them.

import FlockWire

/// All reasons that one proposer has, each list in a fixed order.
struct ControlReasons: Sendable, Equatable {
    /// Processes that ask to be admitted.
    var joins: [Join] = []
    /// Members that a majority of the voters cannot reach.
    var suspected: [MemberNumber] = []
    /// Members that are suspected in the state and answer again.
    var trusted: [MemberNumber] = []
    /// Members that were suspected for long.
    var expired: [MemberNumber] = []
    /// Members whose connection was reset, taken for dead: never in the protocol, see `Rules.resetIsNotDeath`.
    var resets: [MemberNumber] = []
    /// Members that want to go.
    var leaving: [MemberNumber] = []
    /// Of those: the ones that hold nothing but seats.
    var drained: [MemberNumber] = []
    /// What replicas say.
    var reports: [Report] = []
    /// What operators want. Those of one member are carried out in the order of their numbers, without gaps.
    var commands: [Command] = []
    /// Nodes that have just voted: they have a record.
    var voting: [NodeID] = []
    /// The first view has waited long enough for the voters that did not come.
    var placesNow = false
    /// Members whose record as coming voters is on their disk.
    var enrolled: [MemberNumber] = []

    /// A request to be admitted, in place of the member that the process knew of.
    struct Join: Sendable, Equatable {
        var candidate: Candidate
        var replaces: MemberNumber?
    }

    /// A report and who sent it.
    struct Report: Sendable, Equatable {
        var report: PartitionReport
        var by: MemberNumber
    }

    /// A command and its number, by which it is carried out once.
    struct Command: Sendable, Equatable {
        var command: OperatorCommand
        var id: CommandID
    }
}

/// What a voter was told, until it is done, void, or no longer repeated.
struct PendingReasons: Sendable {
    private struct Kept<Value: Sendable>: Sendable {
        var value: Value
        var until: Tick
    }

    private var joins: [Kept<ControlReasons.Join>] = []
    private var leaves: [Kept<(member: MemberNumber, isDrained: Bool)>] = []
    private var enrolled: [Kept<MemberNumber>] = []
    /// By partition.
    private var reports: [PartitionID: [Kept<ControlReasons.Report>]] = [:]
    private var reportCount = 0
    private var commands: [Kept<ControlReasons.Command>] = []
    private let life: Duration
    /// Reasons of one kind; more are refused, and come again if they matter.
    private static let limit = 65_536

    init(life: Duration) { self.life = life }

    var isEmpty: Bool { joins.isEmpty && leaves.isEmpty && enrolled.isEmpty && reportCount == 0 && commands.isEmpty }

    /// Keeps a reason. False if it was known.
    mutating func join(_ join: ControlReasons.Join, now: Tick) -> Bool {
        keep(join, in: \.joins, now) { $0 == $1 }
    }

    mutating func leave(_ member: MemberNumber, isDrained: Bool, now: Tick) -> Bool {
        keep((member, isDrained), in: \.leaves, now) { $0.member == $1.member && $0.isDrained == $1.isDrained }
    }

    mutating func enrolled(_ member: MemberNumber, now: Tick) -> Bool {
        keep(member, in: \.enrolled, now) { $0 == $1 }
    }

    mutating func report(_ report: ControlReasons.Report, now: Tick) -> Bool {
        let (partition, until) = (report.report.partition, now + life)
        if let place = reports[partition]?.firstIndex(where: { $0.value == report }),
            let wasVoid = reports[partition].map({ $0[place].until < now })
        {
            reports[partition]?[place].until = until
            return wasVoid
        }
        guard reportCount < Self.limit else { return false }
        reports[partition, default: []].append(Kept(value: report, until: until))
        reportCount += 1
        return true
    }

    mutating func command(_ command: ControlReasons.Command, now: Tick) -> Bool {
        keep(command, in: \.commands, now) { $0.id == $1.id }
    }

    private mutating func keep<Value: Sendable>(
        _ value: Value, in list: WritableKeyPath<PendingReasons, [Kept<Value>]>, _ now: Tick,
        isSame: (Value, Value) -> Bool
    ) -> Bool {
        let until = now + life
        if let place = self[keyPath: list].firstIndex(where: { isSame($0.value, value) }) {
            let wasVoid = self[keyPath: list][place].until < now
            self[keyPath: list][place].until = until
            return wasVoid
        }
        guard self[keyPath: list].count < Self.limit else { return false }
        self[keyPath: list].append(Kept(value: value, until: until))
        return true
    }

    /// Forgets what nobody repeats, and what a view has answered.
    mutating func prune(_ view: ControlState?, now: Tick) {
        guard !isEmpty else { return }
        joins.removeAll { $0.until < now }
        leaves.removeAll { $0.until < now }
        enrolled.removeAll { $0.until < now }
        pruneReports { $0.until < now }
        commands.removeAll { $0.until < now }
        guard let view else { return }
        joins.removeAll { kept in
            !kept.value.isOpen(in: view)
        }
        leaves.removeAll { kept in
            guard let member = view.member(kept.value.member) else { return true }
            return member.phase == .leaving && !kept.value.isDrained
        }
        enrolled.removeAll { $0.value != view.exchange?.member || view.nextVoters != nil }
        pruneReports { !$0.value.report.isOpen(in: view) }
        commands.removeAll { !$0.value.id.isOpen(in: view) }
    }

    private mutating func pruneReports(_ isOver: (Kept<ControlReasons.Report>) -> Bool) {
        guard reportCount > 0 else { return }
        for partition in reports.keys {
            reports[partition]?.removeAll(where: isOver)
            if reports[partition]?.isEmpty == true { reports[partition] = nil }
        }
        reportCount = reports.values.reduce(0) { $0 + $1.count }
    }

    func fill(_ reasons: inout ControlReasons) {
        reasons.joins = joins.map(\.value)
        for kept in leaves {
            reasons.leaving.append(kept.value.member)
            if kept.value.isDrained { reasons.drained.append(kept.value.member) }
        }
        reasons.enrolled = enrolled.map(\.value)
        for partition in reports.keys.sorted() { reasons.reports += reports[partition]?.map(\.value) ?? [] }
        reasons.commands = commands.map(\.value)
        reasons.commands.sort { ($0.id.issuer, $0.id.number) < ($1.id.issuer, $1.id.number) }
    }
}

extension ControlReasons.Join {
    /// Whether the process is none that is or was a member, and knows whom it replaces.
    func isOpen(in view: ControlState) -> Bool {
        view.member(on: candidate.node)?.number == replaces
            && !view.members.contains { $0.node == candidate.node && $0.incarnation == candidate.incarnation }
            && !view.isRetired(candidate.node, incarnation: candidate.incarnation)
    }
}

extension PartitionReport {
    /// Whether the seats that it speaks of are the ones in `view`, or are to come.
    func isOpen(in view: ControlState) -> Bool {
        guard Int(partition.rawValue) < view.partitions.count else { return false }
        let seats = view.seats(partition)
        switch self {
        case .caughtUp(_, let epoch, _), .lagging(_, let epoch, _), .failed(_, let epoch, _):
            return seats.epoch <= epoch
        case .rejoined(_, let member, _, _): return seats.recovering.contains(member)
        }
    }
}
