// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("An ask", .timeLimit(.minutes(1)), .logsOnFailure)
struct AskTests {
    @Test("comes back with the model's score")
    func score() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            for value in 0..<100 { #expect(try await inbox.ask([Float(value), 0, 0, 0]) == Float(2 * value)) }
        }
    }

    @Test("of many tasks at once gets each its own answer")
    func concurrent() async throws {
        let pipeline = Pipeline("measure", of: Review.self).stage(Measure.init)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for id in 0..<2000 {
                    group.addTask {
                        let text = String(repeating: "x", count: id % 50)
                        return try await inbox.ask(Review(id: id, text: text)) == Verdict(id: id, length: id % 50)
                    }
                }
                for try await isRight in group { #expect(isRight) }
            }
        }
    }

    @Test("through a window of eight waits for room, and all are answered")
    func smallWindow() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline, options: .init(window: 8)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let sum = try await withThrowingTaskGroup(of: Int.self) { group in
                for value in 0..<500 { group.addTask { try await inbox.ask(value) } }
                return try await group.reduce(0, +)
            }
            #expect(sum == 500 * 501 / 2)
        }
    }

    @Test("of a filtered item fails with the code filtered, its neighbours do not")
    func filtered() async throws {
        let pipeline = Pipeline("even", of: Int.self).filter { $0 % 2 == 0 }.map { $0 * 10 }
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            #expect(try await inbox.ask(4) == 40)
            let error = await #expect(throws: FlockError.self) { try await inbox.ask(5) }
            #expect(error?.code == .filtered)
        }
    }

    @Test("whose deadline passes fails with deadlineExceeded, on the node too")
    func deadline() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            async let first = inbox.ask(1)
            await gate.arrived(1)
            let error = await #expect(throws: FlockError.self) { try await inbox.ask(2, deadline: .milliseconds(20)) }
            #expect(error?.code == .deadlineExceeded)
            gate.open()
            #expect(try await first == 1)
            // The expired one never reached the stage.
            #expect(try await inbox.ask(3) == 3)
            #expect(gate.sizes == [1, 1])
        }
    }

    @Test("that is cancelled ends at once, and its item is taken out of the queue")
    func cancellation() async throws {
        let gate = Gate()
        let pipeline = gate.pipeline
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            async let first = inbox.ask(1)
            await gate.arrived(1)
            let second = Task { try await inbox.ask(2) }
            try await flock.wait { $0.openRequests == 2 }
            second.cancel()
            let result = await second.result
            #expect(throws: FlockError.self) { try result.get() }
            try await flock.wait { $0.openRequests == 1 }
            gate.open()
            #expect(try await first == 1)
            #expect(try await inbox.ask(3) == 3)
            #expect(gate.sizes == [1, 1])
        }
    }

    @Test("over a limit of payload bytes is refused with tooLarge before it is sent")
    func tooLarge() async throws {
        let pipeline = Pipeline("measure", of: Review.self).stage(Measure.init)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let huge = Review(id: 1, text: String(repeating: "x", count: 2 << 20))
            let error = await #expect(throws: FlockError.self) { try await inbox.ask(huge) }
            #expect(error?.code == .tooLarge)
            #expect(try await inbox.ask(Review(id: 2, text: "ok")) == Verdict(id: 2, length: 2))
        }
    }

    @Test("of a row of another width says which width the pipeline takes")
    func wrongWidth() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let error = await #expect(throws: FlockError.self) { try await inbox.ask([1, 2, 3]) }
            #expect(error?.code == .invalidInput)
            #expect(error?.message.contains("rows of 4 floats, not of 3") == true)
            #expect(try await inbox.ask([1, 2, 3, 4]) == 2)
        }
    }

    @Test("of an embedded node needs no socket")
    func embedded() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        try await node.start()
        let inbox = try await node.inbox(of: pipeline)
        #expect(try await inbox.ask([21, 0, 0, 0]) == 42)
        await inbox.close()
        await node.shutDown()
    }

    @Test("comes back where loops and instances look for work before they sleep", arguments: [1, 50])
    func busyPoll(tasks: Int) async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        var options = LocalCluster.Options()
        options.busyPoll = true
        try await testCluster(pipeline, options: options) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<tasks {
                    group.addTask {
                        for value in 0..<100 {
                            let value = Float(task * 100 + value)
                            let score = try await inbox.ask([value, 0, 0, 0])
                            #expect(score == 2 * value)
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("that is cancelled at any moment ends once, with its own answer or as cancelled")
    func cancelledAnywhere() async throws {
        let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling()))
        // So few places that some wait for room when they are cancelled.
        try await testCluster(pipeline, options: .init(window: 16)) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let seed = UInt64.random(in: .min ... .max)
            var random = SeededRandom(seed: seed)
            for round in 0..<40 {
                let tasks = (0..<50).map { index in
                    Task { try await inbox.ask([Float(round * 50 + index), 0, 0, 0]) }
                }
                for task in tasks where Bool.random(using: &random) { task.cancel() }
                for (index, task) in tasks.enumerated() {
                    switch await task.result {
                    case .success(let score): #expect(score == Float(2 * (round * 50 + index)), "seed \(seed)")
                    case .failure(let error):
                        let isCancelled = error is CancellationError || (error as? FlockError)?.code == .cancelled
                        #expect(isCancelled && task.isCancelled, "\(error), seed \(seed)")
                    }
                }
            }
            try await flock.wait { $0.openRequests == 0 }
            #expect(try await inbox.ask([21, 0, 0, 0]) == 42)
        }
    }
}
