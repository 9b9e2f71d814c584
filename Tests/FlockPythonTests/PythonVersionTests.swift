// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Foundation
import Synchronization
import Testing

@testable import FlockPython
@testable import Flockwork

@Suite("Python versions", .timeLimit(.minutes(2)))
struct PythonVersionTests {
    @Test("a new version takes over without a failure; one that cannot be loaded leaves the old one")
    func replaced() async throws {
        let one = try HandlerFolder("def transform_list(items):\n    return ['1' for x in items]\n")
        let two = try HandlerFolder("def transform_list(items):\n    return ['2' for x in items]\n")
        let bad = try HandlerFolder("import no_such_module\n")
        func model(_ folder: HandlerFolder) -> PythonModel { .python(folder.path, options: HandlerFolder.options) }
        let logs = LogCapture()
        let node = NodeContext(node: "node-1", limits: Limits(), log: logs.logger(for: "node-1"), cores: 2)
        let place = SharedContext(node: node, instances: 2, pipeline: "p", stage: "s")
        let pool = try await PythonPool.open(model(one), .strings, for: place)
        let isOver = Flag()
        async let answers = withThrowingTaskGroup(of: [String].self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var seen: [String] = []
                    while !isOver.isSet {
                        guard case .strings(let answer) = try await pool.process(.strings(["x"])) else { break }
                        if seen.last != answer[0] { seen.append(answer[0]) }
                    }
                    return seen
                }
            }
            return try await group.reduce(into: [[String]]()) { $0.append($1) }
        }
        let error = await #expect(throws: FlockError.self) { try await pool.replace(with: model(bad)) }
        #expect(error?.message.contains("no_such_module") == true, "\(String(describing: error))")
        #expect(try await pool.process(.strings(["x"])) == .strings(["1"]))
        try await pool.replace(with: model(two))
        #expect(try await pool.process(.strings(["x"])) == .strings(["2"]))
        isOver.set()
        for seen in try await answers { #expect(seen == ["1", "2"] || seen == ["1"], "\(seen)") }
        await node.end()
    }

    @Test("while one item is searched for that kills processes, others are answered")
    func othersGoOn() async throws {
        let folder = try HandlerFolder(
            """
            import os, time
            def transform_list(items):
                if 'bad' in items:
                    time.sleep(0.2)
                    os._exit(1)
                return items
            """)
        let pipeline = Pipeline("bad", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), batch: .upTo(64), instances: .perNode(2))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            let clock = ContinuousClock()
            let isOver = Flag()
            async let bad: FlockError? = {
                defer { isOver.set() }
                do {
                    _ = try await inbox.ask("bad")
                    return nil
                } catch {
                    return error as? FlockError
                }
            }()
            // From the first death on, so that none of the others was in one batch with it.
            try await eventually { try await node.status().children.contains { $0.restarts > 0 } }
            var answered = 0
            var longest = Duration.zero
            while !isOver.isSet {
                let begun = clock.now
                #expect(try await inbox.ask("good") == "good")
                longest = max(longest, clock.now - begun)
                answered += 1
            }
            #expect(await bad?.code == .poison)
            print("\(answered) others were answered meanwhile, the slowest after \(longest)")
            #expect(answered > 5)
        }
    }
}

final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}
