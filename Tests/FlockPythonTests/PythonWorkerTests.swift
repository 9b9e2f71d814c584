// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockGRPC
@testable import FlockPython

@Suite("Python worker", .timeLimit(.minutes(2)))
struct PythonWorkerTests {
    @Test("lists of strings go there and back")
    func strings() async throws {
        try await withWorker("def score(items):\n    return ['reply-' + x for x in items]\n") {
            worker, ready, _ async throws in
            #expect(ready.pythonVersion.hasPrefix("3."))
            for round in 0..<50 {
                let items = (0..<round).map { "\(round)/\($0) ü" }
                if items.isEmpty { continue }
                #expect(try await worker.process(.strings(items)) == .strings(items.map { "reply-\($0)" }))
            }
        }
    }

    @Test("an exception is an answer, with its traceback, and the worker goes on")
    func exception() async throws {
        let code =
            "def score(items):\n    if items[0] == 'bad':\n        raise KeyError('no such key')\n    return items\n"
        try await withWorker(code) { worker, _, _ async throws in
            let error = await #expect(throws: PythonException.self) { try await worker.process(.strings(["bad"])) }
            #expect(error?.type == "KeyError" && error?.traceback.contains("handler.py") == true)
            #expect(try await worker.process(.strings(["good"])) == .strings(["good"]))
        }
    }

    @Test("a wrong number of results is an error that names both numbers")
    func wrongCount() async throws {
        try await withWorker("def score(items):\n    return items[1:]\n") { worker, _, _ async throws in
            let error = await #expect(throws: PythonException.self) { try await worker.process(.strings(["a", "b"])) }
            #expect(error?.message.contains("1 results for 2 items") == true)
        }
    }

    @Test("a process that dies fails its batches at once")
    func dies() async throws {
        try await withWorker("import os\ndef score(items):\n    os._exit(7)\n") { worker, _, events async throws in
            let error = await #expect(throws: FlockError.self) { try await worker.process(.strings(["a"])) }
            #expect(error?.code == .pythonFailed)
            try await eventually { events.exit != nil }
            #expect(events.exit == .exited(7))
        }
    }

    @Test("what it prints is told line by line, and a busy one answers pings")
    func printsAndPongs() async throws {
        let code =
            "import time, sys\ndef score(items):\n    print('hello')\n    print('oops', file=sys.stderr)\n    time.sleep(0.5)\n    return items\n"
        try await withWorker(code) { worker, _, events async throws in
            async let answer = worker.process(.strings(["a"]))
            try await eventually { events.lines.contains("hello") && events.lines.contains("oops") }
            worker.process.ping(5)
            try await eventually { events.pongs.contains { $0.number == 5 && $0.busyWith == 0 } }
            #expect(try await answer == .strings(["a"]))
        }
    }

    @Test("an import error is told at once, with the real reason")
    func importError() async throws {
        await #expect(throws: FlockError.self) {
            try await withWorker("import no_such_module\ndef score(items):\n    return items\n") { _, _, _ in }
        }
    }

    // MARK: Support

    final class Events: Sendable {
        let all = Mutex<[ProcessEvent]>([])
        var exit: ProcessExit? {
            all.withLock { $0.compactMap { if case .exited(let exit) = $0 { exit } else { nil } }.first }
        }
        var lines: [String] { all.withLock { $0.compactMap { if case .line(let line, _) = $0 { line } else { nil } } } }
        var pongs: [Pong] { all.withLock { $0.compactMap { if case .pong(let pong) = $0 { pong } else { nil } } } }
    }

    private func withWorker(
        _ code: String, form: PythonForm = .strings, _ body: (PythonWorker, WorkerReady, Events) async throws -> Void
    ) async throws {
        var template = Array("/tmp/flockwork-python-XXXXXX".utf8CString)
        let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        let file = try #require(fopen(folder + "/handler.py", "w"))
        fputs(code, file)
        fclose(file)
        let queue = try CompletionQueue(name: "python")
        let program = WorkerProgram(
            interpreter: "/usr/bin/python3", extensionPath: try PythonExtension.path(),
            folder: folder, module: "handler",
            function: "score", form: form, environment: [("PATH", "/usr/bin:/bin"), ("PYTHONDONTWRITEBYTECODE", "1")],
            limits: ProcessLimits())
        let events = Events()
        do {
            let worker = try await PythonWorker(program, on: queue, limits: Limits()) { event in
                events.all.withLock { $0.append(event) }
            }
            do {
                let ready = try await worker.open(program)
                try await body(worker, ready, events)
            } catch {
                worker.process.signal(SIGKILL, group: true)
                print(events.lines.joined(separator: "\n"))
                throw error
            }
            await worker.finish()
            try await eventually { events.exit != nil }
            #expect(events.exit == .exited(0) || events.exit == .exited(7), "\(String(describing: events.exit))")
        }
        await queue.stop()
        unlink(folder + "/handler.py")
        rmdir(folder)
    }
}
