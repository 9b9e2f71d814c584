// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Synchronization

@testable import FlockPython

/// A folder with a `handler.py`, removed with this object.
final class HandlerFolder: Sendable {
    let path: String

    init(_ code: String) throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("handler-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try code.write(toFile: path + "/handler.py", atomically: true, encoding: .utf8)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// With the interpreter that `FLOCKWORK_TEST_PYTHON` names, else the system's.
    static var options: PythonModel.Options {
        var options = PythonModel.Options()
        options.environment.interpreter =
            ProcessInfo.processInfo.environment["FLOCKWORK_TEST_PYTHON"] ?? "/usr/bin/python3"
        return options
    }

    /// Whether the interpreter of the tests has NumPy. Says so if not: tests of arrays do not run then.
    static let hasNumPy: Bool = {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: options.environment.interpreter)
        process.arguments = ["-c", "import numpy"]
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch { return false }
        process.waitUntilExit()
        if process.terminationStatus != 0 {
            print("NOT TESTED: arrays, for \(options.environment.interpreter) has no NumPy (apt: python3-numpy)")
        }
        return process.terminationStatus == 0
    }()
}

/// What a worker did.
final class WorkerEvents: Sendable {
    private let all = Mutex<[ProcessEvent]>([])

    func add(_ event: ProcessEvent) { all.withLock { $0.append(event) } }

    var exit: ProcessExit? {
        all.withLock { $0.compactMap { if case .exited(let exit) = $0 { exit } else { nil } }.first }
    }
    var lines: [String] { all.withLock { $0.compactMap { if case .line(let line, _) = $0 { line } else { nil } } } }
    var pongs: [Pong] { all.withLock { $0.compactMap { if case .pong(let pong) = $0 { pong } else { nil } } } }
}
