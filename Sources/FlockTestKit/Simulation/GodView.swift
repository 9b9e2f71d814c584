// Flockwork · Apache-2.0 · see LICENSE

// The checker that sees all nodes at once, after every step of any of them: what only one history of the whole could
// tell in a real cluster is an equality here.

internal import FlockCluster
internal import FlockWire

/// What is true of the whole cluster, and what was wrong.
struct GodView {
    private struct Copy {
        var run: UInt32 = 0
        var committed: UInt64 = 0
    }

    /// A message of an epoch that ended where it arrives, and what was there before.
    private struct Outdated {
        let partition: PartitionID
        let epoch, epochThere, last, committed: UInt64
    }

    /// One partition's history.
    private struct Partition {
        /// Everything that was ever committed, by index; nil where a copy alone kept no entry.
        var entries: [LogEntry?] = []
        /// Who committed in an epoch. Ascending.
        var committers: [(epoch: UInt64, member: MemberNumber)] = []
        /// Since when a primary's death keeps it from accepting, and from serving.
        var acceptsSince: UInt64?
        var servesSince: UInt64?
        var epochAtCrash: UInt64 = 0
        /// Another process died while it did not accept, or too few voters were left.
        var metAnother = false
        var lastCommitAt: UInt64 = 0
        /// The state after so many entries.
        var digests: [UInt64: UInt64] = [:]
    }

    private var partitions: [Partition]
    private var copies: [[Copy]]
    private var versions: [(run: UInt32, version: UInt64)]
    /// Agreed states, by version.
    private var states: [UInt64: ControlState] = [:]
    private var previous: Outdated?
    private(set) var latestVersion: UInt64 = 0
    private(set) var latestAt: UInt64 = 0
    var violations: [Violation] = []
    /// Of partitions that waited for one failure alone; and of those where another process died meanwhile, or where no
    /// majority of the voters was left to act.
    private(set) var acceptGaps: [UInt64] = []
    private(set) var doubleGaps: [UInt64] = []
    private(set) var serveGaps: [UInt64] = []

    private let comparesStates: Bool
    /// Of the partitions so many, the last ones, are on disks: copies read their entries, and do not share them.
    private let durable: Int
    /// Says what changes, if somebody wants to read it.
    var trace: ((String) -> Void)?

    init(nodes: Int, partitions count: Int, comparesStates: Bool, durable: Int) {
        self.comparesStates = comparesStates
        self.durable = durable
        partitions = Array(repeating: Partition(), count: count)
        copies = Array(repeating: Array(repeating: Copy(), count: count), count: nodes)
        versions = Array(repeating: (0, 0), count: nodes)
    }

    /// The newest state that any process has installed.
    var latest: ControlState? { states[latestVersion] }

    mutating func violated(_ rule: String, _ now: UInt64, _ text: String) {
        violations.append(Violation(rule, time: now, text))
    }

    // MARK: E1

    /// A message is about to reach a node: if it is of an epoch that ended there, nothing may change.
    mutating func before(_ message: NodeMessage, at node: RunningNode?) {
        previous = nil
        guard case .replication(_, _, let partition, let inner) = message,
            let epoch = node?.epoch(of: partition), inner.epoch < epoch, let mark = node?.mark(of: partition)
        else { return }
        previous = Outdated(
            partition: partition, epoch: inner.epoch, epochThere: mark.epoch, last: mark.last,
            committed: mark.committed)
    }

    // MARK: After each step

    mutating func after(
        _ node: RunningNode, at place: Int, now: UInt64, processes: [SimulatedProcess], hash: inout EventHash
    ) {
        if let previous, let mark = node.mark(of: previous.partition),
            mark.last != previous.last || mark.committed != previous.committed
        {
            violated(
                "E1", now,
                "n\(place) \(previous.partition) took a message of epoch \(previous.epoch) in \(previous.epochThere)")
        }
        previous = nil
        if node.viewVersion != versions[place].version || processes[place].run != versions[place].run {
            installed(node, at: place, run: processes[place].run, now: now, processes: processes)
        }
        for partition in node.touched() {
            check(partition, node, at: place, now: now, processes: processes, hash: &hash)
        }
    }

    private mutating func installed(
        _ node: RunningNode, at place: Int, run: UInt32, now: UInt64, processes: [SimulatedProcess]
    ) {
        if versions[place].run != run { versions[place] = (run, 0) }
        guard let view = node.view else { return }
        if view.version < versions[place].version {
            violated("C2", now, "n\(place) went back from \(versions[place].version) to \(view.version)")
        }
        versions[place].version = view.version
        if let known = states[view.version] {
            if known != view {
                violated(
                    "C1", now, "two states of version \(view.version), on n\(place): \(Self.difference(known, view))")
            }
            return
        }
        states[view.version] = view
        guard view.version > latestVersion else { return }
        let old = states[latestVersion]
        latestVersion = view.version
        latestAt = now
        if let old, old.version + 1 == view.version { checkLeavers(old, view, now: now, processes: processes) }
        for number in partitions.indices where number < view.partitions.count {
            guard old == nil || old?.partitions[number] != view.partitions[number] else { continue }
            trace?("\(now) v\(view.version) p\(number) \(view.partitions[number])")
            checkSeats(number, view, now: now, processes: processes)
        }
    }

    /// Where two states differ, for a person.
    private static func difference(_ left: ControlState, _ right: ControlState) -> String {
        var text = left.members == right.members ? "" : "members \(left.members) and \(right.members); "
        for number in left.partitions.indices where left.partitions[number] != right.partitions[number] {
            text += "p\(number): \(left.partitions[number]) and \(right.partitions[number]); "
        }
        if left.retired != right.retired {
            text += "retired \(left.retired.suffix(3)) and \(right.retired.suffix(3)); "
        }
        if left.nextMember != right.nextMember { text += "next \(left.nextMember) and \(right.nextMember)" }
        return text.isEmpty ? "something else" : text
    }

    /// Who leaves has handed over what it had (L5).
    private mutating func checkLeavers(
        _ old: ControlState, _ view: ControlState, now: UInt64, processes: [SimulatedProcess]
    ) {
        for member in old.members where member.phase == .leaving && view.member(member.number) == nil {
            guard processes.contains(where: { $0.node?.member == member.number }) else { continue }
            if let number = old.partitions.firstIndex(where: { $0.inSync.contains(member.number) }) {
                violated("L5", now, "\(member.number) left with its copy of p\(number)")
            }
        }
    }

    /// Whoever is in sync in a new epoch has all that was committed before (P2).
    private mutating func checkSeats(
        _ number: Int, _ view: ControlState, now: UInt64, processes: [SimulatedProcess]
    ) {
        let seats = view.partitions[number]
        guard let newest = partitions[number].entries.last, let newest else { return }
        for other in processes.indices {
            guard let node = processes[other].node, let member = node.member, seats.inSync.contains(member)
            else { continue }
            checkHas(newest, number, node, processes[other].name, epoch: seats.epoch, now: now)
        }
    }

    private mutating func checkHas(
        _ entry: LogEntry, _ number: Int, _ node: RunningNode, _ name: NodeID, epoch: UInt64, now: UInt64
    ) {
        let partition = PartitionID(number)
        guard let mark = node.mark(of: partition), mark.last >= entry.index else {
            let last = node.mark(of: partition).map { "\($0.last)" } ?? "no copy"
            violated("P2", now, "\(name) in sync of epoch \(epoch) has \(last), \(partition) committed \(entry.index)")
            return
        }
        if let own = node.entry(entry.index, of: partition), !isSame(own, entry, number) {
            violated(
                "P2", now,
                "\(name) in sync of epoch \(epoch) has another entry \(entry.index) of \(partition) than was "
                    + "committed: epoch \(own.epoch), not \(entry.epoch)")
        }
    }

    private func isSame(_ left: LogEntry, _ right: LogEntry, _ number: Int) -> Bool {
        if left === right { return true }
        guard number >= partitions.count - durable, left.epoch == right.epoch, left.index == right.index else {
            return false
        }
        let limits = Limits()
        let bytes = [left, right].map { entry in
            var writer = ByteWriter()
            entry.write(to: &writer, limits: limits)
            return writer.finish()
        }
        return bytes[0] == bytes[1]
    }

    private mutating func check(
        _ partition: PartitionID, _ node: RunningNode, at place: Int, now: UInt64, processes: [SimulatedProcess],
        hash: inout EventHash
    ) {
        let number = Int(partition.rawValue)
        guard let mark = node.mark(of: partition) else {
            copies[place][number] = Copy()
            return
        }
        if copies[place][number].run != processes[place].run {
            copies[place][number] = Copy(run: processes[place].run, committed: 0)
        }
        if let text = mark.violation { violated(Self.rule(text), now, text) }
        let before = copies[place][number].committed
        guard mark.committed != before else { return }
        copies[place][number].committed = mark.committed
        hash.combine(mark.committed)
        if mark.committed < before {
            // A copy that was dropped and given anew starts again, as a learner does.
            if mark.committed == 0 && !mark.isInSync { return }
            violated("P2", now, "n\(place) \(partition) went back from \(before) to \(mark.committed)")
            return
        }
        if comparesStates { compare(partition, node, mark.committed, at: place, now: now) }
        for index in (before + 1)...mark.committed {
            committed(index, partition, node, mark, at: place, now: now, processes: processes)
        }
    }

    /// The invariant that the text of a broken one begins with; P3 if it names none.
    private static func rule(_ text: String) -> String {
        let first = String(text.prefix { $0 != ":" })
        return ["P1", "P2", "P3", "S1", "S2", "S5", "S6", "R1"].contains(first) ? first : "P3"
    }

    /// Equal logs make equal states (P3).
    private mutating func compare(
        _ partition: PartitionID, _ node: RunningNode, _ index: UInt64, at place: Int, now: UInt64
    ) {
        guard let digest = node.digest(of: partition) else { return }
        let number = Int(partition.rawValue)
        if let known = partitions[number].digests[index] {
            if known != digest {
                violated("P3", now, "n\(place) made another state of \(index) entries of \(partition)")
            }
        } else {
            partitions[number].digests[index] = digest
        }
    }

    private mutating func committed(
        _ index: UInt64, _ partition: PartitionID, _ node: RunningNode, _ mark: ReplicaMark, at place: Int,
        now: UInt64, processes: [SimulatedProcess]
    ) {
        let number = Int(partition.rawValue)
        let entry = node.entry(index, of: partition)
        let known = UInt64(partitions[number].entries.count)
        if index <= known {
            if let entry, let other = partitions[number].entries[Int(index - 1)],
                !isSame(entry, other, number)
            {
                violated(
                    "P3", now,
                    "n\(place) committed another entry \(index) of \(partition), epochs \(entry.epoch), \(other.epoch)")
            }
            return
        }
        partitions[number].entries.append(entry)
        partitions[number].lastCommitAt = now
        guard let entry, let member = node.member else { return }
        if mark.isPrimary { checkCommitter(mark.epoch, member, number, now: now) }
        noteServing(number, epoch: mark.epoch, now: now)
        guard let seats = states[latestVersion]?.partitions[number], seats.epoch >= entry.epoch else { return }
        for place in processes.indices {
            guard let other = processes[place].node, let member = other.member, seats.inSync.contains(member)
            else { continue }
            checkHas(entry, number, other, processes[place].name, epoch: seats.epoch, now: now)
        }
    }

    private mutating func checkCommitter(_ epoch: UInt64, _ member: MemberNumber, _ number: Int, now: UInt64) {
        if let known = partitions[number].committers.last(where: { $0.epoch == epoch }) {
            if known.member != member {
                violated("P1", now, "\(known.member) and \(member) committed in epoch \(epoch) of p\(number)")
            }
        } else {
            partitions[number].committers.append((epoch, member))
        }
    }

    // MARK: Accepting and serving

    /// A node answers that something is accepted.
    mutating func accepted(_ partition: PartitionID, by node: RunningNode, now: UInt64) {
        let number = Int(partition.rawValue)
        if let since = partitions[number].acceptsSince {
            if partitions[number].metAnother {
                doubleGaps.append(now - since)
            } else {
                acceptGaps.append(now - since)
            }
            partitions[number].metAnother = false
            trace?("\(now) p\(number) accepts again after \((now - since) / Virtual.millisecond) ms")
            partitions[number].acceptsSince = nil
        }
        guard let view = node.view, number < view.partitions.count else {
            return violated("S6", now, "\(partition) accepted without a view")
        }
        let copies = view.partitions[number].inSync.count
        if copies < view.minimumInSync {
            violated("S6", now, "\(partition) accepted with \(copies) of \(view.minimumInSync) copies in sync")
        }
    }

    private mutating func noteServing(_ number: Int, epoch: UInt64, now: UInt64) {
        guard let since = partitions[number].servesSince, epoch > partitions[number].epochAtCrash else { return }
        serveGaps.append(now - since)
        partitions[number].servesSince = nil
    }

    /// A process died: what it was primary of stands still.
    /// `isDecidable`: a majority of the voters still runs, so that another can take its place.
    mutating func crashed(_ member: MemberNumber, isDecidable: Bool, now: UInt64) {
        guard let latest else { return }
        for number in partitions.indices where partitions[number].acceptsSince != nil {
            partitions[number].metAnother = true
        }
        for number in partitions.indices where latest.partitions[number].primary == member {
            if partitions[number].acceptsSince == nil {
                partitions[number].acceptsSince = now
                partitions[number].metAnother = !isDecidable
            }
            if partitions[number].servesSince == nil {
                partitions[number].servesSince = now
                partitions[number].epochAtCrash = latest.partitions[number].epoch
            }
        }
    }

    mutating func lost(_ lost: [PartitionID], now: UInt64) {
        guard let first = lost.first else { return }
        violated("S1", now, "\(lost.count) partitions were lost with no more than f failures, \(first) first")
    }

    /// When something of the partition was committed last.
    func lastCommit(of number: Int) -> UInt64 { partitions[number].lastCommitAt }
}
