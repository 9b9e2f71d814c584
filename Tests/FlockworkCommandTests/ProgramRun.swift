// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Foundation
import Testing

/// A program of this package as a user runs it, from the folder where the tests were built.
final class ProgramRun: Sendable {
    private let process = Process()
    private let out = NSTemporaryDirectory() + "flock-out-\(UUID())"
    private let errors = NSTemporaryDirectory() + "flock-err-\(UUID())"

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
        // Files, not pipes: one that another child has inherited would not end.
        for file in [out, errors] { #expect(FileManager.default.createFile(atPath: file, contents: nil)) }
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: out))
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
        try process.run()
    }

    deinit {
        unlink(out)
        unlink(errors)
    }

    var output: String { Self.text(out) }
    var complaints: String { Self.text(errors) }

    private static func text(_ path: String) -> String {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    var isRunning: Bool { process.isRunning }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Its status, once it has ended.
    func end() async throws -> Int32 {
        try await eventually { !process.isRunning }
        return process.terminationStatus
    }
}
