// Flockwork · Apache-2.0 · see LICENSE

import Foundation
import Synchronization
import Testing

@testable import Launcher

/// The launcher as a user runs it, from the folder where the tests were built.
final class LauncherRun: Sendable {
    private let process = Process()
    private let input = Pipe()
    private let text = Mutex("")
    private let ready = OneShot<Bool>()
    private let status = OneShot<Int32>()

    convenience init(_ arguments: String..., environment: [String: String] = [:]) throws {
        try self.init(arguments, environment: environment)
    }

    /// With `fileKilobytes` each file that it writes to may grow to that size, as on a disk that is nearly full.
    init(_ arguments: [String], environment: [String: String] = [:], fileKilobytes: Int? = nil) throws {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") }.map { URL(fileURLWithPath: $0) } ?? tests
        let launcher = bundle.deletingLastPathComponent().appending(path: "launcher")
        try #require(FileManager.default.isExecutableFile(atPath: launcher.path), "\(launcher.path)")
        let output = Pipe()
        if let fileKilobytes {
            // A write beyond is an error, not the process's end.
            let script = "trap '' XFSZ; ulimit -f \(fileKilobytes); exec \"$0\" \"$@\""
            process.executableURL = URL(filePath: "/bin/bash")
            process.arguments = ["-c", script, launcher.path] + arguments
        } else {
            process.executableURL = launcher
            process.arguments = arguments
        }
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        let closed = OneShot<Bool>()
        output.fileHandleForReading.readabilityHandler = { [self] handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                closed.set(true)
                return
            }
            let now = text.withLock { text in
                text += String(decoding: data, as: UTF8.self)
                return text
            }
            if now.split(separator: "\n").contains(where: { $0.hasPrefix("ready ") }) { ready.set(true) }
        }
        process.terminationHandler = { [self] process in
            let ended =
                process.terminationReason == .uncaughtSignal
                ? 128 + process.terminationStatus : process.terminationStatus
            Task {
                // A child of another test that was started meanwhile may have inherited the pipe, and hold it open.
                _ = await first(within: .seconds(1)) { await closed.value() }
                ready.set(false)
                status.set(ended)
            }
        }
        try process.run()
    }

    var identifier: Int32 { process.processIdentifier }

    var output: String { text.withLock { $0 } }

    /// True when the process said that it is ready, false when it ended before.
    func isReady() async -> Bool { await ready.value() ?? false }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    func closeInput() throws { try input.fileHandleForWriting.close() }

    func end() async -> Int32 { await status.value() ?? -1 }
}
