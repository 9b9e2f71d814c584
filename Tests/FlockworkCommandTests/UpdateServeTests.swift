// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

@Suite("Updates of a cluster's folders", .serialized, .timeLimit(.minutes(2)))
struct UpdateServeTests {
    /// Says of each item what made it, and on which node: each works in its own cache.
    private static func handler(_ version: String) -> String {
        """
        import os
        def loud(items):
            return ['\(version) ' + os.getcwd() for item in items]
        """
    }

    /// Two nodes, of which the second has fetched what it serves.
    private func withTwo(
        hasToken: Bool = true, _ body: (ServedFlock, Inbox<String, String>) async throws -> Void
    ) async throws {
        try await ServedFlock.run(hasToken: hasToken) { flock in
            try Self.handler("first").write(
                toFile: flock.folder + "/shout/handler.py", atomically: true, encoding: .utf8)
            _ = try await flock.begin()
            try await flock.ready(try flock.join(1, 0))
            let client = try await Client.connect(
                to: flock.ports.prefix(2).map { "127.0.0.1:\($0)" }, configuration: flock.client)
            do {
                try await body(flock, try await client.inbox(named: "shout", of: String.self, returning: String.self))
            } catch {
                await client.close()
                throw error
            }
            await client.close()
        }
    }

    /// Callers that ask one thing after the other.
    private final class Load: Sendable {
        private let isOver = Atomic<Bool>(false)
        private let answered = Atomic<Int>(0)
        private let task = Mutex<Task<Set<String>, any Error>?>(nil)

        init(_ inbox: Inbox<String, String>) {
            let task = Task {
                try await withThrowingTaskGroup(of: Set<String>.self) { group in
                    for _ in 0..<8 { group.addTask { try await self.ask(inbox) } }
                    return try await group.reduce(into: Set<String>()) { $0.formUnion($1) }
                }
            }
            self.task.withLock { $0 = task }
        }

        private func ask(_ inbox: Inbox<String, String>) async throws -> Set<String> {
            var seen: Set<String> = []
            while !isOver.load(ordering: .relaxed) {
                seen.insert(try await inbox.ask("x").prefix { $0 != " " }.description)
                answered.add(1, ordering: .relaxed)
            }
            return seen
        }

        /// Returns once a hundred more were answered.
        func goOn() async throws {
            let before = answered.load(ordering: .relaxed)
            try await eventually { answered.load(ordering: .relaxed) > before + 100 }
        }

        /// The versions that were seen, if no request failed.
        func end() async throws -> Set<String> {
            isOver.store(true, ordering: .relaxed)
            return try await task.withLock { $0 }?.value ?? []
        }
    }

    /// The versions of answers of all these nodes, once each has answered.
    private func versions(_ inbox: Inbox<String, String>, on nodes: Int...) async throws -> Set<String> {
        var seen: [String] = []
        try await eventually {
            seen = try await withThrowingTaskGroup(of: String.self) { group in
                for number in 0..<200 { group.addTask { try await inbox.ask("\(number)") } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            return nodes.allSatisfy { node in
                seen.contains { $0.contains("/cache-\(node)/") || (node == 0 && $0.hasSuffix("/shout")) }
            }
        }
        return Set(seen.compactMap { $0.split(separator: " ").first.map(String.init) })
    }

    @Test("all nodes take the new folder while requests go on, none of which fails, and one that joins has it too")
    func underLoad() async throws {
        try await withTwo { flock, inbox in
            #expect(try await versions(inbox, on: 0, 1) == ["first"])
            let load = Load(inbox)
            try await load.goOn()
            let folder = try flock.version("second", Self.handler("second"))
            let (status, output, complaints) = try await flock.operate(1, "update", "shout", folder)
            #expect(status == 0, "\(complaints)")
            #expect(output.hasPrefix("NODE    VERSION\nnode-0  new\nnode-1  new\nNodes that were"), "\(output)")
            try await load.goOn()
            #expect(try await load.end() == ["first", "second"])
            #expect(try await versions(inbox, on: 0, 1) == ["second"])

            let third = try flock.join(2, 0)
            try await flock.ready(third)
            #expect(try await versions(inbox, on: 0, 1, 2) == ["second"])
            #expect(!third.complaints.contains("from other files"), "\(third.complaints)")

            let again = try await flock.operate(0, "update", "shout", flock.folder + "/second", "--json")
            #expect(again.0 == 0 && again.1.contains(#""done":true"#), "\(again)")
            #expect(again.1.components(separatedBy: #""outcome":"unchanged""#).count == 4, "\(again)")
        }
    }

    @Test("a folder that cannot be loaded changes nothing anywhere, and the traceback's last line is shown")
    func broken() async throws {
        try await withTwo { flock, inbox in
            let folder = try flock.version("broken", "import no_such_module\n" + Self.handler("broken"))
            let (status, output, complaints) = try await flock.operate(0, "update", "shout", folder)
            #expect(status == 1 && output == "NODE    VERSION\nnode-0  old\nnode-1  old\n", "\(output)")
            #expect(
                complaints.hasPrefix("flockwork: pythonFailed: nothing has changed; node-0: ")
                    && complaints.hasSuffix("ModuleNotFoundError: No module named 'no_such_module'\n"), "\(complaints)")
            #expect(!complaints.contains("node-1: "), "the others need not try")
            let json = try await flock.operate(1, "update", "shout", folder, "--json")
            #expect(json.0 == 1 && json.1.contains(#""done":false"#) && json.1.contains("no_such_module"), "\(json)")
            let other = try flock.version("other-form", Self.handler("other"), ["flockwork.json": #"{"rows": 3}"#])
            let refused = try await flock.operate(0, "update", "shout", other)
            #expect(refused.0 == 1 && refused.2.contains(#"says "rows": 3, and shout runs with none"#), "\(refused)")
            let unknown = try await flock.operate(0, "update", "whisper", folder)
            #expect(unknown.0 == 1 && unknown.2.contains("there are: shout"), "\(unknown)")
            #expect(try await versions(inbox, on: 0, 1) == ["first"])
        }
    }

    @Test("a node that fails when others have it keeps the old one and is named, and the old folder brings all back")
    func half() async throws {
        try await withTwo { flock, inbox in
            let script = "case $PWD in */cache-1/*) echo no room here; exit 3;; esac\n"
            let folder = try flock.version("half", Self.handler("half"), ["init.sh": script])
            let (status, output, complaints) = try await flock.operate(0, "update", "shout", folder)
            #expect(status == 1 && output == "NODE    VERSION\nnode-0  new\nnode-1  old\n", "\(output)")
            #expect(complaints.contains("not all nodes have the new version; node-1: init.sh of"), "\(complaints)")
            #expect(complaints.hasSuffix("no room here\n"), "\(complaints)")
            #expect(try await versions(inbox, on: 0, 1) == ["first", "half"])
            let back = try await flock.operate(0, "update", "shout", flock.folder + "/shout")
            #expect(back.0 == 0, "\(back)")
            #expect(back.1.hasPrefix("NODE    VERSION\nnode-0  new\nnode-1  new, as before\n"), "\(back)")
            #expect(try await versions(inbox, on: 0, 1) == ["first"])
        }
    }

    @Test("without a token nodes take no code from each other, and a node alone is updated all the same")
    func noToken() async throws {
        try await withTwo(hasToken: false) { flock, inbox in
            let folder = try flock.version("second", Self.handler("second"))
            let (status, output, complaints) = try await flock.operate(0, "update", "shout", folder)
            #expect(status == 1 && output == "NODE    VERSION\nnode-0  old\nnode-1  old\n", "\(output)")
            #expect(complaints.contains("nothing has changed; node-1: ") && complaints.contains("--token-file"))
            #expect(try await versions(inbox, on: 0, 1) == ["first"])
        }
        try await ServedFlock.run { flock in
            try await flock.ready(try flock.serve(0, flock.folder + "/shout", "--handler", "loud"))
            #expect(try await flock.send(to: 0) == "QUIET\nWORDS\n")
            let update = try await flock.operate(0, "update", "shout", flock.folder + "/other/shout")
            #expect(update.0 == 0 && update.1.hasPrefix("NODE    VERSION\nnode-0  new\n"), "\(update)")
            #expect(try await flock.send(to: 0) == "quiet!\nwords!\n")
        }
    }

    @Test("a node that is no flockwork serve says so")
    func otherProgram() async throws {
        try await ServedFlock.run { flock in
            let launcher = try flock.run(
                "launcher",
                ["--bootstrap", "1", "--port", "0", "--cores", "1", "--data-folder", flock.folder + "/data"])
            try await eventually { launcher.output.contains("ready ") || !launcher.isRunning }
            let run = try flock.run(
                "flockwork", ["update", "diagnosis", flock.folder + "/shout", "--admin", flock.folder + "/data"])
            #expect(try await run.end() == 1)
            #expect(run.complaints.contains("serves no folders that can be updated"), "\(run.complaints)")
        }
    }
}
