// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

// What a cluster would decide about the partition, and which of its processes die.

extension ReplicationWalk {
    /// Every view has its own epoch; every member installs it some time later, or skips it for a newer one.
    mutating func change(_ body: (inout PartitionSeats) -> Void) {
        let epoch = group.seats.epoch
        body(&group.seats)
        group.seats.epoch = epoch + 1
        group.seats.inSync.sort()
        group.seats.learners.sort()
        group.minimum = 2
        if group.seats.primary.map({ group.places[$0]?.isUp != true || !group.seats.inSync.contains($0) }) ?? true {
            group.seats.primary = group.seats.inSync.first { group.places[$0]?.isUp == true }
        }
        for number in group.seats.inSync where group.places[number]?.isUp == true {
            let has = group.replica(number).lastIndex
            expect(has >= committed, "P2: \(number) is in sync with \(has) of \(committed) entries")
        }
        for number in group.places.keys.sorted() {
            let delay = Duration.milliseconds(Int64(random.below(random.chance(20) ? 400 : 20)))
            installs.append((group.now + delay, number, group.seats))
        }
    }

    var live: [MemberNumber] { group.places.keys.sorted().filter { group.places[$0]?.isUp == true } }

    mutating func control() {
        let seats = group.seats
        for report in group.reports where random.chance(80) {
            switch report {
            case .caughtUp(_, seats.epoch, let learner) where seats.learners.contains(learner):
                change {
                    $0.learners.removeAll { $0 == learner }
                    $0.inSync.append(learner)
                }
            case .lagging(_, seats.epoch, let slow) where seats.inSync.count > 2 && slow != seats.primary:
                change {
                    $0.inSync.removeAll { $0 == slow }
                    $0.learners.append(slow)
                }
            default: continue
            }
            break
        }
        group.reports = []
        guard seats == group.seats else { return }
        let copies = seats.inSync.count + seats.learners.count
        if copies < 3, let fresh = live.first(where: { !seats.holds($0) }) {
            return change { $0.learners.append(fresh) }
        }
        switch random.below(1600) {
        case 0..<8:  // hand over, or a suspicion of the primary
            let next = seats.inSync[random.below(seats.inSync.count)]
            change { $0.primary = next }
        case 8..<12 where seats.inSync.count > 2:  // suspicion of a backup
            let gone = seats.inSync[random.below(seats.inSync.count)]
            change { $0.inSync.removeAll { $0 == gone } }
        case 12..<15 where !seats.learners.isEmpty: change { $0.learners.removeFirst() }
        case 15..<18: crash()
        default: return
        }
    }

    /// One process loses its memory. Only while another complete copy is there: f is 1.
    mutating func crash() {
        let seats = group.seats
        let complete = seats.inSync.filter { group.places[$0]?.isUp == true }
        guard let victim = live.randomElement(using: &random) else { return }
        guard !complete.contains(victim) || complete.count >= 2 else { return }
        crashes += 1
        group.places[victim] = nil
        work.removeAll()  // the stages were on all nodes; what they held comes back with the next primary
        group.add(member(nextMember), ahead: random.next() % 1_000_000_000_000)
        nextMember += 1
        change {
            $0.inSync.removeAll { $0 == victim }
            $0.learners.removeAll { $0 == victim }
            if $0.primary == victim { $0.primary = nil }
        }
        // The work of a primary that goes on is sent again by its dispatcher.
        if let primary = group.seats.primary, group.replica(primary).isServing {
            work = group.replica(primary).openRuns() + group.replica(primary).dispatchedEarly()
        }
    }

    /// No faults any more, but learners are still let in.
    mutating func heal() {
        for case .caughtUp(_, group.seats.epoch, let learner) in group.reports
        where group.seats.learners.contains(learner) {
            change {
                $0.learners.removeAll { $0 == learner }
                $0.inSync.append(learner)
            }
        }
        group.reports = []
        let seats = group.seats
        if seats.inSync.count + seats.learners.count < 3, let fresh = live.first(where: { !seats.holds($0) }) {
            change { $0.learners.append(fresh) }
        }
    }
}

extension PartitionReplica {
    /// Runs that were dispatched and are not accepted yet.
    fileprivate func dispatchedEarly() -> [OpenRun] {
        guard dispatched > log.applied else { return [] }
        return (log.applied + 1...dispatched).compactMap { index in
            guard case .accept(let session, let run, _) = log.entry(at: index).operation else { return nil }
            return OpenRun(requests: requests(session, run.sequences), pipeline: 7, items: run.items)
        }
    }
}
