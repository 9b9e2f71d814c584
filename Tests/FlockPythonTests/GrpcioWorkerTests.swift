// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Logging
import Testing

@testable import FlockGRPC
@testable import FlockPython

// The worker in plain Python over the real package grpcio (`make libs-python`, or FLOCKWORK_TEST_GRPCIO).

@Suite("Python worker on grpcio", .timeLimit(.minutes(3)))
struct GrpcioWorkerTests {
    private static let interpreter: String? = {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path =
            ProcessInfo.processInfo.environment["FLOCKWORK_TEST_GRPCIO"]
            ?? root.appendingPathComponent(".venv-python/bin/python3").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = ["-c", "import grpc, numpy"]
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch { return missing(path) }
        process.waitUntilExit()
        return process.terminationStatus == 0 ? path : missing(path)
    }()

    private static func missing(_ path: String) -> String? {
        print("NOT TESTED: the worker on grpcio, for \(path) has no grpcio or no NumPy (make libs-python)")
        return nil
    }

    private static var hasGrpcio: Bool { interpreter != nil }

    private static var options: PythonModel.Options {
        var options = PythonModel.Options()
        options.environment.interpreter = interpreter ?? "python3"
        options.worker = .grpcio
        return options
    }

    // MARK: What goes there and back

    @Test("strings, bytes and long lists go there and back, in order", .enabled(if: hasGrpcio))
    func lists() async throws {
        try await withWorker("def score(items):\n    return tuple(x + x[:1] for x in items)\n") { worker in
            for round in 1..<40 {
                let texts = (0..<round * 10).map { "\(round)/\($0) ü" } + [""]
                worker.send(WorkerRequest.batch(sequence: UInt64(round) << 40, .strings(texts)))
                let long = Bytes((0..<round * 5000).map { UInt8(truncatingIfNeeded: $0) })
                worker.send(WorkerRequest.batch(sequence: UInt64(round), .byteStrings([long, Bytes("x")])))
                let first = try #require(try await worker.receive())
                #expect(first.sequence == UInt64(round) << 40)
                #expect(try first.items(texts.count) == .strings(texts.map { $0 + $0.prefix(1) }))
                let second = try #require(try await worker.receive())
                #expect(try second.items(2) == .byteStrings([Bytes(long.array + [0]), Bytes("xx")]))
            }
        }
    }

    @Test(
        "an array is written to in place and comes back, whatever its numbers are", .enabled(if: hasGrpcio),
        arguments: ["float32", "float64", "int32", "int64", "uint8", "bool", "float16"])
    func arrays(type: String) async throws {
        let code = "def score(x):\n    x *= 2\n    return x.astype('\(type)')\n"
        try await withWorker(code, .array) { worker in
            let rows = Rows<Float>(count: 5, width: 3) { elements in
                for index in elements.indices { elements[index] = Float(index) }
            }
            worker.send(WorkerRequest.batch(sequence: 3, .array(Tensor(rows))))
            let answer = try #require(try await worker.receive())
            guard case .array(let tensor)? = try answer.items(5) else {
                Issue.record("no array")
                return
            }
            let expected = ["bool": "uint8", "float16": "float64"][type] ?? type
            #expect("\(tensor.dataType)" == expected && tensor.shape == [5, 3])
            #expect(tensor.bytes.count == 15 * (["float32": 4, "int32": 4, "uint8": 1][expected] ?? 8))
            if expected == "float32" {
                #expect(tensor.withElements(of: Float.self) { Array($0) } == (0..<15).map { Float(2 * $0) })
            }
        }
    }

    @Test("a pong tells which batch is in work, while the handler sleeps", .enabled(if: hasGrpcio))
    func pong() async throws {
        let held = HeldBatch()
        try await withWorker(held.code, events: held.events) { try await held.isNamedByPongs(of: $0) }
    }

    @Test("a library that cannot be loaded is replaced by grpcio", .enabled(if: hasGrpcio))
    func fallsBack() async throws {
        let folder = try HandlerFolder("x = 1\n")
        try "no library".write(toFile: folder.path + "/no.so", atomically: true, encoding: .utf8)
        try await withWorker("def score(items):\n    return items\n", library: folder.path + "/no.so") { worker in
            worker.send(WorkerRequest.batch(sequence: 1, .strings(["a"])))
            let answer = try await worker.receive()
            #expect(try answer?.items(1) == .strings(["a"]))
        }
    }

    // MARK: Failures

    @Test(
        "one item that goes wrong has its outcome, and the others theirs", .enabled(if: hasGrpcio),
        arguments: [
            ("raise ValueError('no')", FlockError.Code.pythonFailed, "ValueError: no"),
            ("return items[1:]", .pythonFailed, "0 results for 1 items"),
            ("return None", .pythonFailed, "TypeError"),
            ("return ['a', 1][:len(items)] if len(items) > 1 else [object()]", .pythonFailed, "TypeError"),
            ("return [b'bytes' for x in items]", .badBatch, "list of bytes"),
            ("os._exit(7)", .poison, "exited with code 7"),
            ("sys.exit(3)", .poison, "exited with code 3"),
            ("ctypes.string_at(0)", .poison, "crashed"),
            ("os.kill(os.getpid(), signal.SIGKILL)", .poison, "was killed"),
            ("time.sleep(1000)", .poison, "took too long"),
        ])
    func failures(bad: String, code: FlockError.Code, text: String) async throws {
        let folder = try HandlerFolder(
            """
            import os, sys, time, ctypes, signal
            def transform_list(items):
                if 'bad' in items:
                    \(bad)
                return ['ok-' + x for x in items]
            """)
        var options = Self.options
        options.batchTime = .seconds(1)
        let pipeline = Pipeline("failing", of: String.self).model(
            .python(folder.path, options: options), batch: .lingering(.milliseconds(50), upTo: 64),
            instances: .perNode(1))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<20 {
                    group.addTask {
                        let answer = try await inbox.ask("\(index)")
                        #expect(answer == "ok-\(index)")
                    }
                }
                group.addTask {
                    let error = await #expect(throws: FlockError.self) { try await inbox.ask("bad") }
                    #expect(error?.code == code, "\(String(describing: error))")
                    #expect(error?.message.contains(text) == true, "\(String(describing: error))")
                }
                try await group.waitForAll()
            }
            #expect(try await inbox.ask("after") == "ok-after")
        }
    }

    @Test("a handler that cannot be imported is the start's error, with its traceback", .enabled(if: hasGrpcio))
    func importError() async throws {
        let folder = try HandlerFolder("import no_such_module\n")
        let pipeline = Pipeline("none", of: String.self).model(.python(folder.path, options: Self.options))
        let logs = LogCapture()
        let error = await #expect(throws: FlockError.self) { try await withNode(pipeline, logs: logs) { _ in } }
        #expect(error?.message.contains("ModuleNotFoundError: No module named 'no_such_module'") == true)
        #expect(logs.entries.contains { $0.metadata["traceback"]?.description.contains("handler.py") == true })
    }

    @Test("without grpcio the start's error says what to install, and for which interpreter")
    func noGrpcio() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return items\n")
        var options = PythonModel.Options()
        options.environment.interpreter = "/usr/bin/python3"
        // Also where the system has one.
        options.environment.variables["PYTHONPATH"] = folder.path + "/first"
        try FileManager.default.createDirectory(atPath: folder.path + "/first/grpc", withIntermediateDirectories: true)
        try "raise ModuleNotFoundError(\"No module named 'grpc'\", name='grpc')".write(
            toFile: folder.path + "/first/grpc/__init__.py", atomically: true, encoding: .utf8)
        options.worker = .grpcio
        let pipeline = Pipeline("none", of: String.self).model(.python(folder.path, options: options))
        let error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
        // The command shows the first line.
        let line = error?.message.prefix { $0 != "\n" } ?? ""
        #expect(line.contains("with code 1 before it was ready: Worker processes of /usr/bin/python3"), "\(line)")
        #expect(line.contains("run without libflockpython.so") && line.contains("python3 -m pip install grpcio"))
    }

    // MARK: Which worker

    @Test("an interpreter before 3.11 is served by grpcio, unless the library is asked for: then it is refused by name")
    func oldInterpreter() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return items\n")
        let script = folder.path + "/python3.10"
        try "#!/bin/sh\n/usr/bin/python3 \"$@\" | sed 's/^3[.][0-9.]* cpython$/3.10.4 cpython/'\n".write(
            toFile: script, atomically: true, encoding: .utf8)
        try #require(chmod(script, 0o700) == 0)
        var options = PythonModel.Options()
        options.environment.interpreter = script
        let log = Logger(label: "test")
        func program() async throws -> WorkerProgram {
            try await ModelInstallation(.python(folder.path, options: options), .strings, log: log).program
        }
        let chosen = try await program()
        #expect(chosen.extensionPath == nil && chosen.mayFallBack)
        options.worker = .library
        let error = await #expect(throws: FlockError.self) { try await program() }
        #expect(error?.message.contains("is cpython 3.10.4") == true, "\(String(describing: error))")
        #expect(error?.message.contains("CPython 3.11 or newer") == true)
        options.environment.interpreter = "/usr/bin/python3"
        let library = try await program()
        #expect(library.extensionPath != nil && !library.mayFallBack)
    }

    private func withWorker(
        _ code: String, _ form: PythonForm = .strings, library: String? = nil, events: WorkerEvents = WorkerEvents(),
        _ body: (PythonWorker) async throws -> Void
    ) async throws {
        try await withPythonWorker(
            code, form, options: Self.options, events: events,
            prepare: { program in
                #expect(program.extensionPath == nil)
                program.extensionPath = library
            }, body)
    }
}
