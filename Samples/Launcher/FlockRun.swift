// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import Flockwork
import Foundation

/// What a run in which every request is checked came to.
protocol RunReport {
    var summary: Summary { get }
    /// A line for programs.
    var json: String { get }
}

/// Node processes for one run, and a folder that goes with them. A signal ends both.
struct FlockRun {
    let flock = LocalFlock()
    let signals: Signals
    let terminal = Terminal()
    let folder: URL

    init(_ name: String) {
        signals = Signals { [flock] in flock.killNow() }
        folder = FileManager.default.temporaryDirectory.appending(path: "flockwork-\(name)-\(UUID())")
    }

    /// Has `body` play, stops the nodes, and says what came of it, in `file` too.
    /// - Throws: The exit code, if that or how the nodes ended is not as it should be.
    func report<Report: RunReport>(
        to file: String?, where isRight: (Report) -> Bool, _ body: () async throws -> Report
    ) async throws {
        let played: Result<Report, any Error>
        do {
            played = .success(try await body())
        } catch {
            played = .failure(error)
        }
        let statuses = await flock.stop()
        do { try FileManager.default.removeItem(at: folder) } catch {
            terminal.complain("launcher: \(folder.path) stays: \(error)")
        }
        let report = try played.mapError { error -> any Error in
            terminal.complain("launcher: \(error)")
            return ExitCode.failure
        }.get()
        for line in report.summary.lines(for: terminal) { terminal.line(line) }
        let bad = statuses.filter { $0 != 0 }
        if !bad.isEmpty { terminal.complain("launcher: nodes ended with \(bad)") }
        terminal.line(report.json)
        if let file { try Self.append(report.json, to: file) }
        if let signal = signals.first.peek { throw ExitCode(128 + signal) }
        guard isRight(report), bad.isEmpty else { throw ExitCode.failure }
    }

    private static func append(_ line: String, to path: String) throws {
        if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(fileURLWithPath: path)) }
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.seekToEnd()
        try file.write(contentsOf: Data((line + "\n").utf8))
        try file.close()
    }
}
