// Flockwork · Apache-2.0 · see LICENSE

// What must hold of the agreed states of a run: one state per version (C1), and every step from one to the next keeps
// the rules R1 to R5.

import FlockWire

@testable import FlockCluster

struct ControlAudit {
    /// The state of each version that anybody installed.
    private(set) var states: [UInt64: ControlState] = [:]
    /// What voters have on their disks, to see what is chosen before anybody installs it.
    private var records: [Int: VoterRecord] = [:]
    private var reports: Set<String> = []
    var last: ControlState?
    /// Partitions that an operator gave up.
    var givenUp = false
    /// Members whose processes run: the world says it.
    var living: [MemberNumber] = []

    mutating func reported(_ partition: PartitionID, _ epoch: UInt64, _ learner: MemberNumber) {
        reports.insert("\(partition) \(epoch) \(learner)")
    }

    /// A voter's record is durable: if a majority of its state's voters has that ballot, the state is chosen.
    mutating func accepted(_ index: Int, _ record: VoterRecord, _ problems: inout [String]) {
        records[index] = record
        guard let state = record.state, state.nextVoters == nil else { return }
        let votes = records.filter { $0.value.accepted == record.accepted }.map { ControlWorld.name($0.key) }
        guard Electorate(state).isMajority(votes.sorted()) else { return }
        agree(state, &problems)
    }

    mutating func installed(_ state: ControlState, _ problems: inout [String]) { agree(state, &problems) }

    private mutating func agree(_ state: ControlState, _ problems: inout [String]) {
        if let old = states[state.version] {
            if old != state { problems.append("C1: two states of version \(state.version)") }
            return
        }
        states[state.version] = state
        if let before = states[state.version - 1] { check(before, state, &problems) }
        if let after = states[state.version + 1] { check(state, after, &problems) }
        if state.version > last?.version ?? 0 { last = state }
    }

    private func check(_ old: ControlState, _ new: ControlState, _ problems: inout [String]) {
        var moves: [MemberNumber: Int] = [:]
        for member in old.members where new.member(member.number) == nil && living.contains(member.number) {
            let held = old.partitions.indices.filter { old.partitions[$0].inSync.contains(member.number) }
            if !held.isEmpty { problems.append("R4 v\(new.version): \(member.number) lives and lost \(held)") }
        }
        for index in new.partitions.indices {
            let before = old.partitions[index]
            let after = new.partitions[index]
            guard before != after else { continue }
            let name = "v\(new.version) p\(index): \(text(before)) -> \(text(after))"
            if after.epoch != before.epoch + 1 { problems.append("epoch \(name)") }
            if after.inSync != after.inSync.sorted() || after.learners != after.learners.sorted() {
                problems.append("order \(name)")
            }
            if let primary = after.primary, !after.inSync.contains(primary) { problems.append("R1 primary \(name)") }
            guard before.epoch > 0 else { continue }
            if after.generation != before.generation {
                let isDead = before.inSync.allSatisfy { new.member($0) == nil }
                if !isDead && !givenUp { problems.append("R1 loss of the living \(name)") }
                continue
            }
            checkStep(before, after, new, name, &problems)
            if let from = before.primary, let to = after.primary, from != to, new.member(from)?.isSuspected == false {
                moves[from, default: 0] += 1
                moves[to, default: 0] += 1
            }
        }
        for (member, count) in moves where count > ControlTimes().movesPerMember {
            problems.append("R5 v\(new.version): \(count) moves of \(member)")
        }
    }

    private func checkStep(
        _ before: PartitionSeats, _ after: PartitionSeats, _ new: ControlState, _ name: String,
        _ problems: inout [String]
    ) {
        let partition = new.partitions.firstIndex(of: after).map { PartitionID($0) }
        for member in after.inSync where !before.inSync.contains(member) && !new.isDurable {
            let isReported = reports.contains { report in
                partition != nil && report.hasSuffix(" \(before.epoch) \(member)")
            }
            if !before.learners.contains(member) || !isReported { problems.append("R2 \(member) in \(name)") }
        }
        let removed = before.inSync.filter { !after.inSync.contains($0) }
        let alive = removed.filter { new.member($0) != nil }
        if !alive.isEmpty, !new.isReplicationSet, after.inSync.count < new.minimumInSync {
            problems.append("R4 \(alive) of \(name)")
        }
        let added = after.inSync.filter { !before.inSync.contains($0) }
        if alive.filter({ new.member($0)?.takesWork == true }).count > 1, added.isEmpty,
            after.inSync.count < min(new.replicationFactor, 2), !new.isReplicationSet
        {
            problems.append("R5 \(alive) of \(name)")
        }
    }

    private func text(_ seats: PartitionSeats) -> String {
        "e\(seats.epoch) \(seats.primary.map { "\($0)" } ?? "-") \(seats.inSync) \(seats.learners) g\(seats.generation)"
    }
}

extension ControlWorld {
    /// Everybody who runs is a member, nobody else is, all agree, and every partition has all its copies.
    var isSettled: Bool {
        let up = processes.indices.filter { processes[$0].isUp }
        guard let first = up.first, let view = processes[first].node.view else { return false }
        guard up.allSatisfy({ processes[$0].node.view?.version == view.version }) else { return false }
        guard view.members.map(\.node).sorted() == up.map(Self.name).sorted(),
            view.members.allSatisfy({ !$0.isSuspected })
        else { return false }
        guard up.allSatisfy({ processes[$0].node.member == view.member(on: Self.name($0))?.number }) else {
            return false
        }
        return view.partitions.allSatisfy { seats in
            seats.primary != nil && seats.learners.isEmpty
                && seats.inSync.count == min(view.replicationFactor, view.members.count)
        }
    }

    /// Every partition has a primary that runs, and in-sync members that run.
    var isServing: Bool {
        guard let view = audit.last else { return false }
        let running = Set(processes.filter(\.isUp).compactMap(\.node.member))
        return view.partitions.allSatisfy { seats in
            guard let primary = seats.primary else { return false }
            return running.contains(primary) && seats.inSync.allSatisfy { running.contains($0) }
                && seats.inSync.count >= view.minimumInSync
        }
    }
}

extension ControlWorld {
    /// For a failure's message.
    var summary: String {
        let view = audit.last
        let members = view?.members.map { "\($0.number)=\($0.node)\($0.isSuspected ? "?" : "") \($0.phase)" } ?? []
        let running = processes.indices.map { index in
            let process = processes[index]
            let turn = "\(process.node.proposer.phase) \(process.node.proposer.failures)"
            return "\(process.isUp ? "+" : "-")\(process.node.member.map { "\($0)" } ?? "?") v\(process.version)"
                + " \(process.node.isVoter ? "votes" : "") \(turn) h\(process.node.detector.health)"
        }
        let open = view?.partitions.indices.filter { view?.partitions[$0].learners.isEmpty == false } ?? []
        let short = view?.partitions.filter { $0.primary == nil || $0.inSync.count < view?.replicationFactor ?? 0 }
        let voters = "voters \(view?.voters ?? []) \(view?.nextVoters ?? []) v\(view?.version ?? 0)"
        return "\(voters) \(members) \(running) learning \(open) short \(short?.prefix(2) ?? [])"
    }
}
