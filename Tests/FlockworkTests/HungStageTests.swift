// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockCluster
import FlockTestKit
import FlockTransport
import FlockWire
import Synchronization
import Testing

@testable import Flockwork

/// Never returns for a batch that holds the item 13, `times` times.
distributed actor Stuck: Stage {
    private let gate: Gate
    private let hangs: Counter
    private let times: Int

    init(_ gate: Gate, _ hangs: Counter, times: Int, actorSystem: FlockSystem) {
        self.gate = gate
        self.hangs = hangs
        self.times = times
        self.actorSystem = actorSystem
    }

    distributed func process(_ batch: [Int]) async throws -> [Int] {
        if batch.contains(13), hangs.value < times {
            hangs.add()
            await gate.pass(batch.count)
        }
        return batch
    }
}

@Suite("The instances of a lane")
struct LaneInstancesTests {
    private func at(_ milliseconds: UInt64) -> Tick { Tick(nanoseconds: 1_000_000 * milliseconds) }

    private func lane(of wanted: Int, mayHang: Int = 2) -> LaneInstances<String> {
        var lane = LaneInstances<String>(wanted: wanted, attemptTime: .milliseconds(100), mayHang: mayHang)
        for number in 1...wanted {
            let added = lane.add()
            #expect(added == number)
        }
        return lane
    }

    @Test("one look is asked for while attempts run, and none without")
    func watch() {
        var lane = lane(of: 2)
        let lookAfter1 = lane.begin(1, "a", at: at(0))
        #expect(lookAfter1 == .milliseconds(100))
        let lookAfter2 = lane.begin(2, "b", at: at(30))
        #expect(lookAfter2 == nil)
        let ending3 = lane.end(1)
        #expect(ending3 == .counts)
        let again = lane.look(at: at(100)).lookAfter
        #expect(again == .milliseconds(30))
        let ending5 = lane.end(2)
        #expect(ending5 == .counts)
        let findings = lane.look(at: at(130))
        #expect(findings.lookAfter == nil && findings.lost.isEmpty && findings.replacements == 0)
        let lookAfter6 = lane.begin(1, "c", at: at(200))
        #expect(lookAfter6 == .milliseconds(100))
    }

    @Test("an attempt is given up when its time is over, not before, and its late result is dropped")
    func overdue() {
        var lane = lane(of: 2)
        _ = lane.begin(1, "a", at: at(0))
        _ = lane.begin(2, "b", at: at(1))
        let isEarly7 = lane.look(at: at(99)).lost.isEmpty
        #expect(isEarly7)
        let findings = lane.look(at: at(100))
        #expect(findings.lost.map(\.work) == ["a"] && findings.replacements == 1 && !findings.isExhausted)
        #expect(findings.lookAfter == .milliseconds(1))
        #expect(lane.alive == 1 && lane.hangingCount == 1)
        let number8 = lane.add()
        #expect(number8 == 3)
        let ending9 = lane.end(1)
        #expect(ending9 == .late(goesOn: false), "its place is taken")
        let ending10 = lane.end(2)
        #expect(ending10 == .counts)
        #expect(lane.hangingCount == 0 && lane.alive == 2 && lane.abandoned == 1)
    }

    @Test("each call of a batch that is searched has its own time, and an abandoned one makes no more calls")
    func callAgain() {
        var lane = lane(of: 1)
        _ = lane.begin(1, "a", at: at(0))
        let mayCall11 = lane.callAgain(1, at: at(90))
        #expect(mayCall11)
        let isEarly12 = lane.look(at: at(150)).lost.isEmpty
        #expect(isEarly12)
        let lost = lane.look(at: at(190)).lost.count
        #expect(lost == 1)
        let mayCall14 = lane.callAgain(1, at: at(191))
        #expect(!mayCall14)
    }

    @Test("so many may hang, then the lane is short, until one of them returns")
    func bounded() {
        var lane = lane(of: 1, mayHang: 2)
        for number in 1...2 {
            _ = lane.begin(number, "\(number)", at: at(UInt64(number) * 1000))
            let findings = lane.look(at: at(UInt64(number) * 1000 + 100))
            #expect(findings.replacements == 1 && !findings.isExhausted)
            let number15 = lane.add()
            #expect(number15 == number + 1)
        }
        _ = lane.begin(3, "3", at: at(3000))
        let findings = lane.look(at: at(3100))
        #expect(findings.lost.map(\.work) == ["3"] && findings.replacements == 0 && findings.isExhausted)
        #expect(lane.alive == 0 && lane.hangingCount == 3)
        let ending16 = lane.end(2)
        #expect(ending16 == .late(goesOn: true))
        #expect(lane.alive == 1 && lane.hangingCount == 2)
        let ending17 = lane.end(1)
        #expect(ending17 == .late(goesOn: false))
    }
}

@Suite("A stage that does not return", .timeLimit(.minutes(1)), .logsOnFailure)
struct HungStageTests {
    private static var limits: Limits {
        var limits = Limits()
        limits.attemptTime = .milliseconds(250)
        return limits
    }

    /// One lane on a loop of its own; the step returns what it got, or waits at the gate for the item 13.
    private struct Bench {
        let loop: EventLoop
        let runner: LaneRunner
        let made: Counter
        let endings: AsyncStream<(UInt64, RunEnding)>
        private let onEnd: Assignment

        init(instances: Int, makes: Bool, gate: Gate) throws {
            let (endings, source) = AsyncStream<(UInt64, RunEnding)>.makeStream()
            self.endings = endings
            onEnd = Assignment { run, ending in source.yield((run.sequences.first, ending)) }
            let made = Counter()
            let step: EncodedStep = { input in
                guard case .encoded(let items, _) = input else { throw Bad() }
                if items.rows(of: Int64.self, width: 1)?.elements.contains(13) == true {
                    await gate.pass(items.count)
                }
                return LaneOutput(items: items, origins: nil)
            }
            let loop = try EventLoop(name: "hung")
            self.loop = loop
            self.made = made
            var shape = LaneShape()
            shape.batch = .upTo(1)
            let instance = LaneInstance(step: step, threadName: nil)
            let factory: LaneRunner.InstanceFactory = {
                made.add()
                return instance
            }
            runner = LaneRunner(
                shape, instances: instances, limits: HungStageTests.limits, loop: loop,
                makeInstance: makes ? factory : nil
            ) { batch in
                loop.execute {
                    var first = 0
                    for work in batch.runs {
                        work.assignment.ended(
                            work.run, .done(batch.result.outcomes(of: work.run.sequences, from: first)))
                        first += work.run.count
                    }
                }
            }
            try runner.start(Array(repeating: instance, count: instances))
        }

        func put(_ number: Int64, as sequence: UInt64) {
            let bytes = Bytes(count: 8) { $0.storeBytes(of: number, as: Int64.self) }
            let run = RequestRun(
                partition: PartitionID(rawValue: 0), session: SessionID(rawValue: 1),
                sequences: SequenceRun(first: sequence, count: 1))
            runner.mailbox.put([
                WorkRun(
                    run: run, items: ItemBuffer(fixed: bytes, stride: 8, count: 1), deadline: nil,
                    arrived: EventLoop.now, assignment: onEnd)
            ])
        }

        func stop() async {
            await runner.stop()
            await loop.stop()
        }
    }

    /// "lost", "value", or the code of the failure.
    private func name(_ ending: RunEnding) -> String {
        switch ending {
        case .lost: "lost"
        case .done(let runs):
            if case .failed(let error)? = runs.first?.outcome { "\(error.code)" } else { "value" }
        default: "other"
        }
    }

    @Test("is abandoned and replaced; its run is lost once, and its late result is dropped")
    func replaced() async throws {
        let gate = Gate()
        let bench = try Bench(instances: 1, makes: true, gate: gate)
        var endings = bench.endings.makeAsyncIterator()
        bench.put(13, as: 1)
        bench.put(5, as: 2)
        let lost = try #require(await endings.next())
        #expect(lost.0 == 1 && name(lost.1) == "lost")
        let done = try #require(await endings.next())
        #expect(done.0 == 2 && name(done.1) == "value")
        #expect(bench.made.value == 1)
        #expect(bench.runner.hung == (1, 1))
        #expect(bench.loop.limitsReached.count(of: .attemptTime) == 1)
        gate.open()
        try await eventually { bench.runner.hung.instances == 0 }
        bench.put(6, as: 3)
        let last = try #require(await endings.next())
        #expect(last.0 == 3 && name(last.1) == "value", "the late result of run 1 came through")
        await bench.stop()
    }

    @Test("does not hold up the others, nor the end of the lane")
    func othersGoOn() async throws {
        let gate = Gate()
        let bench = try Bench(instances: 2, makes: true, gate: gate)
        var endings = bench.endings.makeAsyncIterator()
        bench.put(13, as: 0)
        await gate.arrived(1)
        for sequence in 1...20 { bench.put(1, as: UInt64(sequence)) }
        for _ in 0...20 {
            let (sequence, ending) = try #require(await endings.next())
            #expect(name(ending) == (sequence == 0 ? "lost" : "value"))
        }
        await bench.stop()
        gate.open()
    }

    @Test("too often leaves the lane without instances: requests fail at once, until a call returns")
    func exhausted() async throws {
        let gate = Gate()
        let bench = try Bench(instances: 1, makes: true, gate: gate)
        var endings = bench.endings.makeAsyncIterator()
        for sequence in 1...3 {
            bench.put(13, as: UInt64(sequence))
            let (_, ending) = try #require(await endings.next())
            #expect(name(ending) == "lost")
        }
        #expect(bench.made.value == 2, "twice the instances")
        bench.put(1, as: 4)
        let refused = try #require(await endings.next())
        #expect(refused.0 == 4 && name(refused.1) == "unavailable")
        gate.open()
        try await eventually { bench.runner.hung.instances <= 2 }
        // The first that returned takes work again; a put just before that may still be refused.
        var sequence: UInt64 = 5
        while true {
            bench.put(1, as: sequence)
            let (_, ending) = try #require(await endings.next())
            if name(ending) == "value" { break }
            sequence += 1
        }
        await bench.stop()
    }

    @Test("once is tried again on another instance, and nobody notices")
    func retried() async throws {
        let gate = Gate()
        let hangs = Counter()
        let pipeline = Pipeline("stuck-once", of: Int.self).stage(instances: .perNode(2)) {
            Stuck(gate, hangs, times: 1, actorSystem: $0)
        }
        try await testCluster(pipeline, options: .init(limits: Self.limits)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            #expect(try await inbox.ask(13) == 13)
            #expect(hangs.value == 1)
            gate.open()
        }
    }

    @Test("for an item fails that item after its attempts; others have their values")
    func givenUp() async throws {
        let gate = Gate()
        let hangs = Counter()
        let pipeline = Pipeline("stuck", of: Int.self).stage(instances: .perNode(4)) {
            Stuck(gate, hangs, times: .max, actorSystem: $0)
        }
        try await testCluster(pipeline, options: .init(limits: Self.limits)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let error = await #expect(throws: FlockError.self) { try await inbox.ask(13) }
            #expect(error?.code == .poison)
            #expect(hangs.value == Limits().attempts)
            #expect(try await inbox.ask(14) == 14)
            gate.open()
        }
    }
}

@Suite("A node with a stage that hangs", .timeLimit(.minutes(1)), .logsOnFailure)
struct HungNodeTests {
    private func limits() -> Limits {
        var limits = Limits()
        limits.attemptTime = .milliseconds(250)
        return limits
    }

    private func pipeline(_ gate: Gate, _ hangs: Counter, times: Int) -> Pipeline<Int, Int> {
        Pipeline("stuck", of: Int.self).stage(instances: .perNode(1)) {
            Stuck(gate, hangs, times: times, actorSystem: $0)
        }
    }

    @Test("replaces its only instance, and callers do not notice")
    func once() async throws {
        let gate = Gate()
        let hangs = Counter()
        let pipeline = pipeline(gate, hangs, times: 1)
        try await testCluster(pipeline, options: .init(limits: limits())) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            #expect(try await inbox.ask(13) == 13)
            #expect(try await inbox.ask(1) == 1)
            #expect(hangs.value == 1)
        }
        gate.open()
    }

    @Test("gives an item up that always hangs, refuses while no instance is left, and goes on when one returns")
    func always() async throws {
        let gate = Gate()
        let hangs = Counter()
        let pipeline = pipeline(gate, hangs, times: .max)
        try await testCluster(pipeline, options: .init(limits: limits())) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let poison = await #expect(throws: FlockError.self) { try await inbox.ask(13) }
            #expect(poison?.code == .poison)
            let refused = await #expect(throws: FlockError.self) { try await inbox.ask(14) }
            #expect(refused?.code == .unavailable)
            gate.open()
            var answer: Int?
            try await eventually {
                do { answer = try await inbox.ask(15) } catch let error as FlockError where error.code == .unavailable {
                }
                return answer != nil
            }
            #expect(answer == 15)
        }
    }
}
