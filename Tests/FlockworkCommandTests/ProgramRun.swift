// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Foundation
import Synchronization
import Testing

/// A program of this package as a user runs it, from the folder where the tests were built.
final class ProgramRun: Sendable {
    private let process = Process()
    private let out = Mutex("")
    private let errors = Mutex("")
    /// Pipes that have ended.
    private let closed = Atomic(0)

    /// `by`: a program that runs it, with that program's arguments.
    init(_ name: String, _ arguments: [String], environment: [String: String] = [:], by runner: [String] = []) throws {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") }.map { URL(fileURLWithPath: $0) } ?? tests
        let program = bundle.deletingLastPathComponent().appending(path: name)
        try #require(FileManager.default.isExecutableFile(atPath: program.path), "\(program.path)")
        let command = runner + [program.path] + arguments
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        var all = ProcessInfo.processInfo.environment
        all["FLOCKWORK_ADMIN"] = nil
        process.environment = all.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = collect { text in self.out.withLock { $0 += text } }
        process.standardError = collect { text in self.errors.withLock { $0 += text } }
        try process.run()
    }

    private func collect(_ take: @escaping @Sendable (String) -> Void) -> Pipe {
        let pipe = Pipe()
        pipe.fileHandleForReading.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                self.closed.add(1, ordering: .releasing)
            } else {
                take(String(decoding: data, as: UTF8.self))
            }
        }
        return pipe
    }

    var output: String { out.withLock { $0 } }
    var complaints: String { errors.withLock { $0 } }
    var isRunning: Bool { process.isRunning }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Its status, once it has ended.
    func end() async throws -> Int32 {
        // What it wrote last may still be on its way through the pipes.
        try await eventually { !process.isRunning && closed.load(ordering: .acquiring) == 2 }
        return process.terminationStatus
    }
}
