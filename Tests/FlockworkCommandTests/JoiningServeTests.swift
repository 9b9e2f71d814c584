// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Foundation
import Testing

@Suite("Nodes that join with empty hands", .serialized, .timeLimit(.minutes(2)))
struct JoiningServeTests {
    @Test("one gets the files from the nodes that are there, and gives them to the next")
    func chain() async throws {
        try await ServedFlock.run { flock in
            let first = try await flock.begin()
            let second = try flock.join(1, 0)
            try await flock.ready(second)
            // Nobody has it from there.
            for path in ["/shout", "/cache-0/bundles"] {
                try FileManager.default.removeItem(atPath: flock.folder + path)
            }
            #expect(try await flock.send(to: 1) == "QUIET\nWORDS\n")
            let third = try flock.join(2, 1)
            try await flock.ready(third)
            second.signal(SIGTERM)
            #expect(try await second.end() == 0, "\(second.complaints)")
            #expect(try await flock.send(to: 2) == "QUIET\nWORDS\n")
            // A node has nobody left to hand over to, unless both leave.
            for node in [third, first] { node.signal(SIGTERM) }
            for node in [third, first] { #expect(try await node.end() == 0, "\(node.complaints)") }
        }
    }

    @Test("a second signal ends a node at once that waits for others in vain")
    func secondSignal() async throws {
        try await ServedFlock.run { flock in
            let first = try await flock.begin()
            let second = try flock.join(1, 0)
            try await flock.ready(second)
            // It votes alone: without it nobody is let go.
            first.signal(SIGSTOP)
            try await eventually {
                second.signal(SIGTERM)
                return !second.isRunning
            }
            #expect(try await second.end() == 128 + SIGTERM, "\(second.complaints)")
        }
    }

    @Test("where there is nothing to be had it is one clear line")
    func nothing() async throws {
        try await ServedFlock.run { flock in
            let launcher = try flock.run(
                "launcher", ["--bootstrap", "1", "--port", "\(flock.ports[0])", "--id", "node-0", "--cores", "1"])
            try await eventually { launcher.output.contains("ready ") || !launcher.isRunning }
            let node = try flock.join(1, 0)
            #expect(try await node.end() == 1)
            #expect(node.complaints.contains("serve no models that can be fetched"), "\(node.complaints)")
            launcher.signal(SIGTERM)
            #expect(try await launcher.end() == 0)
        }
    }

    @Test("one that brings other files under the same name says so")
    func others() async throws {
        try await ServedFlock.run { flock in
            _ = try await flock.begin()
            let other = try flock.serve(
                1, flock.folder + "/other/shout", "--handler", "loud", "--join", "127.0.0.1:\(flock.ports[0])")
            try await flock.ready(other)
            try await eventually { other.complaints.contains("from other files") || !other.isRunning }
            #expect(other.complaints.contains("model=shout node=node-0"), "\(other.complaints)")
        }
    }

    @Test("one that is called as another node is refused, whether it brings a folder or not")
    func name() async throws {
        try await ServedFlock.run { flock in
            _ = try await flock.begin()
            let second = try flock.join(1, 0)
            try await flock.ready(second)
            for (name, folder) in [("node-0", []), ("node-1", [flock.folder + "/shout", "--handler", "loud"])] {
                let namesake = try flock.run(
                    "flockwork",
                    ["serve"] + folder + [
                        "--join", "127.0.0.1:\(flock.ports[0])", "--id", name, "--port", "\(flock.ports[2])",
                        "--cache", flock.folder + "/cache-2", "--children", "1", "--python", "/usr/bin/python3",
                    ])
                #expect(try await namesake.end() == 1)
                #expect(namesake.complaints.contains("called \(name) runs already"), "\(namesake.complaints)")
            }
            #expect(try await flock.send(to: 1) == "QUIET\nWORDS\n")
        }
    }

    @Test("flags that a node without a folder cannot have are refused")
    func flags() async throws {
        for (arguments, text) in [
            ([], "gets what a cluster serves: --join"),
            (["--bootstrap", "1"], "begins a cluster has one"),
            (["--join", " , "], "--join is host:port"),
            (["--join", "a:1", "--rows", "3"], "go with a folder"),
            (["--join", "a:1", "--result-bytes", "64"], "go with a folder"),
            (["models/churn", "--data-folder", "d"], "--data-folder goes with"),
        ] {
            try await ServedFlock.run { flock in
                let run = try flock.run("flockwork", ["serve"] + arguments)
                #expect(try await run.end() == 64, "\(arguments)")
                #expect(run.complaints.contains(text), "\(run.complaints)")
            }
        }
    }
}
