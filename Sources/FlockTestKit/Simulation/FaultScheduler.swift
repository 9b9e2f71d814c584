// Flockwork · Apache-2.0 · see LICENSE

// What goes wrong, and when. It may be anything at any time but for one thing: of a partition no more than f copies are
// destroyed between two complete replications, since nothing is promised beyond. Too strict a scheduler would hide
// faults of the protocol, too lax a one invent them.

internal import FlockCluster
internal import FlockWire

/// The dice of faults, and the count of copies that were destroyed.
struct FaultScheduler {
    var random: SimulatedRandom
    /// Copies in sync that were destroyed since the partition had all of its copies.
    var destroyed: [Int]
    var burstUntil: UInt64 = 0
    var stagesDieUntil: UInt64 = 0
    var lostVoters = 0
    /// Which process was told to have a voter removed, and in which of its runs.
    var removals: [(place: Int, run: UInt32)] = []

    init(random: SimulatedRandom, partitions: Int) {
        self.random = random
        destroyed = Array(repeating: 0, count: partitions)
    }

    /// The partitions of which `member` has, or may have, a copy that counts. A learner may have been reported as
    /// caught up: the next view may count it and let another go (seed 300115). By the newest view, and by whatever a
    /// voter has accepted since, which may be agreed although nobody has installed it.
    func exposed(_ member: MemberNumber, _ god: GodView, _ disks: [VoterDisk]) -> [Int] {
        guard let latest = god.latest else { return [] }
        let newer = newer(than: latest, disks)
        return destroyed.indices.filter { number in
            latest.partitions[number].holds(member) || newer.contains { $0.partitions[number].holds(member) }
        }
    }

    /// The same of a disk, whatever number the process on it has by now, or is about to get.
    func exposed(on node: NodeID, _ god: GodView, _ disks: [VoterDisk]) -> [Int] {
        guard let latest = god.latest else { return [] }
        let states = [latest] + newer(than: latest, disks)
        return destroyed.indices.filter { number in
            states.contains { state in
                state.member(on: node).map { state.partitions[number].holds($0.number) } ?? false
            }
        }
    }

    private func newer(than latest: ControlState, _ disks: [VoterDisk]) -> [ControlState] {
        disks.compactMap { $0.underWay?.state }.filter { $0.version > latest.version }
            + disks.compactMap { $0.record?.state }.filter { $0.version > latest.version }
    }

    /// Notes which partitions have all of their copies again.
    mutating func recount(_ god: GodView, _ processes: [SimulatedProcess]) {
        guard let latest = god.latest, destroyed.contains(where: { $0 > 0 }) else { return }
        let newer = processes.contains { ($0.disk.record?.state?.version ?? 0) > latest.version }
        guard !newer else { return }
        let alive = processes.compactMap { $0.node?.member }
        for number in destroyed.indices where destroyed[number] > 0 {
            let inSync = latest.partitions[number].inSync
            guard inSync.count >= latest.replicationFactor, inSync.allSatisfy({ alive.contains($0) }) else { continue }
            destroyed[number] = 0
        }
    }

    /// Failures that a partition survives.
    func bearable(_ god: GodView) -> Int { max((god.latest?.minimumInSync ?? 1) - 1, 0) }

    /// Whether a voter may be on its way out, which no view tells yet: the voters that accepted it need all of the
    /// others from then on. Whoever died with the command may have passed it on.
    func isRemovalOpen(_ processes: [SimulatedProcess]) -> Bool {
        removals.contains { place, run in
            processes[place].run != run || processes[place].node?.awaitsCommands ?? true
        }
    }

    mutating func draw(_ profile: FaultProfile) -> FaultKind? {
        let kinds = FaultKind.allCases
        let total = kinds.reduce(0) { $0 + profile[keyPath: $1.weight] }
        guard total > 0 else { return nil }
        var ticket = random.below(total)
        for kind in kinds {
            ticket -= profile[keyPath: kind.weight]
            if ticket < 0 { return kind }
        }
        return nil
    }
}
