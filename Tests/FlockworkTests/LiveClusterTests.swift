// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Synchronization
import Testing

@testable import Flockwork

@Suite("A cluster whose views change", .timeLimit(.minutes(1)), .logsOnFailure, .serialized)
struct LiveClusterTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)

    /// Nodes of a cluster in this process that are started and ended one by one.
    private final class Flock: Sendable {
        let nodes = Mutex<[Node]>([])
        let ports: [Int]
        let limits: Limits
        let logs = LogCapture.current ?? LogCapture()

        init(_ count: Int) throws {
            ports = try FreePorts.find(count)
            var limits = Limits()
            limits.partitions = 16
            self.limits = limits
        }

        func node(_ place: Int, bootstrap: Int?, join: [Int], _ pipeline: any ServablePipeline) -> Node {
            let id = NodeID("node-\(place)")
            var configuration = NodeConfiguration(
                id: id, port: ports[place], limits: limits, logger: logs.logger(for: id), cores: 1)
            configuration.bootstrap = bootstrap
            configuration.join = join.map { "127.0.0.1:\(ports[$0])" }
            return Node(pipelines: [pipeline], configuration: configuration)
        }

        func start(_ node: Node) async throws {
            nodes.withLock { $0.append(node) }
            try await node.start()
        }

        func client(_ change: (inout Limits) -> Void = { _ in }) async throws -> Client {
            var limits = limits
            change(&limits)
            return try await .connect(toPorts: ports, limits: limits, logs: logs)
        }

        func stop() async {
            for node in nodes.withLock({ $0 }) { await node.abandon() }
        }
    }

    private func withFlock(
        _ count: Int, spare: Int = 0, of other: Pipeline<Int, Int>? = nil,
        _ body: (Flock, [Node]) async throws -> Void
    ) async throws {
        let flock = try Flock(count + spare)
        do {
            var nodes: [Node] = []
            for place in 0..<count {
                let node = flock.node(place, bootstrap: count, join: Array(0..<count), other ?? pipeline)
                nodes.append(node)
                try await flock.start(node)
            }
            for node in nodes { try await node.joined() }
            try await body(flock, nodes)
            await flock.stop()
        } catch {
            await flock.stop()
            throw error
        }
    }

    @Test("three nodes agree on a view, and answer")
    func agree() async throws {
        try await withFlock(3) { flock, _ in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let answers = try await withThrowingTaskGroup(of: Bool.self) { group in
                for item in 0..<500 { group.addTask { try await inbox.ask(item) == item + 1 } }
                return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(answers == 500)
            await client.close()
        }
    }

    @Test("what a cluster could not do in time it refuses before it accepts it")
    func overload() async throws {
        let pipeline = Pipeline("slow", of: Int.self)
            .stage(batch: .lingering(.zero, upTo: 8), instances: .total(1), Laborious.init)
        try await withFlock(3, of: pipeline) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            try await eventually { inbox.tokens.count == 3 }
            // All nodes learn what it costs.
            for _ in 0..<4 { #expect(await Self.ask(50, inbox, deadline: nil).isEmpty) }
            var refusals: [Int] = []
            // Five times what can be done until then, and long enough for a busy machine to bring it all. How the wait
            // grows with the queue may be something that a node learns only when it has grown.
            while refusals.last ?? 0 <= 100, refusals.count < 4 {
                let failures = await Self.ask(500, inbox, deadline: .seconds(1))
                let refused = failures.filter { $0.code == .overloaded }
                let late = failures.filter { $0.code == .deadlineExceeded }
                let toldWhy = refused.filter { $0.retryAfter != nil && $0.limit == .deadlineShare }
                #expect(refused.count + late.count == failures.count && toldWhy.count == refused.count)
                #expect(failures.count < 500)
                refusals.append(refused.count)
            }
            #expect(refusals.last ?? 0 > 100, "refused of each 500: \(refusals)")
            await client.close()
        }
    }

    /// Asks so many at once; how those failed that did not get their item back.
    private static func ask(_ count: Int, _ inbox: Inbox<Int, Int>, deadline: Duration?) async -> [FlockError] {
        await withTaskGroup(of: FlockError?.self) { group in
            for item in 0..<count {
                group.addTask {
                    do {
                        let answer = try await inbox.ask(item, deadline: deadline)
                        return answer == item ? nil : FlockError(.callFailed, "\(item) became \(answer)")
                    } catch {
                        return (error as? FlockError) ?? FlockError(.callFailed, "\(error)")
                    }
                }
            }
            return await group.compactMap(\.self).reduce(into: []) { $0.append($1) }
        }
    }

    @Test("a post that nobody accepts can be cancelled, and what becomes of it comes in no outbox")
    func cancelledPost() async throws {
        try await withFlock(3) { flock, nodes in
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            #expect(try await inbox.ask(1) == 2)
            // No majority is left, and of each request only one copy: nothing is accepted, or refused for good.
            for node in nodes.dropFirst() { await node.abandon() }
            // They are on their way when they are cancelled.
            let posts = [[1, 2, 3], [4]].map { items in Task.immediate { try await inbox.post(items) } }
            for post in posts { post.cancel() }
            for post in posts {
                let error = await #expect(throws: FlockError.self) { try await post.value }
                #expect(error?.code == .cancelled)
            }
            await inbox.close()
            for try await outcome in inbox.outbox() { Issue.record("\(outcome)") }
            await client.close()
        }
    }

    /// Callers that ask one thing after the other, until they are told to stop.
    private final class Load: Sendable {
        let answered = Atomic<Int>(0)
        let isOver = Atomic<Bool>(false)
        let failures = Mutex<[String]>([])
        private let task = Mutex<Task<Void, Never>?>(nil)

        init(_ inbox: Inbox<Int, Int>, callers: Int = 16) {
            let task = Task {
                await withTaskGroup(of: Void.self) { group in
                    for caller in 0..<callers {
                        group.addTask { await self.ask(inbox, from: caller * 1_000_000) }
                    }
                }
            }
            self.task.withLock { $0 = task }
        }

        private func ask(_ inbox: Inbox<Int, Int>, from first: Int) async {
            var item = first
            while !isOver.load(ordering: .relaxed) {
                do {
                    let answer = try await inbox.ask(item)
                    if answer != item + 1 { failures.withLock { $0.append("\(item) became \(answer)") } }
                    answered.add(1, ordering: .relaxed)
                } catch {
                    failures.withLock { $0.append("\(item): \(error)") }
                }
                item += 1
            }
        }

        /// Returns once so many more were answered.
        func goesOn(_ more: Int = 500) async throws {
            let before = answered.load(ordering: .relaxed)
            try await eventually { answered.load(ordering: .relaxed) > before + more }
        }

        func end() async -> [String] {
            isOver.store(true, ordering: .relaxed)
            await task.withLock { $0 }?.value
            return failures.withLock { $0 }
        }
    }

    /// Every partition has so many copies in sync, and nothing else is about to change.
    private func settled(_ node: Node, members: Int, copies: Int) async throws {
        try await eventually {
            guard let cluster = try await node.status().cluster, cluster.members.count == members else { return false }
            return cluster.partitions.allSatisfy {
                $0.primary != nil && $0.inSync.count == copies && $0.learners.isEmpty
            } && Set(cluster.partitions.map(\.primary)).count == members
        }
    }

    @Test("posts past the window wait for room, though outcomes that were taken are not replicated at once")
    func fullWindow() async throws {
        try await withFlock(3) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let count = 64 * 1500
            async let posted: Void = {
                for run in 0..<1500 {
                    _ = try await inbox.post((0..<64).map { run * 64 + $0 }, until: .buffered)
                }
            }()
            var failures: [String] = []
            var sum = 0
            var taken = 0
            for await (ticket, outcome) in inbox.outbox() {
                switch outcome {
                case .value(let value): sum += value
                case .filtered, .failure: failures.append("\(ticket): \(outcome)")
                }
                taken += 1
                if taken == count { break }
            }
            try await posted
            #expect(failures.isEmpty, "\(failures.count), first \(failures.first ?? "")")
            #expect(sum == count * (count + 1) / 2)
            await client.close()
        }
    }

    @Test("a node that is lost loses no request and no caller")
    func crash() async throws {
        try await withFlock(3) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let load = Load(inbox)
            try await load.goesOn()
            await nodes[1].abandon()
            try await load.goesOn()
            try await eventually {
                try await nodes[0].status().cluster?.members.contains { $0.node == "node-1" } == false
            }
            try await load.goesOn()
            let failures = await load.end()
            #expect(failures == [])
            await client.close()
        }
    }

    @Test("posts that were accepted have one outcome each, though a node is lost")
    func posts() async throws {
        try await withFlock(3) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            async let outcomes: [Ticket: Int] = {
                var seen: [Ticket: Int] = [:]
                for await (ticket, _) in inbox.outbox() {
                    seen[ticket, default: 0] += 1
                    if seen.count == 4000 { break }
                }
                return seen
            }()
            var tickets: [Ticket] = []
            for round in 0..<40 {
                tickets += try await inbox.post(Array(round * 100..<round * 100 + 100))
                if round == 20 { await nodes[2].abandon() }
            }
            let seen = await outcomes
            #expect(Set(seen.keys) == Set(tickets) && tickets.count == 4000)
            #expect(seen.values.allSatisfy { $0 == 1 })
            await client.close()
        }
    }

    @Test("a node that joins gets its share, and one that leaves hands it over, while requests go on")
    func joinAndLeave() async throws {
        try await withFlock(3, spare: 1) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let client = try await flock.client()
            let inbox = try await client.inbox(of: pipeline)
            let load = Load(inbox)
            try await load.goesOn()
            let fourth = flock.node(3, bootstrap: nil, join: [0], pipeline)
            try await flock.start(fourth)
            try await fourth.joined()
            try await settled(fourth, members: 4, copies: 3)
            try await eventually { inbox.tokens.contains { $0.node == fourth.id } }
            try await load.goesOn()
            await nodes[0].shutDown()
            try await settled(fourth, members: 3, copies: 3)
            try await load.goesOn()
            let failures = await load.end()
            #expect(failures == [])
            await client.close()
        }
    }

    @Test("a node that runs other pipelines is not taken in")
    func otherPipelines() async throws {
        try await withFlock(1, spare: 1) { flock, _ in
            let other = Pipeline("two", of: Int.self).stage(AddOne.init)
            let node = flock.node(1, bootstrap: nil, join: [0], other)
            try await flock.start(node)
            await #expect(throws: FlockError(.incompatibleNode, "")) { try await node.joined() }
        }
    }

    @Test("a caller in a node's own process follows its partitions too")
    func embedded() async throws {
        try await withFlock(3) { flock, nodes in
            try await settled(nodes[0], members: 3, copies: 3)
            let load = Load(try await nodes[0].inbox(of: pipeline))
            try await load.goesOn(100)
            await nodes[1].abandon()
            try await load.goesOn(100)
            let failures = await load.end()
            #expect(failures == [])
        }
    }

    @Test("whose cluster is gone hears so when the time for a search is over")
    func recoveryTime() async throws {
        try await withFlock(1) { flock, nodes in
            let client = try await flock.client { $0.recoveryTime = .milliseconds(200) }
            let inbox = try await client.inbox(of: pipeline)
            #expect(try await inbox.ask(1) == 2)
            await nodes[0].abandon()
            do {
                _ = try await inbox.ask(2)
                Issue.record("an answer of nobody")
            } catch let error as FlockError {
                #expect(error.code == .unavailable && error.limit == .recoveryTime, "\(error)")
            }
            await client.close()
        }
    }
}
