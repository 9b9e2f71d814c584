// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Foundation
import Testing

// One after another: a child that starts while another one does may inherit its pipe, which then does not end.
@Suite("Operators' commands", .serialized, .timeLimit(.minutes(2)))
struct OperatorCommandTests {
    /// Three nodes in processes of their own, with a folder for each.
    private func withNodes(_ body: (String) async throws -> Void) async throws {
        let folder = NSTemporaryDirectory() + "flock-\(UInt32.random(in: 0 ... .max))"
        let nodes = try ProgramRun(
            "launcher", ["--nodes", "3", "--port", "0", "--cores", "1", "--data-folder", folder])
        try await eventually { nodes.output.components(separatedBy: "ready node-").count == 4 || !nodes.isRunning }
        try #require(nodes.isRunning, "\(nodes.output) \(nodes.complaints)")
        do {
            try await body(folder)
        } catch {
            nodes.signal(SIGKILL)
            throw error
        }
        nodes.signal(SIGTERM)
        #expect(try await nodes.end() == 0, "\(nodes.complaints)")
        try FileManager.default.removeItem(atPath: folder)
    }

    private func flockwork(_ folder: String?, _ arguments: String...) async throws -> (Int32, String, String) {
        let environment = folder.map { ["FLOCKWORK_ADMIN": $0 + "/node-1"] } ?? [:]
        let run = try ProgramRun("flockwork", arguments, environment: environment)
        let status = try await run.end()
        return (status, run.output, run.complaints)
    }

    private func json(_ line: some StringProtocol) throws -> [String: Any] {
        try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
    }

    @Test("each command does what it says, in words and in JSON, and ends with 0")
    func all() async throws {
        try await withNodes { folder in
            // The last node to come may have no copies yet.
            _ = try await flockwork(folder, "status", "--wait", "30")
            var (status, output, complaints) = try await flockwork(folder, "status", "--over", "0.1", "--partitions")
            #expect(status == 0, "\(complaints)")
            #expect(output.hasPrefix("view ") && output.contains("node-3  up, votes"), "\(output)")
            #expect(output.contains("271 of 271 partitions") && output.contains("node-1 node-2 node-3"), "\(output)")
            #expect(!output.contains("\u{1B}"), "control codes in a file")

            (status, output, _) = try await flockwork(folder, "drain", "node-2")
            #expect(status == 0 && output == "node-2 is drained: it leads nothing and gets no work\n", "\(output)")
            (_, output, _) = try await flockwork(folder, "status", "--json")
            let lines = try output.split(separator: "\n").map { try json($0) }
            let view = try #require(lines.first?["cluster"] as? [String: Any])
            let partitions = try #require(view["partitions"] as? [[String: Any]])
            #expect(lines.count == 3 && !partitions.contains { $0["primary"] as? String == "node-2" })
            (status, output, _) = try await flockwork(folder, "undrain", "node-2", "--json")
            #expect(try status == 0 && json(output)["done"] as? Bool == true)

            (status, _, _) = try await flockwork(folder, "suspend", "diagnosis")
            (_, output, _) = try await flockwork(folder, "pipelines")
            #expect(status == 0 && output.contains("diagnosis  suspended"), "\(output)")
            (status, _, _) = try await flockwork(folder, "resume", "diagnosis")
            (_, output, _) = try await flockwork(folder, "pipelines", "--json")
            #expect(try status == 0 && json(output)["isSuspended"] as? Bool == false, "\(output)")

            (status, output, _) = try await flockwork(folder, "voters")
            #expect(status == 0 && output.contains("2 of 3 decide; 1 more may fail"), "\(output)")
            (status, output, _) = try await flockwork(folder, "status", "--wait", "30")
            #expect(status == 0 && output.hasPrefix("view "), "\(output)")
            (status, output, complaints) = try await flockwork(folder, "leave", "node-3")
            #expect(status == 0 && output.hasPrefix("node-3 has handed over"), "\(complaints)")
            (status, output, _) = try await flockwork(folder, "voters", "--json")
            #expect(try json(output)["survivesNow"] as? Int == 0, "\(output)")
        }
    }

    @Test("a node is drained, taken back and told to leave under load, and no request is lost or failed")
    func underLoad() async throws {
        let folder = NSTemporaryDirectory() + "flock-\(UInt32.random(in: 0 ... .max))"
        let demo = try ProgramRun(
            "launcher", ["demo", "--requests", "1500000", "--nodes", "4", "--cores", "1", "--admin", folder])
        let admin = ["--admin", folder + "/node-1.sock"]
        try await eventually { demo.output.contains("ready node-4") || !demo.isRunning }
        for order in [["status", "--wait", "30"], ["drain", "node-2"], ["undrain", "node-2"], ["leave", "node-4"]] {
            let run = try ProgramRun("flockwork", order + admin)
            #expect(try await run.end() == 0, "\(order): \(run.complaints)")
        }
        #expect(demo.isRunning, "the requests were over before the orders")
        #expect(try await demo.end() == 0, "\(demo.output) \(demo.complaints)")
        #expect(demo.output.contains("lost        0") && demo.output.contains("1,500,000 values"), "\(demo.output)")
        #expect(demo.output.contains("doubled     0") && demo.output.contains("0 failures"))
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test("a rolling restart as Docs/OPERATIONS.md has it: each node leaves, comes back, and is waited for")
    func rollingRestart() async throws {
        let folder = NSTemporaryDirectory() + "flock-\(UInt32.random(in: 0 ... .max))"
        let ports = try FreePorts.find(3)
        let join = ports.map { "127.0.0.1:\($0)" }.joined(separator: ",")
        func start(_ place: Int) throws -> ProgramRun {
            try ProgramRun(
                "launcher",
                [
                    "--bootstrap", "3", "--join", join, "--id", "n\(place)", "--port", "\(ports[place])",
                    "--cores", "1", "--data-folder", "\(folder)/n\(place)",
                ])
        }
        /// Nobody has said that the node is ready, or that its socket is there.
        func wait(_ place: Int) async throws {
            let wait = try ProgramRun(
                "flockwork", ["status", "--wait", "60", "--json", "--admin", "\(folder)/n\(place)"])
            #expect(try await wait.end() == 0, "\(wait.complaints)")
            let nodes = try wait.output.split(separator: "\n").map { try json($0)["node"] as? String }
            #expect(nodes == ["n0", "n1", "n2"], "\(wait.output)")
        }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        var nodes = try (0..<3).map(start)
        defer { for node in nodes where node.isRunning { node.signal(SIGKILL) } }
        try await wait(0)
        for place in 0..<3 {
            let leave = try ProgramRun("flockwork", ["leave", "n\(place)", "--admin", "\(folder)/n\(place)"])
            #expect(try await leave.end() == 0, "\(leave.complaints)")
            #expect(try await nodes[place].end() == 0, "\(nodes[place].complaints)")
            nodes[place] = try start(place)
            try await wait(place)
        }
        for node in nodes { node.signal(SIGTERM) }
        for node in nodes {
            #expect(try await node.end() == 0, "\(node.complaints)")
            #expect(!node.complaints.contains("disk refuses"), "\(node.complaints)")
        }
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test("what cannot be done ends with 1 and says why; a wrong command line ends with 64")
    func wrong() async throws {
        try await withNodes { folder in
            for (arguments, text) in [
                (["drain", "nobody"], "the members are node-1, node-2, node-3"),
                (["leave", "nobody"], "the members are node-1, node-2, node-3"),
                (["voters", "add", "node-1"], "voter already"),
                (["voters", "remove", "nobody"], "the voters are node-1, node-2, node-3"),
                (["voters", "replace", "nobody", "node-1"], "the voters are node-1, node-2, node-3"),
                (["suspend", "nothing"], "the nodes run diagnosis"),
                (["accept-loss", "3"], "nothing of p3 is lost: node-1"),
                (["accept-loss", "5000"], "there is no p5000"),
            ] {
                let run = try ProgramRun("flockwork", arguments + ["--json", "--admin", folder + "/node-2"])
                #expect(try await run.end() == 1, "\(arguments)")
                #expect(run.complaints.hasPrefix("flockwork: ") && run.complaints.contains(text), "\(run.complaints)")
                let report = try json(run.output)
                #expect(report["done"] as? Bool == false && (report["error"] as? String)?.contains(text) == true)
            }
            let (status, output, _) = try await flockwork(folder, "accept-loss", "--all")
            #expect(status == 0 && output.contains("nothing is lost"), "\(output)")
            for arguments in [
                ["drain"], ["voters", "replace", "a"], ["leave", "a", "b"], ["drain", "a", "--force"], ["accept-loss"],
                ["accept-loss", "1", "--all"],
            ] {
                let run = try ProgramRun("flockwork", arguments)
                #expect(try await run.end() == 64, "\(arguments)")
            }
        }
        let (status, _, complaints) = try await flockwork(nil, "drain", "a")
        #expect(status == 1 && complaints.contains("Give --admin"), "\(complaints)")
        let (missing, _, why) = try await flockwork(nil, "leave", "a", "--admin", "/nowhere")
        #expect(missing == 1 && why.contains("there is no admin socket at /nowhere"), "\(why)")
    }

    @Test("status goes on as it is watched, a line for each node, and ends with 0 on Ctrl-C")
    func watch() async throws {
        try await withNodes { folder in
            let run = try ProgramRun(
                "flockwork", ["status", "--watch", "--over", "0.2", "--admin", folder + "/node-3"])
            try await eventually { run.output.components(separatedBy: "every 0.2 s").count > 3 }
            run.signal(SIGINT)
            #expect(try await run.end() == 0, "\(run.complaints)")
            #expect(run.output.contains("node-1  up, votes") && !run.output.contains("\u{1B}"))
        }
    }

    @Test("another user of the machine may not", .enabled(if: geteuid() == 0, "only root can become somebody else"))
    func otherUser() async throws {
        try await withNodes { folder in
            // Others can reach the socket's name, not open it.
            for path in [folder, folder + "/node-1"] { #expect(chmod(path, 0o755) == 0) }
            let run = try ProgramRun(
                "flockwork", ["drain", "node-1", "--admin", folder + "/node-1"],
                by: ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
            #expect(try await run.end() == 1)
            #expect(run.complaints.contains("only be opened by the user that the node runs as"), "\(run.complaints)")
        }
    }
}
