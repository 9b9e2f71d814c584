// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

/// What happens in a run that a seed draws.
struct Chaos {
    /// Weights of what may happen next.
    var crash = 3
    var restart = 3
    var pause = 1
    var split = 1
    var cutOne = 1
    var mend = 1
    var reset = 1
    var leave = 1
    var replaceVoter = 1
    /// Crashes and starts again at once.
    var bounce = 0
    var pauses: ClosedRange<Int> = 20...900
    var voters = [1, 3, 3, 3, 5]
    var events = 12...28
    /// Longest delays of messages, of which a run draws one, in milliseconds.
    var delays = [2, 10, 100, 400]
    /// Nodes that are no voters, at most.
    var others = 3

    /// Faults of all kinds, then peace: nothing unsafe ever, and all well at the end.
    func run(seed: UInt64, rules: Rules = .all) -> (world: ControlWorld, settled: UInt64?) {
        var choice = Seeded(seed &* 7919)
        let voters = voters[choice.below(voters.count)]
        let nodes = max(voters, 3) + choice.below(others + 1)
        var world = ControlWorld(seed: seed, nodes: nodes, voters: voters, rules: rules)
        world.faults = Faults(
            delay: 0...delays[choice.below(delays.count)], loss: choice.below(26), duplication: choice.below(16),
            diskDelay: 0...[2, 20][choice.below(2)])
        for _ in 0..<choice.between(events) {
            world.run(for: UInt64(choice.between(pauses)))
            happen(&world, &choice)
        }
        world.heal()
        var passed: UInt64 = 0
        // Who was about to leave still leaves, and comes back.
        while passed < 1000 {
            for index in 0..<nodes { world.restart(index) }
            world.run(for: 100)
            passed += 100
        }
        let settled = world.run(atMost: 20_000) { $0.isSettled }.map { $0 + passed }
        return (world, settled)
    }

    private func happen(_ world: inout ControlWorld, _ choice: inout Seeded) {
        let nodes = world.processes.count
        let victim = choice.below(nodes)
        var draw = choice.below(
            crash + restart + pause + split + cutOne + mend + reset + leave + replaceVoter + bounce)
        func isDrawn(_ weight: Int) -> Bool {
            draw -= weight
            return draw < 0
        }
        if isDrawn(bounce) {
            world.crash(victim, resets: false)
            world.restart(victim)
        } else if isDrawn(crash) {
            world.crash(victim, resets: choice.chance(50))
        } else if isDrawn(restart) {
            for index in 0..<nodes where choice.chance(60) { world.restart(index) }
        } else if isDrawn(pause) {
            world.processes[victim].pausedUntil = world.now + .milliseconds(choice.between(100...2500))
        } else if isDrawn(split) {
            world.split((0..<nodes).filter { _ in choice.chance(40) })
        } else if isDrawn(cutOne) {
            world.split([victim], inbound: choice.chance(50), outbound: choice.chance(50))
        } else if isDrawn(mend) {
            world.connectAll()
        } else if isDrawn(reset) {
            world.step((victim + 1) % nodes, .connectionReset(ControlWorld.name(victim)))
        } else if isDrawn(leave) {
            // With fewer than the minimum of copies left, a leave waits for ever: that is no fault to recover from.
            guard world.processes.count(where: { $0.isUp && !$0.isLeaving }) > 3 else { return }
            world.processes[victim].isLeaving = world.processes[victim].isUp
            world.step(victim, .leave)
            world.step(victim, .drained)
        } else {
            let old = ControlWorld.name(choice.below(nodes))
            let command = OperatorCommand.replaceVoter(old, by: ControlWorld.name(choice.below(nodes)))
            world.step(victim, .command(command))
        }
    }
}

@Suite("Control under faults")
struct ControlFaultTests {
    @Test("any mix of faults leaves one history of views, and peace mends the cluster", arguments: 0..<10)
    func chaos(part: UInt64) {
        for seed in (part * 6)..<(part * 6 + 6) {
            let (world, settled) = Chaos().run(seed: seed)
            #expect(world.problems.isEmpty, "seed \(seed): \(world.problems.prefix(3))")
            #expect(settled != nil, "seed \(seed) does not settle: \(world.summary)")
        }
    }
}
