// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Rendezvous, views and instance counts")
struct PlacementTests {
    private func members(_ count: Int) -> [Rendezvous.Member] {
        (1...count).map { Rendezvous.Member(id: NodeID("node-\($0)")) }
    }

    private func owners(_ members: [Rendezvous.Member], _ partitions: Int = 271) -> [NodeID] {
        Rendezvous().owners(of: partitions, among: members).map { members[$0].id }
    }

    private func loads(_ owners: [NodeID]) -> [NodeID: Int] { owners.reduce(into: [:]) { $0[$1, default: 0] += 1 } }

    @Test("every node agrees, in whatever order it knows the members")
    func agreement() {
        var random = Seeded(7)
        for count in 1...9 {
            let expected = owners(members(count))
            for _ in 0..<5 {
                var shuffled = members(count)
                for index in shuffled.indices.dropFirst().reversed() {
                    shuffled.swapAt(index, random.below(index + 1))
                }
                #expect(owners(shuffled) == expected)
            }
        }
    }

    @Test("no member has more than 1.11 times its share of 271 partitions, and none starves", arguments: [5, 6])
    func balance(nodes: Int) {
        let loads = loads(owners(members(nodes))).values
        let ideal = 271.0 / Double(nodes)
        #expect(loads.count == nodes)
        #expect(Double(loads.max() ?? 0) <= 1.11 * ideal, "\(loads.sorted())")
        #expect(Double(loads.min() ?? 0) >= 0.7 * ideal, "\(loads.sorted())")
    }

    @Test("a member that joins or leaves moves little more than its own share")
    func movement() {
        let five = owners(members(5))
        let six = owners(members(6))
        let moved = zip(five, six).filter { $0 != $1 }.count
        #expect(moved <= 55, "\(moved) of 271 moved, 45 is ideal")
        let toNew = zip(five, six).filter { $0 != $1 && $1 == NodeID("node-6") }.count
        #expect(toNew == loads(six)[NodeID("node-6")] && toNew >= 36, "\(toNew) to the new node")
    }

    @Test("a member of weight 4 has about four shares")
    func weights() {
        let members = members(4) + [Rendezvous.Member(id: NodeID("big"), weight: 4)]
        let loads = loads(owners(members))
        #expect((115...150).contains(loads[NodeID("big")] ?? 0), "\(loads)")
        #expect(loads.filter { $0.key != NodeID("big") }.allSatisfy { $0.value <= 38 }, "\(loads)")
    }

    @Test("the assignment never changes between versions: golden values")
    func golden() throws {
        let owners = Rendezvous().owners(of: 24, among: members(3))
        #expect(owners == Golden.owners)
        #expect(StableHash(of: "node-1").value == Golden.nodeHash)
        #expect(StableHash.mix(0) == 0xE220_A839_7B1D_CDAF)
        let view = try View(members: MemberSpec.list(parsing: "a=h:1,b=h:2,c=h:3"), partitions: 271)
        #expect(view.membersHash == Golden.membersHash)
    }

    @Test("a view knows each partition's owner, and its hash tells lists and partition counts apart")
    func view() throws {
        let view = try View(members: MemberSpec.list(parsing: "b=h:2, a=h:1,c=[::1]:3"), partitions: 271)
        #expect(view.members.map(\.id.rawValue) == ["a", "b", "c"])
        let all = view.members.flatMap { view.partitions(ownedBy: $0.id) }
        #expect(all.sorted() == (0..<271).map { PartitionID($0) })
        #expect(view.partitions(ownedBy: NodeID("b")).allSatisfy { view.owner(of: $0) == NodeID("b") })
        #expect(view.partitions(ownedBy: NodeID("x")).isEmpty)
        #expect(view.member(NodeID("c"))?.description == "c=[::1]:3")
        let same = try View(members: MemberSpec.list(parsing: "a=h:1,c=[::1]:3,b=h:2"), partitions: 271)
        #expect(same == view)
        let others = [
            try View(members: MemberSpec.list(parsing: "a=h:1,b=h:2"), partitions: 271),
            try View(members: MemberSpec.list(parsing: "a=h:1,b=h:2,c=[::1]:4"), partitions: 271),
            try View(members: MemberSpec.list(parsing: "a=h:1,b=g:2,c=[::1]:3"), partitions: 271),
            try View(members: view.members, partitions: 270),
        ]
        #expect(others.allSatisfy { $0.membersHash != view.membersHash && $0.membersHash != 0 })
    }

    @Test(
        "a member list that cannot be is refused with its reason",
        arguments: [
            ("", "no \"=\""), ("a", "no \"=\""), ("a=h", "no port"), ("a=h:x", "no number"), ("a=h:0", "port 0"),
            ("a=h:65536", "port 65536"), ("=h:1", "node id"), ("a=:1", "host"), ("a=::1:7", "brackets"),
            ("a=h:1,a=g:2", "twice"), ("a=h:1,b=h:1", "same address"), ("a=h:1,,b=h:2", "no \"=\""),
            ("a b=h:1", "node id"),
        ])
    func refusals(text: String, reason: String) {
        let error = #expect(throws: FlockError.self) { try MemberSpec.list(parsing: text) }
        #expect(error?.code == .invalidInput && error?.message.contains(reason) == true, "\(String(describing: error))")
    }

    @Test("instances: per core, per node, and a total that adds up and spreads")
    func instances() {
        let nodes = ["a", "b", "c"].map { NodeID($0) }
        func total(_ count: InstanceCount, _ stage: String) -> [Int] {
            nodes.map { count.count(on: $0, of: nodes, cores: 4, stage: stage) }
        }
        #expect(total(.perCore, "s") == [4, 4, 4])
        #expect(total(.perNode(2), "s") == [2, 2, 2])
        #expect(InstanceCount.perCore.count(on: NodeID("x"), of: nodes, cores: 4, stage: "s") == 0)
        var singles = [0, 0, 0]
        for stage in 0..<60 {
            #expect(total(.total(7), "s\(stage)").sorted() == [2, 2, 3])
            let single = total(.total(1), "s\(stage)")
            #expect(single.reduce(0, +) == 1)
            for node in 0..<3 { singles[node] += single[node] }
        }
        #expect(singles.allSatisfy { $0 >= 10 }, "\(singles)")
        #expect(total(.total(0), "s") == [0, 0, 0])
    }
}

/// Pinned: a change here means that a mixed cluster would disagree about owners.
enum Golden {
    static let owners = [1, 0, 2, 0, 1, 0, 1, 2, 0, 0, 2, 0, 1, 2, 2, 1, 2, 1, 1, 1, 0, 0, 1, 0]
    static let nodeHash: UInt64 = 1_775_544_600_749_220_454
    static let membersHash: UInt64 = 6_041_181_664_853_427_016
}
