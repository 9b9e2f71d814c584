// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockPython

@Suite("Python worker", .timeLimit(.minutes(2)))
struct PythonWorkerTests {
    @Test("lists of strings go there and back, and the worker ends well")
    func strings() async throws {
        try await withPythonWorker("def score(items):\n    return ['reply-' + x for x in items]\n") { worker in
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
        try await withPythonWorker("def score(items):\n    return items\n") { worker in
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
        let held = HeldBatch()
        try await withPythonWorker(held.code, events: held.events) { try await held.isNamedByPongs(of: $0) }
    }
}
