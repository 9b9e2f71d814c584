// Flockwork · Apache-2.0 · see LICENSE

import Foundation

/// This program again, as a node. It ends with us: its standard input is a pipe that closes when we do.
final class ChildProcess {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private let arguments: [String]
    private(set) var port = 0
    var address: String { "127.0.0.1:\(port)" }
    var id: Int32 { process.processIdentifier }

    /// Starts `flockbench ARGUMENTS…` and waits for its line `ready PORT`.
    convenience init(_ arguments: [String]) throws {
        try self.init(starting: arguments)
        try waitUntilReady()
    }

    /// Starts it and does not wait, since several wait for each other.
    init(starting arguments: [String]) throws {
        self.arguments = arguments
        process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        try process.run()
    }

    func waitUntilReady() throws {
        var line = Data()
        while true {
            // One byte at a time, since nothing else is ever said on this pipe.
            guard let byte = try output.fileHandleForReading.read(upToCount: 1), !byte.isEmpty else {
                stop()
                throw BenchmarkError("the child process \(arguments) ended before it was ready")
            }
            if byte.first == UInt8(ascii: "\n") { break }
            line.append(byte)
        }
        let words = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard words.count == 2, words[0] == "ready", let port = Int(words[1]) else {
            stop()
            throw BenchmarkError("the child process said: \(String(decoding: line, as: UTF8.self))")
        }
        self.port = port
    }

    /// Ends the process by its id: SIGTERM, and SIGKILL if that did not help within 3 s.
    func stop() {
        guard process.isRunning else { return }
        let id = id
        process.terminate()
        let killer = DispatchWorkItem { kill(id, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: .now() + 3, execute: killer)
        process.waitUntilExit()
        killer.cancel()
    }

    /// In the child: goes on until the parent ends it, or is gone.
    static func waitForTheEnd() async throws {
        while true { try await Task.sleep(for: .seconds(3600)) }
    }

    /// In the child: says that it is ready, and ends the process when the parent is gone.
    static func isReady(port: Int) {
        print("ready \(port)")
        fflush(nil)
        Thread {
            while let data = try? FileHandle.standardInput.read(upToCount: 1), !data.isEmpty {}  // either way: it ended
            exit(0)
        }.start()
    }
}
