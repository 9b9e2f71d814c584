// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Testing

@testable import Launcher

private typealias Run = LauncherRun

// One after another: a child that starts while another one does may inherit its pipe, which then does not end.
@Suite(.serialized, .timeLimit(.minutes(2))) struct LauncherProcessTests {
    @Test("the demo answers every request once and right, and leaves no node behind")
    func demo() async throws {
        let run = try Run("demo", "--requests", "5000", "--nodes", "3", "--cores", "1")
        let status = await run.end()
        try #require(status == 0, "\(run.output)")
        #expect(run.output.contains("5,000 values · 0 filtered · 0 failures"))
        #expect(run.output.contains("✔ every request was answered once"))
        let ports = run.output.matches(of: /ready node-\d on 127.0.0.1:(\d+)/).compactMap { Int($0.output.1) }
        #expect(ports.count == 3)
        for port in ports { #expect(!isListening(port), "a node still listens on \(port)") }
    }

    @Test("a node joins, one is killed and one leaves while the demo runs, and nothing is lost or doubled")
    func demoChanges() async throws {
        let run = try Run("demo", "--changes", "--requests", "100000", "--nodes", "3", "--cores", "1")
        try #require(await run.end() == 0, "\(run.output)")
        #expect(run.output.contains("100,000 values · 0 filtered · 0 failures"))
        #expect(run.output.contains("lost        0") && run.output.contains("doubled     0"))
        let times = run.output.firstMatch(of: /kill -9 +noticed after [0-9.]+ .?s · gap [0-9.]+ .?s/)
        #expect(times != nil, "\(run.output)")
    }

    @Test("a soak kills two nodes, starts them again, and says in its last line that nothing was lost or doubled")
    func soak() async throws {
        let run = try Run("soak", "--kills", "2", "--seed", "3", "--rate", "500", "--cores", "1")
        try #require(await run.end() == 0, "\(run.output)")
        #expect(run.output.contains("node-6 joined") && run.output.contains("node-6 left"), "\(run.output)")
        let last = try #require(run.output.split(separator: "\n").last)
        let figures = try #require(JSONSerialization.jsonObject(with: Data(last.utf8)) as? [String: Any])
        for name in ["lost", "doubled", "wrong", "failed"] { #expect(figures[name] as? Int == 0, "\(last)") }
        #expect(figures["kills"] as? Int == 2 && figures["seed"] as? Int == 3)
        let detected = try #require(figures["detect_p99_ms"] as? Double)
        #expect(detected > 0 && detected < 60_000)
    }

    @Test("the demo shows the table of metrics, as plain lines when it is not on a terminal")
    func demoMetrics() async throws {
        let run = try Run("demo", "--metrics", "--requests", "5000", "--nodes", "2", "--cores", "1")
        try #require(await run.end() == 0, "\(run.output)")
        #expect(run.output.contains("done/s") && run.output.contains("items/s"))
        #expect(!run.output.contains("\u{1B}"), "control codes in a file")
    }

    @Test(
        "a node drains and ends with 0 on SIGTERM, on Ctrl-C and when its parent is gone",
        arguments: [SIGTERM, SIGINT, 0])
    func drains(signal: Int32) async throws {
        let run = try Run("--port", "0", "--cores", "1", "--follow-parent")
        try #require(await run.isReady(), "\(run.output)")
        if signal == 0 { try run.closeInput() } else { run.signal(signal) }
        #expect(await run.end() == 0, "\(run.output)")
    }

    @Test("several nodes are stopped together, and end with 0")
    func several() async throws {
        let run = try Run("--nodes", "2", "--port", "0", "--cores", "1")
        try #require(await run.isReady(), "\(run.output)")
        run.signal(SIGTERM)
        #expect(await run.end() == 0, "\(run.output)")
    }

    @Test("a port in use is named, and ends with 1")
    func portInUse() async throws {
        let first = try Run("--port", "0", "--cores", "1", "--follow-parent")
        try #require(await first.isReady(), "\(first.output)")
        let port = try #require(first.output.firstMatch(of: /127.0.0.1:(\d+)/)?.output.1)
        let second = try Run("--port", String(port), "--cores", "1")
        #expect(await second.end() == 1)
        #expect(second.output.contains("127.0.0.1:\(port)") && second.output.contains("in use"), "\(second.output)")
        first.signal(SIGTERM)
        #expect(await first.end() == 0)
    }

    @Test("the demo fails when the nodes' model is not scikit-learn's")
    func otherModel() async throws {
        let data = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../Samples/BreastCancer/Data")
        let copy = FileManager.default.temporaryDirectory.appending(path: "data-\(UUID())")
        try FileManager.default.copyItem(at: data.standardizedFileURL, to: copy)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: copy) } }
        let model = copy.appending(path: "model.json")
        let text = try String(contentsOf: model, encoding: .utf8)
        let weight = try #require(text.firstMatch(of: /-0\.36309/)).range
        try Data(text.replacingCharacters(in: weight, with: "-0.36409").utf8).write(to: model)
        let run = try Run(
            "demo", "--requests", "2000", "--nodes", "2", "--cores", "1",
            environment: ["FLOCKWORK_SAMPLE_DATA": copy.path])
        #expect(await run.end() == 1)
        #expect(run.output.contains("✘ the run is not right") && !run.output.contains("wrong       0"), "\(run.output)")
    }

    @Test("a value that cannot be is refused with 64 before anything starts")
    func usage() async throws {
        let run = try Run("demo", "--window", "1000")
        #expect(await run.end() == 64)
        #expect(run.output.contains("power of two"), "\(run.output)")
    }

    private func isListening(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}

/// What a process holds now.
private struct Holdings {
    let descriptors: Int
    let residentKiB: Int

    init(of process: Int32) throws {
        descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count
        let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        let line = try #require(status.firstMatch(of: /VmRSS:\s+(\d+) kB/))
        residentKiB = try #require(Int(line.output.1))
    }
}

extension LauncherProcessTests {
    @Test("10,000 connections that come, say half a handshake or nonsense, and go leave nothing behind")
    func leaks() async throws {
        let run = try Run("--port", "0", "--cores", "1", "--follow-parent")
        try #require(await run.isReady(), "\(run.output)")
        let port = try #require(run.output.firstMatch(of: /127.0.0.1:(\d+)/).flatMap { UInt16($0.output.1) })
        let atStart = try Holdings(of: run.identifier).descriptors
        // The first ones fill pools and caches.
        try await strangers(3000, port: port, of: run, rest: atStart)
        let before = try Holdings(of: run.identifier)
        try await strangers(10_000, port: port, of: run, rest: atStart)
        let after = try Holdings(of: run.identifier)
        print("10,000 strangers: \(before) before, \(after) after")
        // 512 bytes a connection: a forgotten stream would be several times that.
        #expect(after.residentKiB - before.residentKiB < 5120)
        run.signal(SIGTERM)
        #expect(await run.end() == 0, "\(run.output)")
    }

    /// In groups: how many are there at once would decide how much memory the node has taken.
    private func strangers(_ count: Int, port: UInt16, of run: Run, rest: Int) async throws {
        for first in stride(from: 0, to: count, by: 50) {
            for number in first..<min(first + 50, count) { try stranger(number, port: port) }
            try await eventually { try Holdings(of: run.identifier).descriptors == rest }
        }
    }

    private func stranger(_ number: Int, port: UInt16) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port.bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let isConnected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        try #require(isConnected, "connection \(number): \(errno)")
        // Nothing, the beginning of a frame, a whole hello of another cluster, or garbage.
        var hello: [UInt8] = [0x46, 0x4B, 1, 1, 0, 0, 0, 0, 64, 0, 0, 0]
        switch number % 4 {
        case 0: return
        case 1: hello.removeLast(4)
        case 2: hello += [UInt8](repeating: 7, count: 68)
        default: hello = Array("GET / HTTP/1.1\r\n\r\n".utf8)
        }
        _ = send(descriptor, hello, hello.count, Int32(MSG_NOSIGNAL))
        if number % 64 == 2 {
            var answer = [UInt8](repeating: 0, count: 256)
            var limit = timeval(tv_sec: 0, tv_usec: 1000)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            _ = recv(descriptor, &answer, answer.count, 0)
        }
    }
}
