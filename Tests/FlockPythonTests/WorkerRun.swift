// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Logging
import Testing

@testable import FlockGRPC
@testable import FlockPython

/// Runs `body` with a worker process of a handler with this code, which has to end well after it.
///
/// - Parameter prepare: Changes how it is started.
func withPythonWorker(
    _ code: String, _ form: PythonForm = .strings, options: PythonModel.Options = HandlerFolder.options,
    events: WorkerEvents = WorkerEvents(), prepare: (inout WorkerProgram) throws -> Void = { _ in },
    _ body: (PythonWorker) async throws -> Void
) async throws {
    let folder = try HandlerFolder(code)
    try #require(mkdir(folder.path + "/some_thing-1.2.dist-info", 0o700) == 0)
    let queue = try CompletionQueue(name: "python")
    let model = PythonModel.python(folder.path, handler: "score", options: options)
    var program = try await ModelInstallation(model, form, log: Logger(label: "test")).program
    program.environment = [("PATH", "/usr/bin:/bin"), ("TMPDIR", folder.path)]
    try prepare(&program)
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
        #expect(events.exit == .exited(0), "\(events.lines)")
    }
    await queue.stop()
}

/// A handler that returns when `path` is there, and what says that it is in work until then.
struct HeldBatch {
    let path = NSTemporaryDirectory() + "flock-gate-\(UInt64.random(in: 0 ... .max))"
    let events = WorkerEvents()

    var code: String {
        """
        import os, time
        def score(items):
            while not os.path.exists("\(path)"): time.sleep(0.01)
            return items
        """
    }

    /// Sends a batch, awaits a pong that names it, and lets it go.
    func isNamedByPongs(of worker: PythonWorker) async throws {
        worker.send(WorkerRequest.batch(sequence: 7, .strings(["a"])))
        try await eventually {
            worker.process.ping(5)
            return events.pongs.contains { $0.number == 5 && $0.busyWith == 7 }
        }
        try Data().write(to: URL(fileURLWithPath: path))
        _ = try await worker.receive()
        try FileManager.default.removeItem(atPath: path)
    }
}

extension PythonWorker {
    /// The next answer.
    func receive() async throws -> WorkerAnswer? {
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
