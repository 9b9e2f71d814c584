// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Foundation
import Logging
import Synchronization
import Testing

@testable import FlockPython

/// What pip says is how the tests see who installed: the shares are quiet.
@Suite("Installation of wheels", .timeLimit(.minutes(3)))
struct WheelInstallTests {
    /// Lines of pip while an environment is made, and what is in it.
    private static func install(_ wheels: WheelFolder, _ requirements: String) async throws -> (
        lines: [String], packages: [String], value: (String) async throws -> [String]
    ) {
        let folder = try HandlerFolder("x = 1\n")
        try folder.write("requirements.txt", requirements)
        let environment = wheels.options.environment
        let interpreter = try await environment.interpreterFound()
        #expect(interpreter.pip != nil)
        let recipe = try #require(try EnvironmentRecipe(of: folder.path, interpreter, environment))
        let lines = LogLines()
        var log = Logger(label: "test") { _ in lines.handler }
        log.logLevel = .debug
        let target = wheels.path + "/environment"
        // Not with a uv that happens to be there.
        let builder = EnvironmentBuilder(recipe: recipe, target: target, log: log, searchPath: "")
        let byteCode = try await builder.build(within: .seconds(120))
        await byteCode.ended()
        let value = { (module: String) in
            try await Tool(
                executable: target + "/bin/python3", arguments: ["-c", "import \(module); print(\(module).value)"],
                environment: [], folder: "/"
            ).succeed("import", within: .seconds(30))
        }
        return (lines.all, EnvironmentCache.packages(in: target), value)
    }

    @Test("wheels are unpacked side by side, those that others need as well")
    func sideBySide() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flocka", "1.0", value: "a", needs: ["flockb>=1", "flockc"])
        for version in ["0.9", "1.5", "2.0"] { try await wheels.add("flockb", version, value: "b\(version)") }
        try await wheels.add("flockc", "3.0", value: "c")
        let (lines, packages, value) = try await Self.install(wheels, "flocka\nflockb<2\n")
        #expect(lines == [])
        #expect(packages == ["flocka==1.0", "flockb==1.5", "flockc==3.0"])
        #expect(try await value("flockb") == ["b1.5"])
        #expect(try await value("flockc") == ["c"])
    }

    @Test("packages that share a file are installed one after the other")
    func shared() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flocka", "1.0", value: "needed", file: "same.py")
        try await wheels.add(
            "flockb", "1.0", value: "needs", needs: ["flocka"], file: "flockb-1.0.data/purelib/same.py")
        let (lines, packages, value) = try await Self.install(wheels, "flockb\n")
        #expect(lines.contains { $0.hasPrefix("Successfully installed") }, "\(lines)")
        #expect(packages == ["flocka==1.0", "flockb==1.0"])
        // What needs the other comes after it.
        #expect(try await value("same") == ["needs"])
    }

    @Test("hashes of the requirements are checked")
    func hashes() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flocka", "1.0")
        let wheel = try #require(FileManager.default.contents(atPath: wheels.wheels + "/flocka-1.0-py3-none-any.whl"))
        let right = "\(ContentHash(of: Bytes(Array(wheel))))"
        _ = try await Self.install(wheels, "flocka==1.0 --hash=sha256:\(right)\n")
        let wrong = String(right.reversed())
        let error = await #expect(throws: FlockError.self) {
            _ = try await Self.install(wheels, "flocka==1.0 --hash=sha256:\(wrong)\n")
        }
        #expect(error?.message.contains(wrong) == true, "\(String(describing: error))")
    }

    @Test("a wheel that is damaged is the error, whichever share it is in")
    func damaged() async throws {
        let wheels = WheelFolder()
        for name in ["flocka", "flockb", "flockc"] { try await wheels.add(name, "1.0", value: "value of \(name)") }
        let place = URL(filePath: wheels.wheels + "/flockb-1.0-py3-none-any.whl")
        var bytes = try Data(contentsOf: place)
        let text = try #require(bytes.range(of: Data("value of flockb".utf8)))
        bytes[text.lowerBound] ^= 1
        try bytes.write(to: place)
        let error = await #expect(throws: FlockError.self) {
            _ = try await Self.install(wheels, "flocka\nflockb\nflockc\n")
        }
        #expect(error?.code == .pythonFailed)
        #expect(error?.message.contains("flockb") == true, "\(String(describing: error))")
    }
}

/// What was logged, line by line.
private final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    var handler: any LogHandler { Handler(lines: self) }

    private struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.add("\(event.message)") }
    }

    private func add(_ line: String) { lines.withLock { $0.append(line) } }
}
