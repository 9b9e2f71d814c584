// Flockwork · Apache-2.0 · see LICENSE

// Instances are made and end as nodes want it, which takes a process its time, and what must be true of them.

internal import FlockCluster
internal import FlockWire

/// Where the instances of the simulated stage may be.
package enum SimulatedPlacement: Sendable, Hashable {
    /// On every node.
    case everywhere
    /// So many in the cluster.
    case total(Int)
    /// On every second node.
    case labelled
    /// One of these, by the seed.
    case mixed

    /// What all nodes run.
    func plan(of seed: UInt64) -> StagePlan {
        var stage = StagePlacement(name: "p/0", instances: .perNode(1))
        switch self {
        case .everywhere: break
        case .total(let count): stage.instances = .total(count)
        case .labelled: stage.labels = ["even"]
        case .mixed:
            switch seed % 8 {
            case 1: return Self.total(1).plan(of: seed)
            case 3: return Self.total(2).plan(of: seed)
            case 5: return Self.labelled.plan(of: seed)
            case 7:
                stage.labels = ["even"]
                stage.instances = .total(1)
            default: break
            }
        }
        return StagePlan(stages: [stage], pipelines: [[0]], cores: 1)
    }

    /// What a node has.
    static func labels(of place: Int) -> [String] { place % 2 == 0 ? ["even"] : [] }
}

extension StagePlan {
    /// Whether every node has instances of every stage.
    var isEverywhere: Bool { stages.allSatisfy { $0.labels.isEmpty && $0.instances == .perNode(1) } }
}

extension Simulation {
    /// What depends on nobody else is there when a process begins.
    func beginInstances(_ place: Int) {
        let counts = plan.stages.map { stage in
            if case .total = stage.instances { return 0 }
            return stage.isAllowed(on: SimulatedPlacement.labels(of: place)) ? 1 : 0
        }
        processes[place].wanted = counts
        placed(place, counts)
    }

    /// A node wants so many instances: to make one takes longer than to end it.
    func place(_ counts: [Int], at place: Int) {
        processes[place].wanted = counts
        let grows = zip(counts, processes[place].hosted).contains { $0 > $1 }
        let longest = grows ? 300 * Virtual.millisecond : 5 * Virtual.millisecond
        trace?("\(now) n\(place) is to have \(counts) instances")
        queue.push(
            .placed(place, run: processes[place].run, counts),
            at: now + stageRandom.between(Virtual.millisecond, longest))
    }

    func placed(_ place: Int, _ counts: [Int]) {
        // Something else is wanted meanwhile, and comes.
        guard processes[place].wanted == counts else { return }
        processes[place].hosted = counts
        step(place, .hosts(counts))
    }

    /// S8: a node begins only with what it has instances for.
    func checkInstances(_ place: Int) {
        if processes[place].hosted.allSatisfy({ $0 == 0 }) {
            violated("S8", "n\(place) is to execute what it has no instances for")
        }
    }

    /// L8: the instances are where the newest view wants them, and as many as were asked for.
    func checkPlacement() {
        guard let latest = god.latest, god.latestAt + Virtual.second < now else { return }
        for process in processes where process.isUp && process.node?.member != nil {
            for (stage, placement) in plan.stages.enumerated() {
                let wanted = placement.count(on: process.name, of: latest.members, cores: plan.cores)
                guard process.hosted[stage] != wanted else { continue }
                violated("L8", "\(process.name) has \(process.hosted[stage]) instances, not \(wanted)")
            }
        }
    }
}
