// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockTestKit
import Flockwork
import Synchronization
import Testing

/// Counts how many of its kind compute at once, and how many there are.
final class Occupancy: Sendable {
    private struct State {
        var now = 0
        var most = 0
        var made = 0
    }
    private let state = Mutex(State())
    var most: Int { state.withLock { $0.most } }
    var made: Int { state.withLock { $0.made } }
    func make() { state.withLock { $0.made += 1 } }
    func enter() {
        state.withLock { state in
            state.now += 1
            state.most = max(state.most, state.now)
        }
    }
    func leave() { state.withLock { $0.now -= 1 } }
}

/// Answers each number with the next one, after a time for the call and one for each item.
distributed actor Timed: Stage {
    private let fixed: Duration
    private let perItem: Duration
    private let occupancy: Occupancy?

    init(fixed: Duration, perItem: Duration, occupancy: Occupancy? = nil, actorSystem: FlockSystem) {
        self.fixed = fixed
        self.perItem = perItem
        self.occupancy = occupancy
        self.actorSystem = actorSystem
        occupancy?.make()
    }

    distributed func process(_ batch: [Int]) async throws -> [Int] {
        occupancy?.enter()
        defer { occupancy?.leave() }
        // It computes, as stages do: what it costs is what the tests are about.
        let clock = ContinuousClock()
        let end = clock.now + fixed + perItem * batch.count
        var answers: [Int] = []
        repeat { answers = batch.map { $0 + 1 } } while clock.now < end
        return answers
    }
}

/// What a request ended with; nil if it has its result. A refusal must say when to come again.
private func code(
    _ inbox: Inbox<Int, Int>, _ item: Int, deadline: Duration? = nil
) async throws -> FlockError.Code? {
    do {
        let answer = try await inbox.ask(item, deadline: deadline)
        #expect(answer == item + 1)
        return nil
    } catch let error as FlockError {
        if error == .overloaded { #expect(error.retryAfter ?? .zero > .zero) }
        return error.code
    }
}

@Suite("A shared lane", .timeLimit(.minutes(2)), .logsOnFailure, .serialized)
struct SharedLaneTests {
    private let lane = SharedLane("timed", batch: .within(.milliseconds(60)), instances: .perNode(1))

    private func pipeline(_ name: String, on lane: SharedLane, _ occupancy: Occupancy? = nil) -> Pipeline<Int, Int> {
        Pipeline(name, of: Int.self).on(lane).stage {
            Timed(fixed: .milliseconds(2), perItem: .microseconds(100), occupancy: occupancy, actorSystem: $0)
        }
    }

    @Test("has one set of instances for all its pipelines, whose closures differ", arguments: [1, 2])
    func instances(nodes: Int) async throws {
        let occupancy = Occupancy()
        let shared = SharedLane("timed", instances: .perNode(2))
        let one = pipeline("one", on: shared, occupancy).map { $0 * 10 }
        let other = pipeline("other", on: shared, occupancy).filter { $0 % 2 == 0 }
        try await testCluster(nodes: nodes, one, other) { flock in
            let inbox = try await flock.client.inbox(of: one)
            let otherInbox = try await flock.client.inbox(of: other)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for item in 0..<200 {
                    group.addTask {
                        let answer = try await inbox.ask(item)
                        #expect(answer == (item + 1) * 10)
                    }
                    group.addTask {
                        let answer = try await code(otherInbox, item)
                        #expect(answer == (item % 2 == 0 ? .filtered : nil))
                    }
                }
                try await group.waitForAll()
            }
            let stages = try await flock.nodes[0].status().stages
            #expect(Set(stages.map(\.pipeline)) == ["one", "other"])
            #expect(stages.allSatisfy { $0.items > 0 }, "\(stages)")
        }
        #expect(occupancy.made == 2 * nodes, "each instance has one actor, whoever asks")
        #expect(occupancy.most <= 2 * nodes)
    }

    @Test("of a model loads it once")
    func model() async throws {
        let loads = Counter()
        let source = ModelSource(name: "doubling") {
            loads.add()
            return Doubling()
        }
        let shared = SharedLane("model", instances: .perNode(2))
        let one = Pipeline("one", rowsOf: 4).on(shared, weight: 3).model(source)
        let other = Pipeline("other", rowsOf: 4).on(shared).model(source).map { -$0 }
        try await testCluster(one, other) { flock in
            let answer = try await flock.client.inbox(of: one).ask([1, 0, 0, 0])
            let otherAnswer = try await flock.client.inbox(of: other).ask([1, 0, 0, 0])
            #expect(answer == 2 && otherAnswer == -2)
        }
        #expect(loads.value == 1)
    }

    @Test("that pipelines give different stages or batches is an error that says so")
    func disagree() async throws {
        let one = pipeline("one", on: lane)
        let longer = Pipeline("longer", of: Int.self).on(lane).stage { AddOne(actorSystem: $0) }
        await #expect(throws: FlockError(.invalidInput, "")) { try await testCluster(one, longer) { _ in } }
        let drained = pipeline("drained", on: SharedLane("timed", instances: .perNode(1)))
        await #expect(throws: FlockError(.invalidInput, "")) { try await testCluster(one, drained) { _ in } }
    }

    /// Latencies of `count` asks, one at a time, while `flood` keeps 2,000 requests waiting.
    private func latencies(
        _ count: Int, of inbox: Inbox<Int, Int>, while flood: Inbox<Int, Int>, _ flock: LocalCluster
    ) async throws -> [Duration] {
        let isOver = Kept<Bool>()
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<2000 {
                group.addTask {
                    while isOver.peek() == nil {
                        let answer = try await flood.ask(task)
                        #expect(answer == task + 1)
                    }
                }
            }
            try await flock.wait { $0.stages.reduce(0) { $0 + $1.waiting } > 1500 }
            let clock = ContinuousClock()
            var latencies: [Duration] = []
            for item in 0..<count {
                let start = clock.now
                #expect(try await inbox.ask(item) == item + 1)
                latencies.append(clock.now - start)
            }
            isOver.put(true)
            try await group.waitForAll()
            return latencies.sorted()
        }
    }

    @Test("keeps the objective of one pipeline while another one floods it")
    func pipelines() async throws {
        let one = pipeline("one", on: lane)
        let other = pipeline("other", on: lane)
        try await testCluster(one, other) { flock in
            let inbox = try await flock.client.inbox(of: one)
            let flood = try await flock.client.inbox(of: other)
            let latencies = try await latencies(60, of: inbox, while: flood, flock)
            // All that waits together takes more than 200 ms. The median, since other tests compute beside this one.
            #expect(latencies[30] < .milliseconds(60), "\(latencies)")
            #expect(latencies[58] < .milliseconds(180), "\(latencies)")
        }
    }

    @Test("high requests overtake normal ones of the same pipeline, which go on all the same")
    func priorities() async throws {
        let one = Pipeline("one", of: Int.self).stage(batch: .within(.milliseconds(60)), instances: .perNode(1)) {
            Timed(fixed: .milliseconds(2), perItem: .microseconds(100), actorSystem: $0)
        }
        try await testCluster(one) { flock in
            let inbox = try await flock.client.inbox(of: one, priority: .high)
            let flood = try await flock.nodes[0].inbox(of: one, priority: .normal)
            let before = try await flock.nodes[0].status().completed
            let latencies = try await latencies(40, of: inbox, while: flood, flock)
            #expect(latencies[20] < .milliseconds(90), "\(latencies)")
            #expect(latencies[38] < .milliseconds(200), "\(latencies)")
            #expect(try await flock.nodes[0].status().completed - before > 2000)
        }
    }

    @Test(
        "ten times what a stage can do is refused at once, and what is accepted has an outcome; then all is as before")
    func overload() async throws {
        // 1,000 a second at most, in batches of the objective's length.
        let slow = Pipeline("slow", of: Int.self).stage(batch: .within(.milliseconds(60)), instances: .perNode(1)) {
            Timed(fixed: .milliseconds(1), perItem: .milliseconds(1), actorSystem: $0)
        }
        try await testCluster(slow) { flock in
            let inbox = try await flock.client.inbox(of: slow)
            for item in 0..<20 { #expect(try await inbox.ask(item) == item + 1) }
            let clock = ContinuousClock()
            // Waves of 500 at once: each more than can be done in its 200 ms.
            var answered = 0
            var late = 0
            var refusals: [Duration] = []
            for wave in 0..<10 {
                try await withThrowingTaskGroup(of: (FlockError.Code?, Duration).self) { group in
                    for item in 0..<500 {
                        group.addTask {
                            let start = clock.now
                            let number = wave * item
                            let code = try await code(inbox, number, deadline: .milliseconds(200))
                            return (code, clock.now - start)
                        }
                    }
                    for try await (code, time) in group {
                        switch code {
                        case nil: answered += 1
                        case .overloaded: refusals.append(time)
                        default:
                            #expect(code == .deadlineExceeded)
                            late += 1
                        }
                    }
                }
            }
            refusals.sort()
            print("\(answered) answered, \(late) late, \(refusals.count) refused")
            #expect(answered + late + refusals.count == 5000)
            #expect(answered > 200, "it goes on working meanwhile: a batch of each wave is 60 when timers are on time")
            #expect(refusals.count > 1500)
            let median = try #require(refusals.dropFirst(refusals.count / 2).first)
            #expect(median < .milliseconds(100), "it does not wait for those before it")
            // Nothing is left behind.
            try await flock.wait { $0.openRequests == 0 }
            for item in 0..<10 { #expect(try await inbox.ask(item, deadline: .seconds(5)) == item + 1) }
        }
    }
}
