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
