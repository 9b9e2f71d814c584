// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Control of a cluster")
struct ControlTests {
    @Test("three voters bootstrap a cluster: all are members, every partition has three copies", arguments: [1, 2, 3])
    func bootstrap(seed: UInt64) {
        var world = ControlWorld(seed: seed, nodes: 3, voters: 3)
        let time = world.run(atMost: 2000) { $0.isSettled }
        #expect(time != nil, "seed \(seed): \(String(describing: world.audit.last?.members))")
        #expect(world.problems.isEmpty, "\(world.problems)")
        let view = world.processes[0].node.view
        #expect(view?.replicationFactor == 3 && view?.minimumInSync == 2)
        #expect(view?.members.allSatisfy { $0.phase == .up } == true)
    }
}

@Suite("Control under faults")
struct ControlFaultTests {
    /// Crashes, pauses, splits and a bad network for ten seconds, then peace: nothing unsafe ever, all well at the end.
    static func run(seed: UInt64, rules: Rules = .all) -> (world: ControlWorld, settled: UInt64?) {
        var choice = Seeded(seed &* 7919)
        let voters = [1, 3, 3, 3, 5][choice.below(5)]
        let nodes = max(voters, 3) + choice.below(4)
        var world = ControlWorld(seed: seed, nodes: nodes, voters: voters, rules: rules)
        world.faults = Faults(
            delay: 0...[2, 10, 100, 400][choice.below(4)], loss: choice.below(26), duplication: choice.below(16),
            diskDelay: 0...[2, 20][choice.below(2)])
        for _ in 0..<(10 + choice.below(15)) {
            world.run(for: UInt64(choice.between(20...900)))
            let victim = choice.below(nodes)
            switch choice.below(10) {
            case 0, 1, 2: world.crash(victim, resets: choice.chance(50))
            case 3, 4: for index in 0..<nodes where choice.chance(60) { world.restart(index) }
            case 5:
                world.processes[victim].pausedUntil = world.now + .milliseconds(choice.between(100...2500))
            case 6: world.split((0..<nodes).filter { _ in choice.chance(40) })
            case 7: world.split([victim], inbound: choice.chance(50), outbound: choice.chance(50))
            case 8:
                for row in world.blocked.indices {
                    for column in world.blocked.indices { world.blocked[row][column] = false }
                }
            default:
                if world.processes[victim].isUp {
                    world.step((victim + 1) % nodes, .connectionReset(ControlWorld.name(victim)))
                }
            }
        }
        world.heal()
        for index in 0..<nodes { world.restart(index) }
        let settled = world.run(atMost: 20_000) { $0.isSettled }
        return (world, settled)
    }

    @Test("any mix of faults leaves one history of views, and peace mends the cluster", arguments: 0..<10)
    func chaos(part: UInt64) {
        for seed in (part * 20)..<(part * 20 + 20) {
            let (world, settled) = Self.run(seed: seed)
            #expect(world.problems.isEmpty, "seed \(seed): \(world.problems.prefix(3))")
            #expect(settled != nil, "seed \(seed) does not settle: \(world.summary)")
        }
    }
}
