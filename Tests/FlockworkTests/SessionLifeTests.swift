// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("The life of a session", .timeLimit(.minutes(1)), .logsOnFailure)
struct SessionLifeTests {
    @Test("a handle that is closed gives its sessions back at once")
    func close() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            #expect(try await inbox.ask(1) == 2)
            try await flock.wait { $0.sessions == 1 }
            await inbox.close()
            try await flock.wait { $0.sessions == 0 && $0.openBytes == 0 }
            await #expect(throws: FlockError.self) { try await inbox.ask(1) }
        }
    }

    @Test("an outbox that is resumed after its session was closed ends instead of waiting")
    func resumedTooLate() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            _ = try await inbox.post([1, 2, 3])
            let tokens = inbox.tokens
            await inbox.close()
            var count = 0
            for await _ in try await flock.client.outbox(of: pipeline, resuming: tokens) { count += 1 }
            #expect(count == 0)
        }
    }

    @Test("a node that was started again is used by handles that were made before")
    func restartedNode() async throws {
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        let port = try FreePorts.find(1)[0]
        let configuration = NodeConfiguration(id: "node-1", port: port, logger: LogCapture().logger(for: "node-1"))
        let first = Node(pipelines: pipeline, configuration: configuration)
        try await first.start()
        let client = try await Client.connect(to: "127.0.0.1:\(port)")
        let inbox = try await client.inbox(of: pipeline)
        #expect(try await inbox.ask(1) == 2)
        await first.shutDown()
        let second = Node(pipelines: pipeline, configuration: configuration)
        try await second.start()
        var answer: Int?
        while answer == nil {
            do { answer = try await inbox.ask(2) } catch let error as FlockError
                where [.unavailable, .shuttingDown, .notFound, .lost].contains(error.code)
            { await Task.yield() }
        }
        #expect(answer == 3)
        await client.close()
        await second.shutDown()
    }
}
