// Flockwork · Apache-2.0 · see LICENSE

// What happens to the seats of partitions. First what must happen: the dead go, those who caught up count, the
// suspected go as far as it is safe, somebody reachable becomes primary. All of that may be one change, as each part is
// safe by itself and none needs another's epoch. Only a partition where nothing must happen moves towards the members
// that should have it, one step per view.

import FlockWire

/// The rules R1 to R5, for one proposal.
struct PartitionRules {
    let rules: Rules
    /// Who should hold each partition, the primary first.
    let owners: [[MemberNumber]]
    let reasons: ControlReasons
    /// What replicas say, by partition: after a restart of all of them each has said something.
    private let reports: [PartitionID: [ControlReasons.Report]]
    /// Members that restarted with the disk of an earlier one.
    let successors: [(old: MemberNumber, new: MemberNumber)]
    /// Partitions that an operator gave up.
    let givenUp: [PartitionID]
    let learnersPerMember: Int
    let movesPerMember: Int

    /// By place in `members`.
    private var learning: [Int] = []
    private var moving: [Int] = []

    init(
        rules: Rules, owners: [[MemberNumber]], reasons: ControlReasons,
        successors: [(old: MemberNumber, new: MemberNumber)], givenUp: [PartitionID], learnersPerMember: Int,
        movesPerMember: Int
    ) {
        self.rules = rules
        self.owners = owners
        self.reasons = reasons
        reports = Dictionary(grouping: reasons.reports) { $0.report.partition }
        self.successors = successors
        self.givenUp = givenUp
        self.learnersPerMember = learnersPerMember
        self.movesPerMember = movesPerMember
    }

    /// Changes the seats of every partition that has a reason to, each at most once.
    mutating func apply(to state: inout ControlState) {
        let mayPlace = reasons.placesNow || state.voters.allSatisfy { state.member(on: $0) != nil }
        moving = Array(repeating: 0, count: state.members.count)
        var isChanged = Array(repeating: false, count: state.partitions.count)
        for index in state.partitions.indices {
            var seats = state.partitions[index]
            var beginsAgain = false
            if seats.epoch == 0 {
                if mayPlace { place(&seats, owners[index]) }
            } else {
                beginsAgain = settle(&seats, index, state)
            }
            if seats != state.partitions[index] || beginsAgain {
                bump(&seats, from: state.partitions[index])
                state.partitions[index] = seats
                isChanged[index] = true
            }
        }
        countLearners(state)
        // Those short of copies first: what learners are left over is for balance.
        for isShort in [true, false] {
            for index in state.partitions.indices where !isChanged[index] && state.partitions[index].epoch > 0 {
                var seats = state.partitions[index]
                guard (seats.inSync.count < owners[index].count) == isShort else { continue }
                approach(&seats, owners[index], state)
                if seats != state.partitions[index] {
                    bump(&seats, from: state.partitions[index])
                    state.partitions[index] = seats
                    isChanged[index] = true
                }
            }
        }
    }

    /// Whatever changes about a partition's seats, learners included, is a new epoch.
    private func bump(_ seats: inout PartitionSeats, from old: PartitionSeats) {
        let isForLearnersOnly = seats.primary == old.primary && seats.inSync == old.inSync
        if rules.bumpsEpochForLearners || !isForLearnersOnly || old.epoch == 0 { seats.epoch = old.epoch + 1 }
    }

    /// A partition without content: everybody is in sync with nothing.
    private func place(_ seats: inout PartitionSeats, _ owners: [MemberNumber]) {
        guard let primary = owners.first else { return }
        seats.primary = primary
        seats.inSync = owners.sorted()
        seats.learners = []
        seats.recovering = []
    }

    // MARK: What must happen

    /// True if the primary must not wait any more for a learner that remains one: that ends with the epoch.
    private func settle(_ seats: inout PartitionSeats, _ index: Int, _ state: ControlState) -> Bool {
        let epoch = seats.epoch
        let reporter = seats.primary
        if state.isDurable(index) { inherit(&seats) }
        if !seats.learners.isEmpty {
            seats.learners.removeAll { number in
                guard let place = state.place(of: number) else { return true }
                return state.members[place].isSuspected || state.members[place].phase == .leaving
            }
        }
        if !seats.inSync.allSatisfy({ state.place(of: $0) != nil }) {
            seats.inSync.removeAll { state.place(of: $0) == nil }
        }
        if !seats.recovering.isEmpty { seats.recovering.removeAll { state.place(of: $0) == nil } }
        var leaving: [(member: MemberNumber, learns: Bool)] = []
        for entry in said(index) {
            switch entry.report {
            case .caughtUp(_, epoch, let learner) where entry.by == reporter:
                guard let place = seats.learners.firstIndex(of: learner) else { continue }
                seats.learners.remove(at: place)
                seats.inSync.insertSorted(learner)
            case .lagging(_, epoch, let member) where entry.by == reporter && member != reporter:
                leaving.append((member, true))
            case .failed(_, epoch, let member) where entry.by == member:
                leaving.append((member, false))
            case .rejoined(_, let member, let lastEpoch, _) where entry.by == member && lastEpoch >= epoch:
                // It has the entry with which the present primary began, and so all before it.
                seats.recovering.removeAll { $0 == member }
            default: continue
            }
        }
        for number in seats.inSync {
            if let place = state.place(of: number), state.members[place].isSuspected { leaving.append((number, false)) }
        }
        var beginsAgain = false
        for (number, learns) in leaving where mayGo(number, seats, state) {
            // Two reports of one epoch: it caught up, and fell silent before a view counted that.
            if !state.partitions[index].inSync.contains(number) { beginsAgain = true }
            seats.inSync.removeAll { $0 == number }
            seats.recovering.removeAll { $0 == number }
            if learns, state.member(number)?.takesWork == true, owners[index].contains(number) {
                seats.learners.insertSorted(number)
            }
        }
        recover(&seats, index, state)
        loseOrGiveUp(&seats, index, state)
        choosePrimary(&seats, owners[index], state)
        return beginsAgain
    }

    private func said(_ index: Int) -> [ControlReasons.Report] {
        reports.isEmpty ? [] : reports[PartitionID(index)] ?? []
    }

    /// Rule R4: who is only suspected, or slow, stays in sync as long as too few would be left. It may have the only
    /// other copy.
    private func mayGo(_ number: MemberNumber, _ seats: PartitionSeats, _ state: ControlState) -> Bool {
        guard seats.inSync.contains(number) else { return false }
        let left = seats.inSync.count - 1
        return left >= (rules.keepsMinimumInSync ? state.minimumInSync : 1)
    }

    /// A durable seat is a disk's.
    private func inherit(_ seats: inout PartitionSeats) {
        for (old, new) in successors where seats.holds(old) {
            if seats.inSync.contains(old) {
                seats.inSync.removeAll { $0 == old }
                seats.recovering.removeAll { $0 == old }
                seats.inSync.insertSorted(new)
                seats.recovering.insertSorted(new)
            } else {
                seats.learners.removeAll { $0 == old }
                seats.learners.insertSorted(new)
            }
            if seats.primary == old { seats.primary = nil }
        }
    }

    /// Rule R1: lost is what nobody can bring back, because every process in sync with it is dead. Suspicion alone
    /// loses nothing, and neither does a disk that is away: then only an operator may give up.
    private func loseOrGiveUp(_ seats: inout PartitionSeats, _ index: Int, _ state: ControlState) {
        let owners = owners[index]
        guard !owners.isEmpty else { return }
        let isDead = seats.inSync.isEmpty && !state.isDurable(index)
        let isGivenUp =
            givenUp.contains(PartitionID(index))
            && seats.inSync.allSatisfy { isAway($0, state) || seats.recovering.contains($0) }
        guard isDead || isGivenUp else { return }
        seats.generation &+= 1
        place(&seats, owners)
    }

    /// Those that restarted with their disks wait for one that did not. Where there is none, the one with the newest
    /// entry goes on, once all that can be reached have said what they have: all had acknowledged what was committed,
    /// but a disk may have lost its last writes, and nobody may be asked to cut what another still has.
    private func recover(_ seats: inout PartitionSeats, _ index: Int, _ state: ControlState) {
        guard !seats.recovering.isEmpty else { return }
        let present = seats.inSync.filter { !isAway($0, state) }
        guard !present.isEmpty, present.allSatisfy({ seats.recovering.contains($0) }) else { return }
        var found: [(member: MemberNumber, epoch: UInt64, last: UInt64)] = []
        for entry in said(index) {
            guard case .rejoined(_, let member, let epoch, let last) = entry.report, entry.by == member,
                present.contains(member)
            else { continue }
            found.removeAll { $0.member == member }  // A later report is of a later time.
            found.append((member, epoch, last))
        }
        guard found.count == present.count, let best = found.map({ ($0.epoch, $0.last) }).max(by: <) else { return }
        for one in found where (one.epoch, one.last) == best { seats.recovering.removeAll { $0 == one.member } }
    }

    private func isAway(_ number: MemberNumber, _ state: ControlState) -> Bool {
        state.place(of: number).map { state.members[$0].isSuspected } ?? true
    }

    /// Rule R1: only who is in sync, and has said what is on its disk.
    private func choosePrimary(_ seats: inout PartitionSeats, _ owners: [MemberNumber], _ state: ControlState) {
        if let primary = seats.primary, seats.inSync.contains(primary), !isAway(primary, state) { return }
        let able = seats.inSync.filter { !isAway($0, state) && !seats.recovering.contains($0) }
        if let best = owners.first(where: { able.contains($0) }) {
            seats.primary = best
        } else if let any = able.first(where: { state.member($0)?.takesWork == true }) ?? able.first {
            seats.primary = any
        } else if let primary = seats.primary, !seats.inSync.contains(primary) {
            seats.primary = nil
        }
        // Else the suspected primary keeps it: whoever still reaches it with all in sync goes on being served.
    }

    // MARK: What should happen

    private mutating func countLearners(_ state: ControlState) {
        learning = Array(repeating: 0, count: state.members.count)
        for seats in state.partitions {
            for learner in seats.learners {
                if let place = state.place(of: learner) { learning[place] += 1 }
            }
        }
    }

    /// One step towards the owners, if there is one that the limits allow.
    private mutating func approach(_ seats: inout PartitionSeats, _ owners: [MemberNumber], _ state: ControlState) {
        guard let primary = seats.primary, !isAway(primary, state), !owners.isEmpty else { return }
        for learner in seats.learners where !owners.contains(learner) {
            seats.learners.removeAll { $0 == learner }
            if let place = state.place(of: learner) { learning[place] -= 1 }
        }
        for owner in owners where !seats.holds(owner) {
            guard let place = state.place(of: owner), learning[place] < learnersPerMember else { continue }
            learning[place] += 1
            seats.learners.insertSorted(owner)
            if !rules.movesOneAtATime {
                seats.inSync.removeAll { !owners.contains($0) && $0 != primary }
            }
        }
        guard seats.learners.isEmpty, owners.allSatisfy({ seats.inSync.contains($0) }) || isRelieved(primary, state)
        else { return }
        if handOver(&seats, owners, state) { return }
        guard owners.allSatisfy({ seats.inSync.contains($0) }), owners.contains(primary) else { return }
        // The copies that are wanted are there: the others go, but never below the minimum.
        for number in seats.inSync where !owners.contains(number) && seats.inSync.count > state.minimumInSync {
            seats.inSync.removeAll { $0 == number }
            seats.recovering.removeAll { $0 == number }
        }
    }

    /// The primary that should be, or at least one that stays. A move counts at both ends (rule R5).
    private mutating func handOver(
        _ seats: inout PartitionSeats, _ owners: [MemberNumber], _ state: ControlState
    ) -> Bool {
        guard let primary = seats.primary, primary != owners.first else { return false }
        let able = owners.first { seats.inSync.contains($0) && !seats.recovering.contains($0) && !isAway($0, state) }
        guard let next = able, next != primary, next == owners.first || isRelieved(primary, state) else { return false }
        guard let from = state.place(of: primary), let to = state.place(of: next), moving[from] < movesPerMember,
            moving[to] < movesPerMember
        else { return true }
        moving[from] += 1
        moving[to] += 1
        seats.primary = next
        return true
    }

    /// Whether it is to lead nothing.
    private func isRelieved(_ number: MemberNumber, _ state: ControlState) -> Bool {
        state.member(number)?.phase.isRelieved == true
    }
}

extension [MemberNumber] {
    /// Keeps ascending numbers ascending, each once.
    mutating func insertSorted(_ number: MemberNumber) {
        let place = firstIndex { $0 >= number } ?? count
        if place < count, self[place] == number { return }
        insert(number, at: place)
    }
}
