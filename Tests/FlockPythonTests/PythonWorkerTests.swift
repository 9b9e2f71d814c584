// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Logging
import Testing

@testable import FlockGRPC
@testable import FlockPython

@Suite("Python worker", .timeLimit(.minutes(2)))
struct PythonWorkerTests {
    @Test("lists of strings go there and back, and the worker ends well")
    func strings() async throws {
        try await withWorker("def score(items):\n    return ['reply-' + x for x in items]\n") { worker in
            for round in 1..<50 {
                let items = (0..<round).map { "\(round)/\($0) ü" }
                worker.send(WorkerRequest.batch(sequence: UInt64(round), .strings(items)))
                let answer = try #require(try await worker.receive())
                #expect(answer.sequence == UInt64(round))
                #expect(try answer.items(round) == .strings(items.map { "reply-\($0)" }))
            }
        }
    }

    @Test("several batches under way are answered in order")
    func inOrder() async throws {
        try await withWorker("def score(items):\n    return items\n") { worker in
            for batch in 0..<200 {
                worker.send(WorkerRequest.batch(sequence: UInt64(batch), .byteStrings([Bytes("\(batch)")])))
            }
            for batch in 0..<200 {
                let answer = try #require(try await worker.receive())
                #expect(try answer.items(1) == .byteStrings([Bytes("\(batch)")]))
            }
        }
    }

    @Test("a pong tells which batch is in work")
    func pong() async throws {
        let code = "import time\ndef score(items):\n    time.sleep(0.5)\n    return items\n"
        let events = WorkerEvents()
        try await withWorker(code, events: events) { worker in
            worker.send(WorkerRequest.batch(sequence: 7, .strings(["a"])))
            try await eventually {
                worker.process.ping(5)
                return events.pongs.contains { $0.number == 5 && $0.busyWith == 7 }
            }
            _ = try await worker.receive()
        }
    }

    private func withWorker(
        _ code: String, events: WorkerEvents = WorkerEvents(), _ body: (PythonWorker) async throws -> Void
    ) async throws {
        let folder = try HandlerFolder(code)
        try #require(mkdir(folder.path + "/some_thing-1.2.dist-info", 0o700) == 0)
        let queue = try CompletionQueue(name: "python")
        let model = PythonModel.python(folder.path, handler: "score", options: HandlerFolder.options)
        var program = try await ModelInstallation(model, .strings, log: Logger(label: "test")).program
        program.environment = [("PATH", "/usr/bin:/bin")]
        do {
            let worker = try await PythonWorker(program, on: queue, limits: Limits()) { events.add($0) }
            do {
                let ready = try await worker.open(program)
                #expect(ready.pythonVersion.hasPrefix("3."))
                #expect(ready.packages.split(separator: "\n").contains("some_thing 1.2"))
                try await body(worker)
            } catch {
                worker.kill()
                print(events.lines.joined(separator: "\n"))
                throw error
            }
            worker.finish()
            try await eventually { events.exit != nil }
            #expect(events.exit == .exited(0))
        }
        await queue.stop()
    }
}

extension PythonWorker {
    /// The next answer.
    fileprivate func receive() async throws -> WorkerAnswer? {
        guard let bytes = try await stream.both.receive() else { return nil }
        guard case .result(let answer) = try Self.message(bytes) else { throw Self.gone }
        return answer
    }
}

extension WorkerAnswer {
    func items(_ count: Int) throws -> PythonItems? {
        guard case .items(let field, let bytes) = content else { return nil }
        return try PythonItems(field: field, bytes, count: count, limits: Limits())
    }
}
