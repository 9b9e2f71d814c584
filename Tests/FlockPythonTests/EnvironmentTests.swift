// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Flockwork
import Foundation
import Logging
import Testing

@testable import FlockPython

@Suite("Python environments", .timeLimit(.minutes(3)))
struct EnvironmentTests {
    private static let handler = """
        import flockthing, sys
        def transform_list(items):
            return [flockthing.value + x for x in items]
        """

    private static func model(_ requirements: String, handler: String = handler) throws -> HandlerFolder {
        let folder = try HandlerFolder(handler)
        try folder.write("requirements.txt", requirements)
        return folder
    }

    @Test("a model's requirements are installed from wheels without a network, once, and found at once after that")
    func built() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0", value: "one-")
        let folder = try Self.model("# what it needs\nFlockThing == 1.0\n")
        let clock = ContinuousClock()
        var starts: [Duration] = []
        for _ in 0..<4 {
            let pipeline = Pipeline("wheels", of: String.self)
                .model(.python(folder.path, options: wheels.options), instances: .perNode(1))
            let begun = clock.now
            try await withNode(pipeline) { node in
                starts.append(clock.now - begun)
                let answer = try await node.inbox(of: pipeline).ask("x")
                #expect(answer == "one-x")
            }
        }
        print("node with a Python model: cold start \(starts[0]), warm starts \(starts[1...])")
        #expect(wheels.environments.count == 1)
        let marker = wheels.environment + "/READY"
        #expect(try String(contentsOfFile: marker, encoding: .utf8).contains("flockthing==1.0"))
    }

    @Test("byte code is made, since workers write none, and if that was ended by whoever comes next")
    func byteCode() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let folder = try Self.model("flockthing\n")
        func compiled() throws -> [String] {
            try FileManager.default.subpathsOfDirectory(atPath: wheels.environment)
                .filter { $0.contains("flockthing") && $0.hasSuffix(".pyc") }
        }
        func install() async throws {
            let lease = try #require(try await wheels.install(folder).lease)
            let byteCode = try #require(lease.byteCode)
            await byteCode.ended()
        }
        try await install()
        let first = try compiled()
        #expect(first.count == 1)
        #expect(try await wheels.install(folder).lease?.byteCode == nil)
        unlink("\(wheels.environment)/\(first[0])")
        try "".write(toFile: "\(wheels.environment)/\(ByteCode.pending)", atomically: true, encoding: .utf8)
        try await install()
        #expect(try compiled() == first)
        #expect(try await wheels.install(folder).lease?.byteCode == nil)
    }

    @Test("the key changes with what matters and with nothing else")
    func key() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let environment = wheels.options.environment
        let interpreter = try await environment.interpreterFound()
        func key(
            _ text: String, _ files: [String: String] = [:], _ interpreter: Interpreter = interpreter,
            _ environment: PythonEnvironment = environment
        ) throws -> String? {
            let folder = try Self.model(text)
            for (name, text) in files { try folder.write(name, text) }
            return try EnvironmentRecipe(of: folder.path, interpreter, environment)?.key
        }
        let base = try key("scikit-learn>=1.4\nnumpy\n")
        #expect(try key("# a\r\nnumpy   # b\n\nScikit_Learn  >=  1.4") == base)
        #expect(try key("-r more.txt\nnumpy\n", ["more.txt": "scikit-learn >= \\\n 1.4"]) == base)
        let markers = [try key("a>=1; python_version < '3.12'"), try key("a >= 1 ;python_version < '3.12'")]
        #expect(markers[0] == markers[1])
        var other = interpreter
        other.fullVersion += "+"
        var tag = interpreter
        tag.tag = "cpython-399"
        var seeing = environment
        seeing.seesSystemPackages = true
        var online = environment
        online.wheelhouse = nil
        var different = [
            base, try key("scikit-learn>=1.5\nnumpy\n"), try key("numpy\n"),
            try key("numpy\n-c more.txt", ["more.txt": "scikit-learn>=1.4"]),
            try key("scikit-learn>=1.4\nnumpy\n", [:], other), try key("scikit-learn>=1.4\nnumpy\n", [:], tag),
            try key("scikit-learn>=1.4\nnumpy\n", [:], interpreter, seeing),
            try key("scikit-learn>=1.4\nnumpy\n", [:], interpreter, online),
            try key("scikit-learn>=1.4\nnumpy\n", ["init.sh": "true"]),
            try key("scikit-learn>=1.4\nnumpy\n", ["wheels/a.whl": "one"]),
            try key("scikit-learn>=1.4\nnumpy\n", ["wheels/a.whl": "two"]),
        ]
        try await wheels.add("flockthing", "1.1")
        different.append(try key("scikit-learn>=1.4\nnumpy\n"))
        #expect(Set(different).count == different.count)
        let plain = try HandlerFolder("x = 1\n")
        #expect(try EnvironmentRecipe(of: plain.path, interpreter, environment) == nil)
    }

    @Test(
        "requirements that are paths are refused, and so are files outside of the folder",
        arguments: [
            "./thing", "-e .", "-e.", "--editable=.", "/opt/thing.whl", "thing @ file:///opt/thing.whl",
            "-r ../more.txt",
            "-r /etc/passwd", "-r missing.txt", "-r requirements.txt",
        ])
    func refused(line: String) throws {
        let folder = try Self.model("numpy\n\(line)\n")
        let error = #expect(throws: FlockError.self) { try Requirements("requirements.txt", in: folder.path) }
        #expect(error?.code == .invalidInput)
    }

    @Test("what cannot be installed is told with pip's last lines, and nothing is left behind")
    func missing() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let folder = try Self.model("flockthing==2.0\n")
        let error = await #expect(throws: FlockError.self) { try await wheels.install(folder) }
        #expect(error?.code == .pythonFailed)
        #expect(error?.message.contains("flockthing==2.0") == true, "\(String(describing: error))")
        let rest = try FileManager.default.contentsOfDirectory(atPath: wheels.cache + "/environments")
        #expect(rest.allSatisfy { $0.hasSuffix(".lock") }, "\(rest)")
    }

    @Test("an environment that was not finished is garbage, and built anew")
    func garbage() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let folder = try Self.model("flockthing\n")
        _ = try await wheels.install(folder)
        let place = wheels.environment
        unlink(place + "/READY")
        try "broken".write(toFile: place + "/half", atomically: true, encoding: .utf8)
        _ = try await wheels.install(folder)
        #expect(access(place + "/READY", F_OK) == 0)
        #expect(access(place + "/half", F_OK) != 0)
    }

    @Test("of several that want an environment at the same time one builds it")
    func once() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let folder = try Self.model("flockthing\n")
        let options = wheels.options
        let interpreter = try await options.environment.interpreterFound()
        let recipe = try #require(try EnvironmentRecipe(of: folder.path, interpreter, options.environment))
        let cache = EnvironmentCache(folder: options.environment.cacheFolder, log: Logger(label: "test"))
        let built = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 { group.addTask { try await cache.lease(recipe).wasReady } }
            return try await group.reduce(into: 0) { $0 += $1 ? 0 : 1 }
        }
        #expect(built == 1)
    }

    @Test("environments that nobody uses are removed, those used last stay, and those in use")
    func collected() async throws {
        let wheels = WheelFolder()
        for version in ["1", "2", "3", "4"] { try await wheels.add("flockthing", version) }
        var options = wheels.options
        options.environment.keptEnvironments = 1
        var used: ModelInstallation? = try await wheels.install(Self.model("flockthing==1\n"), options: options)
        let first = wheels.environments
        for version in ["2", "3"] {
            _ = try await wheels.install(Self.model("flockthing==\(version)\n"), options: options)
        }
        // The first is the oldest, and in use.
        #expect(wheels.environments.count == 2)
        #expect(wheels.environments.contains(first[0]))
        #expect(used?.program.interpreter.contains(first[0]) == true)
        used = nil
        _ = try await wheels.install(Self.model("flockthing==4\n"), options: options)
        #expect(wheels.environments.count == 1)
    }

    @Test("init.sh runs in the environment before the model and cleanup.sh after it")
    func scripts() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "1.0")
        let folder = try Self.model(
            "flockthing\n",
            handler: "def transform_list(items):\n    return [open('made').read().strip() for x in items]\n")
        try folder.write("init.sh", "python3 -c 'import flockthing, os; print(flockthing.value)' > made\n")
        try folder.write("cleanup.sh", "#!/bin/bash\n[[ -n $VIRTUAL_ENV ]] && mv made cleaned\n")
        let pipeline = Pipeline("scripts", of: String.self)
            .model(.python(folder.path, options: wheels.options), instances: .perNode(1))
        try await withNode(pipeline) { node in
            let answer = try await node.inbox(of: pipeline).ask("x")
            #expect(answer == "v")
            #expect(access(folder.path + "/cleaned", F_OK) != 0)
        }
        #expect(access(folder.path + "/cleaned", F_OK) == 0)
    }

    @Test("an init.sh that fails is the node's error, with what it printed; so is one that does not end")
    func failingScript() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return items\n")
        try folder.write("init.sh", "echo fetching the vocabulary\necho no such host >&2\nexit 7\n")
        let pipeline = Pipeline("scripts", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), instances: .perNode(1))
        var error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
        for part in ["init.sh", "exited with code 7", "fetching the vocabulary", "no such host"] {
            #expect(error?.message.contains(part) == true, "\(String(describing: error))")
        }
        try folder.write("init.sh", "echo waiting\nsleep 1000\n")
        var options = HandlerFolder.options
        options.environment.buildTime = .milliseconds(300)
        error = await #expect(throws: FlockError.self) {
            _ = try await ModelInstallation(
                .python(folder.path, options: options), .strings, log: Logger(label: "test"))
        }
        #expect(error?.message.contains("took longer") == true, "\(String(describing: error))")
    }

    @Test("cleanup.sh runs, too, when the handler cannot be loaded")
    func cleanedAfterFailure() async throws {
        let folder = try HandlerFolder("import no_such_module\n")
        try folder.write("cleanup.sh", "touch cleaned\n")
        let pipeline = Pipeline("scripts", of: String.self)
            .model(.python(folder.path, options: HandlerFolder.options), instances: .perNode(1))
        let error = await #expect(throws: FlockError.self) { try await withNode(pipeline) { _ in } }
        #expect(error?.message.contains("no_such_module") == true)
        #expect(access(folder.path + "/cleaned", F_OK) == 0)
    }

    @Test(
        "packages come from an index when there are no wheels",
        .enabled(if: ProcessInfo.processInfo.environment["FLOCKWORK_TEST_PYPI"] != nil))
    func index() async throws {
        let wheels = WheelFolder()
        let folder = try Self.model(
            "six==1.16.0\n",
            handler: "import six\ndef transform_list(items):\n    return [six.__version__ for x in items]\n")
        var options = wheels.options
        options.environment.wheelhouse = nil
        let pipeline = Pipeline("index", of: String.self)
            .model(.python(folder.path, options: options), instances: .perNode(1))
        try await withNode(pipeline) { node in
            let answer = try await node.inbox(of: pipeline).ask("x")
            #expect(answer == "1.16.0")
        }
    }
}
