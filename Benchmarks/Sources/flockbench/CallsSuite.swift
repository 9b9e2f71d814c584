// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTransport
import FlockWire
import Flockwork
import Logging

/// Distributed calls between two processes, with the method table's guard on.
enum CallsSuite {
    static let batchItems = 256
    static let batchesInFlight = 32

    static func measure(_ run: Run) async throws {
        let ping = try await RawPingPong.measure("calls", inFlight: 1, run: run)
        let pings = try await RawPingPong.measure("calls", inFlight: 256, run: run)
        let server = try ChildProcess(["calls-node"])
        defer { server.stop() }
        let client = try await CallsClient(port: server.port)
        try await run.latency("calls", "call-1", limit: ping, must: "ratio <= 1.6 (aim 1.15)") {
            try await client.measure(tasks: 1, onLoop: true, seconds: $0, server: server) { try await $0.call($1) }
        }
        try await run.rate("calls", "call-256", limit: pings, must: "150 k/s (aim 250 k/s)") {
            try await client.measure(tasks: 256, onLoop: true, seconds: $0, server: server) { try await $0.call($1) }
        }
        try await run.rate("calls", "call-256-pool", limit: pings, must: "as above, from tasks of the pool") {
            try await client.measure(tasks: 256, seconds: $0, server: server) { try await $0.call($1) }
        }
        try await run.rate("calls", "call-batch256", must: "12 M/s (aim 24 M/s)") {
            try await client.measure(tasks: batchesInFlight, onLoop: true, seconds: $0, server: server) {
                try await $0.callBatch($1)
            }
        }
        await client.stop()
    }
}

/// What is called. It lives on its node's loop, as Flockwork's own actors do, and is answered there.
distributed actor Echo64 {
    typealias ActorSystem = FlockSystem
    static let name = "flockbench.echo"

    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }

    static func answerOnLoop(in system: FlockSystem) {
        system.onLoop(Echo64.self, "next") { (echo: isolated Echo64, value: UInt64) in echo.next(value) }
        system.onLoop(Echo64.self, "firsts") { (echo: isolated Echo64, rows: Rows<Float>) in echo.firsts(rows) }
    }

    distributed func next(_ value: UInt64) -> UInt64 { value &+ 1 }

    /// The sum of each row's first number: cheap, but wrong if the rows are.
    distributed func firsts(_ rows: Rows<Float>) -> Double {
        rows.withElements { elements in
            stride(from: 0, to: elements.count, by: rows.width).reduce(0.0) { $0 + Double(elements[$1]) }
        }
    }
}

private let clusterID = "flockbench"
private let serverNode: NodeID = NodeID("bench-node")

/// The process that is called.
enum CallsServer {
    static func serve() async throws {
        let loop = try EventLoop(name: "bench-node")
        let identity = Identity(clusterID: clusterID, node: serverNode, role: .node)
        let log = Logger.quiet
        let system = FlockSystem(identity: identity, loop: loop, limits: Limits(), log: log)
        Echo64.answerOnLoop(in: system)
        // The system holds named actors, so nothing else has to.
        _ = await system.named(Echo64.name, exportedTo: .clients) { Echo64(actorSystem: system) }
        ChildProcess.isReady(port: try await system.listen(host: "127.0.0.1", port: 0, insecure: false))
        try await ChildProcess.waitForTheEnd()
    }
}

/// The process that calls.
final class CallsClient: Sendable {
    private let system: FlockSystem
    private let loop: EventLoop
    private let echo: Echo64
    private let batches: [Rows<Float>]
    private let sums: [Double]

    init(port: Int) async throws {
        loop = try EventLoop(name: "bench-client")
        let identity = Identity(clusterID: clusterID, node: NodeID("bench-client"), role: .client)
        system = FlockSystem(identity: identity, loop: loop, limits: Limits(), log: .quiet)
        _ = try await system.connect(host: "127.0.0.1", port: port)
        echo = try Echo64.resolve(id: ActorAddress(named: Echo64.name, on: serverNode), using: system)
        batches = (0..<256).map { Dataset.rows.slice(from: $0 * CallsSuite.batchItems, count: CallsSuite.batchItems) }
        sums = batches.map { rows in
            rows.withElements { elements in
                stride(from: 0, to: elements.count, by: rows.width).reduce(0.0) { $0 + Double(elements[$1]) }
            }
        }
    }

    func stop() async {
        await system.stop()
        await loop.stop()
    }

    /// Returns the items of the call.
    func call(_ turn: Int) async throws -> Int {
        let answer = try await echo.next(UInt64(turn))
        guard answer == UInt64(turn) &+ 1 else { throw BenchmarkError("call \(turn) was answered \(answer)") }
        return 1
    }

    func callBatch(_ turn: Int) async throws -> Int {
        let index = turn % batches.count
        let answer = try await echo.firsts(batches[index])
        guard answer == sums[index] else { throw BenchmarkError("batch \(index) was answered \(answer)") }
        return CallsSuite.batchItems
    }

    /// `tasks` tasks that each call and wait, until the time is up.
    ///
    /// With `onLoop` they run on the connection's own thread, which spares two changes of thread a call.
    func measure(
        tasks: Int, onLoop: Bool = false, seconds: Double, server: ChildProcess,
        _ call: @escaping @Sendable (CallsClient, _ turn: Int) async throws -> Int
    ) async throws -> Measured {
        let executor = onLoop ? loop.taskExecutor : nil
        return try await withTaskExecutorPreference(executor) {
            try await ClosedLoop.measure(tasks: tasks, seconds: seconds, children: [server.id]) {
                try await call(self, $0)
            }
        }
    }
}
