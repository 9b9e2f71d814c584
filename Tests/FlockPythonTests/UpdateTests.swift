// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Testing

@Suite("updates of Python models", .timeLimit(.minutes(2)))
struct UpdateTests {
    @Test("three versions follow each other under load, each with packages of its own, and no request fails")
    func underLoad() async throws {
        let wheels = WheelFolder()
        var folders: [HandlerFolder] = []
        for version in 1...3 {
            try await wheels.add("flockthing", "\(version)", value: "\(version)")
            let folder = try HandlerFolder(
                """
                import flockthing, time
                def transform_list(items):
                    time.sleep(0.001)
                    return [flockthing.value + ':' + x for x in items]
                """)
            try folder.write("requirements.txt", "flockthing==\(version)\n")
            try folder.write("cleanup.sh", "touch cleaned\n")
            folders.append(folder)
        }
        let model = PythonModel.python(folders[0].path, options: wheels.options)
        let pipeline = Pipeline("versions", of: String.self).model(model, instances: .perNode(2))
        let isOver = Flag()
        let logs = LogCapture()
        try await withNode(pipeline, logs: logs) { node in
            let inbox = try await node.inbox(of: pipeline)
            try await withThrowingTaskGroup(of: [String].self) { group in
                for lane in 0..<16 {
                    group.addTask {
                        var seen: [String] = []
                        var number = 0
                        while !isOver.isSet {
                            let item = "\(lane)/\(number)"
                            number += 1
                            let parts = try await inbox.ask(item).split(separator: ":").map(String.init)
                            #expect(parts[1] == item)
                            if seen.last != parts[0] { seen.append(parts[0]) }
                        }
                        return seen
                    }
                }
                for folder in folders.dropFirst() {
                    try await model.update(to: folder.path)
                    let version = folder === folders[1] ? "2" : "3"
                    #expect(try await inbox.ask("after") == "\(version):after")
                }
                isOver.set()
                // Each asker saw them in order, and ended with the last or the one before.
                for try await seen in group { #expect(seen == seen.sorted() && seen.first == "1", "\(seen)") }
            }
            let status = try await node.status()
            #expect(status.failed == 0)
            #expect(status.children.allSatisfy { $0.restarts == 0 }, "\(logs.text)")
            // The old ones have ended, and cleaned up.
            try await eventually { folders.dropLast().allSatisfy { access($0.path + "/cleaned", F_OK) == 0 } }
            #expect(access(folders[2].path + "/cleaned", F_OK) != 0)
        }
        #expect(access(folders[2].path + "/cleaned", F_OK) == 0)
    }

    @Test("an update that cannot be installed or loaded is its caller's error, and nothing changes for others")
    func refused() async throws {
        let good = try HandlerFolder("def transform_list(items):\n    return items\n")
        let broken = try HandlerFolder("import no_such_module\n")
        let unprepared = try HandlerFolder("def transform_list(items):\n    return []\n")
        try unprepared.write("init.sh", "echo cannot prepare; exit 1\n")
        let model = PythonModel.python(good.path, options: HandlerFolder.options)
        let pipeline = Pipeline("refused", of: String.self).model(model, instances: .perNode(1))
        try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            for (folder, word) in [
                (broken.path, "no_such_module"), (unprepared.path, "cannot prepare"),
                (good.path + "/no", "no handler.py"),
            ] {
                let error = await #expect(throws: FlockError.self) { try await model.update(to: folder) }
                #expect(error?.message.contains(word) == true, "\(String(describing: error))")
                #expect(try await inbox.ask("x") == "x")
            }
        }
    }
}
