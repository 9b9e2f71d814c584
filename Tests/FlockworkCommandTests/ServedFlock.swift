// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

/// Nodes in processes of their own, in a folder that goes with them.
final class ServedFlock: Sendable {
    let folder = NSTemporaryDirectory() + "flock-serve-\(UInt32.random(in: 0 ... .max))"
    let ports: [Int]
    private let nodes = Mutex<[ProgramRun]>([])

    /// What all nodes, and callers, are told besides.
    private let common: [String]

    init(hasToken: Bool = false) throws {
        common = hasToken ? ["--token-file", folder + "/token"] : []
        ports = try FreePorts.find(3)
        for name in ["", "/shout", "/other", "/other/shout"] { try #require(mkdir(folder + name, 0o700) == 0) }
        try write("/shout", "def loud(items):\n    return [item.upper() for item in items]\n")
        try write("/other/shout", "def loud(items):\n    return [item + '!' for item in items]\n")
        guard hasToken else { return }
        let token = String((0..<32).map { _ in "abcdefghijklmnop".randomElement() ?? "a" })
        try #require(
            FileManager.default.createFile(
                atPath: folder + "/token", contents: Data(token.utf8), attributes: [.posixPermissions: 0o600]))
    }

    private func write(_ path: String, _ handler: String) throws {
        try handler.write(toFile: folder + path + "/handler.py", atomically: true, encoding: .utf8)
    }

    /// Runs `body` with nodes that it starts.
    static func run(hasToken: Bool = false, _ body: (ServedFlock) async throws -> Void) async throws {
        let flock = try ServedFlock(hasToken: hasToken)
        do {
            try await body(flock)
        } catch {
            try flock.end()
            throw error
        }
        try flock.end()
    }

    /// What a client in this process is told.
    var client: ClientConfiguration {
        var configuration = ClientConfiguration()
        configuration.tokenFile = common.last
        return configuration
    }

    /// Another version: a folder of this name.
    func version(_ name: String, _ handler: String, _ others: [String: String] = [:]) throws -> String {
        let path = "\(folder)/\(name)"
        try #require(mkdir(path, 0o700) == 0)
        try write("/" + name, handler)
        for (file, text) in others {
            try text.write(toFile: "\(path)/\(file)", atomically: true, encoding: .utf8)
        }
        return path
    }

    func admin(_ number: Int) -> String { "\(folder)/\(number).sock" }

    /// Has an operator's command run: its status, what it says, and what it complains of.
    func operate(_ number: Int, _ arguments: String...) async throws -> (Int32, String, String) {
        let run = try run("flockwork", arguments + ["--admin", admin(number)])
        return (try await run.end(), run.output, run.complaints)
    }

    /// Whatever happened: no process is left.
    func end() throws {
        for node in nodes.withLock({ $0 }) where node.isRunning { node.signal(SIGKILL) }
        try FileManager.default.removeItem(atPath: folder)
    }

    func run(_ program: String, _ arguments: [String]) throws -> ProgramRun {
        let run = try ProgramRun(program, arguments)
        nodes.withLock { $0.append(run) }
        return run
    }

    /// Node `number`, which keeps what it makes and gets in a folder of its own.
    func serve(_ number: Int, _ arguments: String...) throws -> ProgramRun {
        try run(
            "flockwork",
            ["serve"] + arguments + [
                "--id", "node-\(number)", "--port", "\(ports[number])", "--cache", "\(folder)/cache-\(number)",
                "--children", "1", "--python", "/usr/bin/python3", "--admin", admin(number),
            ] + common)
    }

    func join(_ number: Int, _ other: Int) throws -> ProgramRun {
        try serve(number, "--join", "127.0.0.1:\(ports[other])")
    }

    func begin() async throws -> ProgramRun {
        let first = try serve(0, folder + "/shout", "--handler", "loud", "--bootstrap", "1")
        try await ready(first)
        return first
    }

    func ready(_ node: ProgramRun) async throws {
        try await eventually { node.output.hasPrefix("ready ") || !node.isRunning }
        try #require(node.isRunning, "\(node.complaints)")
        #expect(node.output.hasSuffix("· shout (text -> text)\n"), "\(node.output)")
    }

    func send(to number: Int) async throws -> String {
        let lines = folder + "/lines.txt"
        try "quiet\nwords\n".write(toFile: lines, atomically: true, encoding: .utf8)
        let send = try run("flockwork", ["send", "shout", lines, "--to", "127.0.0.1:\(ports[number])"] + common)
        let status = try await send.end()
        return status == 0 ? send.output : send.complaints
    }
}
