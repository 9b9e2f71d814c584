// Flockwork · Apache-2.0 · see LICENSE

import Flockwork

// A stage as models are: a call has a price, and each item another one. It computes all that time, since a stage that
// slept would leave its core to others.

/// Answers each number with the next one, after the work of `cost`.
distributed actor CostlyStage: Stage {
    struct Cost: Sendable {
        var fixedMicroseconds: Double
        var itemMicroseconds: Double

        var name: String { "\(Int(fixedMicroseconds)) us + \(Int(itemMicroseconds)) us" }

        /// Items a second in calls of so many.
        func rate(_ items: Double) -> Double { items * 1e6 / (fixedMicroseconds + itemMicroseconds * items) }
    }

    private let cost: Cost
    private var sum: UInt64 = 0

    init(_ cost: Cost, actorSystem: FlockSystem) {
        self.cost = cost
        self.actorSystem = actorSystem
    }

    distributed func process(_ batch: [Int]) async throws -> [Int] {
        let time = cost.fixedMicroseconds + cost.itemMicroseconds * Double(batch.count)
        sum &+= Work.compute(microseconds: time, from: sum)
        return batch.map { $0 + 1 }
    }
}

/// A chain of multiplications, each of which needs the one before, for a given time: so that a stage costs the same
/// whatever else slows its core down, and policies are compared and not moments.
enum Work {
    static func compute(microseconds: Double, from seed: UInt64) -> UInt64 {
        let end = monotonicNanoseconds() + UInt64(microseconds * 1000)
        var value = seed
        repeat { value = compute(rounds: 500, from: value) } while monotonicNanoseconds() < end
        return value
    }

    @inline(never)
    private static func compute(rounds: Int, from seed: UInt64) -> UInt64 {
        var value = seed | 1
        for _ in 0..<rounds { value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407 }
        return value
    }
}

/// The pipelines that both processes of a load run know.
enum LoadPipelines {
    static let objective = Duration.milliseconds(20)
    /// Of the objective run, on one instance each: what is tuned for one of them is wrong for the other.
    static let costs = [
        CostlyStage.Cost(fixedMicroseconds: 2000, itemMicroseconds: 20),
        CostlyStage.Cost(fixedMicroseconds: 3000, itemMicroseconds: 14),
    ]
    /// Of the overload run: ten times as much must be within what a client can offer.
    static let slow = CostlyStage.Cost(fixedMicroseconds: 2000, itemMicroseconds: 500)

    /// The policies that are compared, the objective first.
    static let policies: [(name: String, batch: BatchPolicy)] = [
        ("within(20 ms)", .within(objective)), ("drain", .drain),
        ("lingering(2 ms, upTo: 64)", .lingering(.milliseconds(2), upTo: 64)),
        ("lingering(5 ms, upTo: 256)", .lingering(.milliseconds(5), upTo: 256)),
        ("lingering(10 ms, upTo: 512)", .lingering(.milliseconds(10), upTo: 512)),
        ("lingering(20 ms, upTo: 512)", .lingering(.milliseconds(20), upTo: 512)),
    ]

    /// By cost and policy.
    static let compared = costs.map { cost in
        policies.map { pipeline("\(cost.name) \($0.name)", $0.batch, cost) }
    }

    static let overload = pipeline("overload", .within(objective), slow)

    private static func pipeline(
        _ name: String, _ batch: BatchPolicy, _ cost: CostlyStage.Cost
    ) -> Pipeline<Int, Int> {
        Pipeline(name, of: Int.self).stage(batch: batch, instances: .total(1)) { CostlyStage(cost, actorSystem: $0) }
    }

    /// What the node process runs.
    static func serve() async throws {
        var configuration = NodeConfiguration()
        configuration.id = NodeID("load-node")
        configuration.port = 0
        configuration.clusterID = Served.clusterID
        configuration.logger = .quiet
        let node = Node(pipelines: compared.flatMap(\.self) + [overload], configuration: configuration)
        try await node.start()
        guard let port = node.port else { throw BenchmarkError("the node has no port") }
        ChildProcess.isReady(port: port)
        try await ChildProcess.waitForTheEnd()
    }

    static func client(at addresses: [String]) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.clusterID = Served.clusterID
        configuration.logger = .quiet
        return try await Client.connect(to: addresses, configuration: configuration)
    }
}
