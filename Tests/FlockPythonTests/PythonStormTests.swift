// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Testing

// Load, with processes that are killed meanwhile.

@Suite("Python under fire", .timeLimit(.minutes(3)))
struct PythonStormTests {
    @Test("a killed child costs no caller anything, and others answer at once")
    func killed() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return ['r' + x for x in items]\n")
        let pipeline = Pipeline("echo", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), instances: .perNode(1))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            let clock = ContinuousClock()
            let end = clock.now + .seconds(3)
            var slowest: [Duration] = []
            try await withThrowingTaskGroup(of: Duration.self) { group in
                for lane in 0..<16 {
                    group.addTask {
                        var longest = Duration.zero
                        var number = 0
                        while clock.now < end {
                            let text = "\(lane)/\(number)"
                            number += 1
                            let begun = clock.now
                            let answer = try await inbox.ask(text)
                            longest = max(longest, clock.now - begun)
                            #expect(answer == "r" + text)
                        }
                        return longest
                    }
                }
                for _ in 0..<4 {
                    let victim = try await Self.serving(node)
                    kill(victim, SIGKILL)
                    try await eventually { try await Self.ready(node, without: victim) }
                }
                for try await longest in group { slowest.append(longest) }
            }
            print("killed 4 times under load; longest wait of each asker: \(slowest.max() ?? .zero)")
            #expect(try await node.status().failed == 0)
            #expect(try await node.status().children.first?.restarts == 4)
        }
    }

    /// Also one that has done nothing yet: on a slow machine the askers may be done before the last kill.
    private static func serving(_ node: Node) async throws -> Int32 {
        var found: Int32 = 0
        try await eventually {
            found = try await node.status().children.first { $0.state == "serving" && $0.process > 0 }?.process ?? 0
            return found != 0
        }
        return found
    }

    /// One serves and one is spare, both of them others.
    private static func ready(_ node: Node, without victim: Int32) async throws -> Bool {
        let children = try await node.status().children
        return children.contains { $0.state == "serving" } && children.contains { $0.state == "spare" }
            && !children.contains { $0.process == victim }
    }

    @Test("answer i belongs to request i, through kills, exceptions, retries and halving", arguments: [1, 2])
    func belongs(seed: UInt64) async throws {
        let folder = try HandlerFolder(
            """
            import os, time
            def transform_list(items):
                for x in items:
                    if x.startswith('raise'): raise ValueError(x)
                    if x.startswith('die'): os._exit(1)
                time.sleep(0.001)
                return [x + '!' for x in items]
            """)
        let pipeline = Pipeline("storm", of: String.self)
            .model(
                .python(folder.path, options: HandlerFolder.options), batch: .lingering(.milliseconds(5), upTo: 50),
                instances: .perNode(2))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            var random = SeededRandom(seed: seed)
            var wanted: [String] = []
            for index in 0..<3000 {
                let kind = Double.random(in: 0..<1, using: &random)
                wanted.append(kind < 0.001 ? "die-\(index)" : kind < 0.005 ? "raise-\(index)" : "\(index)")
            }
            let items = wanted
            try await withThrowingTaskGroup(of: Int.self) { group in
                for lane in 0..<100 {
                    group.addTask {
                        for index in stride(from: lane, to: items.count, by: 100) {
                            try await Self.ask(items[index], inbox, "seed \(seed)")
                        }
                        return 0
                    }
                }
                group.addTask {
                    var kills = 0
                    for _ in 0..<6 {
                        let victim = try await Self.serving(node)
                        kill(victim, SIGKILL)
                        kills += 1
                        try await eventually { try await !node.status().children.contains { $0.process == victim } }
                    }
                    return kills
                }
                try await group.waitForAll()
            }
        }
    }

    private static func ask(_ item: String, _ inbox: Inbox<String, String>, _ comment: Comment) async throws {
        do {
            let answer = try await inbox.ask(item)
            #expect(answer == item + "!", comment)
            #expect(!item.hasPrefix("die") && !item.hasPrefix("raise"), comment)
        } catch let error as FlockError {
            if item.hasPrefix("raise") {
                #expect(error.code == .pythonFailed && error.message.contains(item), "\(comment): \(error)")
            } else {
                #expect(error.code == .poison && item.hasPrefix("die"), "\(comment) \(item): \(error)")
            }
        }
    }

    @Test(
        "interpreters from 3.11 on load the same extension",
        arguments: ["3.11.7", "3.12.1", "3.13.0"].map { "/root/.pyenv/versions/\($0)/bin/python3" })
    func versions(interpreter: String) async throws {
        guard access(interpreter, X_OK) == 0 else { return print("NOT TESTED: no \(interpreter)") }
        let folder = try HandlerFolder(
            "import sys\ndef transform_list(items):\n    return ['%d.%d' % sys.version_info[:2] for x in items]\n")
        var options = HandlerFolder.options
        options.environment.interpreter = interpreter
        let pipeline = Pipeline("version", of: String.self)
            .model(.python(folder.path, options: options), instances: .perNode(1))
        try await withNode(pipeline) { node in
            let version = try await node.inbox(of: pipeline).ask("x")
            #expect(interpreter.contains(version))
        }
    }
}
