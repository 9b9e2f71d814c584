// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Foundation
import Logging

@testable import FlockPython

/// Wheels made by hand, so that pip has something to install without a network, and a cache of environments. Removed
/// with this object.
final class WheelFolder: Sendable {
    let path: String
    let cache: String

    init() {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("wheels-\(UUID().uuidString)").path
        cache = path + "/cache"
        mkdir(path, 0o700)
        mkdir(path + "/wheels", 0o700)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var wheels: String { path + "/wheels" }

    private static let script = """
        import sys, zipfile
        folder, name, version, value, needs, file = sys.argv[1:]
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {need}\\n" for need in needs.split())
        files = {
            file or f"{name}.py": f"value = {value!r}\\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        }
        record = f"{info}/RECORD"
        files[record] = "".join(f"{n},,\\n" for n in [*files, record])
        with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as wheel:
            for file, text in files.items():
                wheel.writestr(file, text)
        """

    /// Makes a wheel of a module `name` (or of another `file`) in which `value` is `value`.
    func add(
        _ name: String, _ version: String, value: String = "v", needs: [String] = [], file: String = ""
    ) async throws {
        try await Tool(
            executable: HandlerFolder.options.environment.interpreter,
            arguments: ["-c", Self.script, wheels, name, version, value, needs.joined(separator: " "), file],
            environment: [], folder: path
        ).succeed("a wheel", within: .seconds(30))
    }

    /// For a model whose packages are these wheels.
    var options: PythonModel.Options {
        var options = HandlerFolder.options
        options.environment.cacheFolder = cache
        options.environment.wheelhouse = wheels
        return options
    }

    /// The environments that are ready.
    var environments: [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: cache + "/environments")) ?? []
        return names.filter {
            access("\(cache)/environments/\($0)/\(EnvironmentCache.marker)", F_OK) == 0
        }.sorted()
    }

    /// The first of them.
    var environment: String { "\(cache)/environments/\(environments[0])" }

    func install(_ folder: HandlerFolder, options: PythonModel.Options? = nil) async throws -> ModelInstallation {
        try await ModelInstallation(
            .python(folder.path, options: options ?? self.options), .strings, log: Logger(label: "test"))
    }
}
