// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Logging
import Testing

// Whatever a child does, each caller gets one clear outcome and the node goes on. Every one with real processes.

@Suite("Python failures", .timeLimit(.minutes(3)))
struct PythonFailureTests {
    /// A handler that does something over the item "bad", and has time for batches to come together.
    private func pipeline(
        _ bad: String, in folder: inout HandlerFolder?, options: PythonModel.Options = HandlerFolder.options,
        batch: BatchPolicy = .lingering(.milliseconds(50), upTo: 64)
    ) throws -> Pipeline<String, String> {
        let made = try HandlerFolder(
            """
            import os, sys, time, ctypes, signal
            def transform_list(items):
                for x in items:
                    if x == 'bad':
                        \(bad)
                return ['ok-' + x for x in items]
            """)
        folder = made
        return Pipeline("failing", of: String.self)
            .model(.python(made.path, options: options), batch: batch, instances: .perNode(2))
    }

    /// Asks for 40 items, of which one is bad. The others must succeed.
    private func bad(
        among inbox: Inbox<String, String>, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> FlockError {
        try await withThrowingTaskGroup(of: (Int, FlockError?).self) { group in
            for index in 0..<40 {
                group.addTask {
                    do {
                        let answer = try await inbox.ask(index == 17 ? "bad" : "\(index)")
                        #expect(answer == "ok-\(index)", sourceLocation: sourceLocation)
                        return (index, nil)
                    } catch let error as FlockError {
                        return (index, error)
                    }
                }
            }
            var found: FlockError?
            for try await (index, error) in group {
                guard let error else { continue }
                #expect(index == 17, "\(index): \(error)", sourceLocation: sourceLocation)
                found = error
            }
            return try #require(found, sourceLocation: sourceLocation)
        }
    }

    private func check(
        _ code: String, _ expected: FlockError.Code, options: PythonModel.Options = HandlerFolder.options,
        logs: LogCapture = LogCapture(), _ body: (FlockError, Node) async throws -> Void = { _, _ in }
    ) async throws {
        var made: HandlerFolder?
        let pipeline = try pipeline(code, in: &made, options: options)
        let folder = made
        try await withNode(pipeline, logs: logs) { node in
            let inbox = try await node.inbox(of: pipeline)
            let error = try await bad(among: inbox)
            #expect(error.code == expected, "\(error)")
            // Where things lie on the node is none of a caller's business.
            #expect(folder.map { !"\(error)".contains($0.path) } == true, "\(error)")
            try await body(error, node)
            #expect(try await inbox.ask("after") == "ok-after")
        }
        withExtendedLifetime(folder) {}
    }

    @Test("an exception fails its item with its last line, without paths; the log has the traceback")
    func exception() async throws {
        let logs = LogCapture()
        try await check("raise ValueError('no file /very/secret/place.txt at 0x7f00aabbcc')", .pythonFailed, logs: logs)
        {
            error, _ in
            #expect(error.message.contains("ValueError: no file …/place.txt at 0x…"), "\(error)")
            #expect(!error.message.contains("secret"))
        }
        let entry = logs.entries.first { $0.message == "a Python handler raised" }
        #expect(entry?.metadata["traceback"]?.description.contains("handler.py") == true)
        #expect(entry?.metadata["child"] != nil && entry?.metadata["pid"] != nil)
    }

    @Test("a wrong number of results is the error of its batch's bad item, and names both numbers")
    func wrongCount() async throws {
        try await check("return items[1:]", .pythonFailed) { error, _ in
            #expect(error.message.contains("0 results for 1 items"), "\(error)")
        }
    }

    @Test("results of a wrong type are an error", arguments: ["None", "[1.5 for x in items]", "'text'", "[None]"])
    func wrongType(result: String) async throws {
        // Numbers travel as an array, for which the handler's process needs NumPy.
        let isArray = result.hasPrefix("[1.5") && HandlerFolder.hasNumPy
        try await check("return \(result)", isArray ? .badBatch : .pythonFailed)
    }

    @Test(
        "an item over which processes end or crash fails alone, as poison",
        arguments: [
            "os._exit(7)", "sys.exit(3)", "ctypes.string_at(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()",
        ])
    func crash(code: String) async throws {
        let logs = LogCapture()
        try await check(code, .poison, logs: logs) { error, node in
            let how = ["exited with code", "was killed", "crashed", "aborted"]
            #expect(how.contains { error.message.contains($0) }, "\(error)")
            try await eventually { try await node.status().children.contains { $0.restarts >= 3 } }
        }
        #expect(logs.entries.contains { $0.message == "a Python worker ended" })
    }

    @Test("a batch that hangs has its stacks in the log and its process killed; the item is poison")
    func hang() async throws {
        let logs = LogCapture()
        var options = HandlerFolder.options
        options.batchTime = .milliseconds(400)
        try await check("while True: time.sleep(0.01)", .poison, options: options, logs: logs)
        #expect(Self.printed("handler.py\", line 5 in transform_list", logs))
    }

    private static func printed(_ text: String, _ logs: LogCapture) -> Bool {
        logs.entries.contains { $0.metadata["line"]?.description.contains(text) == true }
    }

    @Test("a lock that is never released hangs no caller", .timeLimit(.minutes(1)))
    func deadlock() async throws {
        var options = HandlerFolder.options
        options.batchTime = .milliseconds(400)
        try await check("import threading; l = threading.Lock(); l.acquire(); l.acquire()", .poison, options: options)
    }

    @Test("endless output is dropped and counted, and nobody waits for it")
    func output() async throws {
        let logs = LogCapture(capacity: 100_000)
        var folder: HandlerFolder?
        let pipeline = try pipeline("[print('x' * 100) for i in range(200000)]", in: &folder)
        try await withNode(pipeline, logs: logs) { node in
            let inbox = try await node.inbox(of: pipeline)
            // A print is slow, but it is no failure.
            #expect(try await inbox.ask("bad") == "ok-bad")
            #expect(try await inbox.ask("good") == "ok-good")
            try await eventually { logs.entries.contains { $0.message.contains("prints too much") } }
        }
        withExtendedLifetime(folder) {}
    }

    @Test("a fork bomb dies with its group")
    func forkBomb() async throws {
        // Bounded by itself: as the superuser no limit of the kernel holds it.
        let code = "[os.fork() == 0 and time.sleep(1000) for i in range(50)]; os._exit(1)"
        var folder: HandlerFolder?
        let pipeline = try pipeline(code, in: &folder)
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            await #expect(throws: FlockError.self) { try await inbox.ask("bad") }
            let path = try #require(folder).path
            try await eventually { try Self.processes(in: path) <= 3 }
            #expect(try await inbox.ask("good") == "ok-good")
        }
        let path = try #require(folder).path
        #expect(try Self.processes(in: path) == 0)
    }

    /// Processes whose current folder it is.
    private static func processes(in folder: String) throws -> Int {
        let wanted = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path
        return try FileManager.default.contentsOfDirectory(atPath: "/proc").count { name in
            guard Int(name) != nil else { return false }
            // Gone meanwhile.
            return (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(name)/cwd")) == wanted
        }
    }

    @Test("a memory hog gets MemoryError at the limit that is set")
    func memory() async throws {
        var options = HandlerFolder.options
        options.limits.addressSpaceBytes = 2 << 30
        try await check("x = bytearray(4 << 30)", .pythonFailed, options: options) { error, _ in
            #expect(error.message.contains("MemoryError"), "\(error)")
        }
    }

    @Test("an import error is the node's start error, at once, with the real traceback")
    func importError() async throws {
        let folder = try HandlerFolder("import no_such_module\ndef transform_list(items):\n    return items\n")
        let pipeline = Pipeline("broken", of: String.self).model(.python(folder.path, options: HandlerFolder.options))
        let error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
        #expect(error?.code == .pythonFailed)
        #expect(error?.message.contains("No module named 'no_such_module'") == true, "\(String(describing: error))")
        #expect(error?.message.contains("handler.py\", line 1") == true)
    }

    @Test("a process that ends while it loads is the node's start error, with what it said")
    func exitsAtStart() async throws {
        let folder = try HandlerFolder("import os, sys\nprint('goodbye', file=sys.stderr)\nos._exit(9)\n")
        let pipeline = Pipeline("broken", of: String.self).model(.python(folder.path, options: HandlerFolder.options))
        let error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
        #expect(error?.message.contains("exited with code 9") == true, "\(String(describing: error))")
        #expect(error?.message.contains("goodbye") == true)
    }

    @Test("a missing folder, function or interpreter says so")
    func missing() async throws {
        let folder = try HandlerFolder("def other(items):\n    return items\n")
        var wrong = HandlerFolder.options
        wrong.environment.interpreter = "/nowhere/python3"
        for (model, text) in [
            (PythonModel.python("/nowhere"), "no handler.py in /nowhere"),
            (.python(folder.path, handler: "score", options: HandlerFolder.options), "it has other"),
            (.python(folder.path, handler: "other", options: wrong), "no Python interpreter /nowhere/python3"),
        ] {
            let pipeline = Pipeline("missing", of: String.self).model(model, instances: .perNode(1))
            let error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
            #expect(error?.message.contains(text) == true, "\(String(describing: error))")
        }
    }
}
