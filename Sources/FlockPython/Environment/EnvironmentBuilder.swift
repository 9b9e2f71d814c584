// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation
internal import Logging

/// Makes a virtual environment: with `uv` if it is in `PATH` or beside the interpreter, else with the interpreter's own
/// `venv` and `pip`.
struct EnvironmentBuilder: Sendable {
    let recipe: EnvironmentRecipe
    let target: String
    let log: Logger
    /// Folders in which uv is looked for, after each other with colons between.
    var searchPath = ProcessInfo.processInfo.environment["PATH"] ?? ""

    /// What a tool that installs packages may see beside what a child sees: where from, through which proxy, its
    /// settings.
    private static let inherited = [
        "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NETRC", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
        "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    ]

    static func variables() -> [(name: String, value: String)] {
        let own = ProcessInfo.processInfo.environment
        var all = own.filter { name, _ in
            PythonEnvironment.inherited.contains(name) || inherited.contains(name) || name.hasPrefix("PIP_")
                || name.hasPrefix("UV_")
        }
        all["PATH"] = own["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        all["LANG"] = all["LANG"] ?? "C.UTF-8"
        all["TMPDIR"] = own["TMPDIR"] ?? "/tmp"
        all["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        all["PIP_NO_INPUT"] = "1"
        all["PYTHONUNBUFFERED"] = "1"
        return all.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// What makes an environment, in this order.
    private struct Steps {
        var make: Tool
        var install: Tool
    }

    /// Returns when everything is installed. Byte code is still being made then.
    /// - Throws: `pythonFailed` with the last lines of the tool that failed.
    func build(within time: Duration) async throws -> ByteCode {
        let clock = ContinuousClock()
        let end = clock.now + time
        let what = "The environment of \(recipe.folder) cannot be made"
        let steps = try steps()
        try await steps.make.succeed(what, within: end - clock.now, onLine: note)
        let byteCode = ByteCode(of: target, within: end - clock.now, log: log)
        do {
            try await steps.install.succeed(what, within: end - clock.now, onLine: note)
            try Data().write(to: URL(filePath: target + "/" + ByteCode.pending))
        } catch {
            byteCode.cancel()
            await byteCode.ended()
            throw error
        }
        return byteCode
    }

    private func steps() throws(FlockError) -> Steps {
        let python = target + "/bin/python3"
        let requirements = ["-r", "requirements.txt"]
        let source = recipe.wheelhouse.map { ["--no-index", "--find-links", $0] } ?? []
        let system = recipe.seesSystemPackages ? ["--system-site-packages"] : []
        if let uv = uv() {
            // For a script that calls pip.
            let seed = recipe.hasScript ? ["--seed"] : []
            let offline = recipe.wheelhouse == nil ? [] : ["--offline"]
            return Steps(
                make: tool(uv, ["venv", "--quiet", "--python", recipe.interpreter.path] + seed + system + [target]),
                install: tool(uv, ["pip", "install", "--python", python] + offline + source + requirements))
        }
        let base = recipe.interpreter
        if let pip = base.pip, !recipe.hasScript {
            // The interpreter's own pip, from outside: to put another one in takes seconds. It starts again with the
            // other interpreter for that, which it need not if it is started so.
            let runner = pip + "/pip/__pip-runner__.py"
            // Those of the system may be what is required.
            let onlyWheels = recipe.wheelhouse != nil && !recipe.seesSystemPackages
            let install =
                onlyWheels ? script(PackageResources.install_py) + [pip] : [runner, "install", "--no-compile"]
            return Steps(
                make: tool(base.path, ["-m", "venv", "--without-pip"] + system + [target]),
                install: tool(python, install + source + requirements))
        }
        guard base.hasEnsurePip else {
            let version = base.version.split(separator: ".").prefix(2).joined(separator: ".")
            throw FlockError(
                .pythonFailed,
                "The environment of \(recipe.folder) cannot be made: \(base.path) has no ensurepip. "
                    + "On Debian: apt install python3-venv (or python\(version)-venv); or put uv into PATH.")
        }
        return Steps(
            make: tool(base.path, ["-m", "venv"] + system + [target]),
            install: tool(python, ["-m", "pip", "install", "--no-compile"] + source + requirements))
    }

    /// What an interpreter is told to run it.
    private func script(_ resource: [UInt8]) -> [String] { ["-I", "-c", String(decoding: resource, as: UTF8.self)] }

    private func tool(_ program: String, _ arguments: [String]) -> Tool {
        Tool(executable: program, arguments: arguments, environment: Self.variables(), folder: recipe.folder)
    }

    private var note: @Sendable (String) -> Void {
        { [log] line in log.debug("\(line)", metadata: ["environment": "being built"]) }
    }

    private func uv() -> String? {
        let folders = searchPath.split(separator: ":").map(String.init)
        let beside = URL(filePath: recipe.interpreter.path).deletingLastPathComponent().path
        return (folders + [beside]).map { "\($0)/uv" }.first { access($0, X_OK) == 0 }
    }
}
