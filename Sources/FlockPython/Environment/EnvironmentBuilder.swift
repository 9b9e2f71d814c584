// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation
internal import Logging

/// Makes a virtual environment: with `uv` if it is in `PATH`, else with the interpreter's own `venv` and `pip`.
struct EnvironmentBuilder: Sendable {
    let recipe: EnvironmentRecipe
    let target: String
    let log: Logger

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

    /// Workers write no byte code, so that without this each of them would compile what it imports. On all cores: as a
    /// part of pip it takes longer than all the rest. What nobody imports may stay as it is, and what is for another
    /// version of Python cannot be compiled.
    private static let compile = """
        import compileall, re, sysconfig
        places = sysconfig.get_paths()
        for place in {places["purelib"], places["platlib"]}:
            compileall.compile_dir(place, quiet=2, workers=0, rx=re.compile("/tests?/"))
        """

    /// Returns what is installed, as `pip freeze` says it.
    /// - Throws: `pythonFailed` with the last lines of the tool that failed.
    func build(within time: Duration) async throws -> [String] {
        let clock = ContinuousClock()
        let end = clock.now + time
        let list = try await install(until: end)
        // Both read the same files: pip takes its time to tell what it has installed.
        async let installed = list.succeed(
            "The environment of \(recipe.folder) cannot be listed", within: end - clock.now)
        try await tool(target + "/bin/python3", ["-I", "-c", Self.compile])
            .succeed("The environment of \(recipe.folder) cannot be compiled", within: end - clock.now, onLine: note)
        return try await installed
    }

    /// Returns what lists the packages.
    private func install(until end: ContinuousClock.Instant) async throws -> Tool {
        let clock = ContinuousClock()
        let python = target + "/bin/python3"
        let requirements = ["-r", "requirements.txt"]
        let source = recipe.wheelhouse.map { ["--no-index", "--find-links", $0] } ?? []
        let what = "The environment of \(recipe.folder) cannot be made"
        if let uv = Self.uv() {
            let system = recipe.seesSystemPackages ? ["--system-site-packages"] : []
            // For a script that calls pip.
            let seed = recipe.hasScript ? ["--seed"] : []
            let offline = recipe.wheelhouse == nil ? [] : ["--offline"]
            try await tool(uv, ["venv", "--quiet", "--python", recipe.interpreter.path] + seed + system + [target])
                .succeed(what, within: end - clock.now, onLine: note)
            try await tool(uv, ["pip", "install", "--python", python] + offline + source + requirements)
                .succeed(what, within: end - clock.now, onLine: note)
            return tool(uv, ["pip", "freeze", "--python", python])
        }
        let system = recipe.seesSystemPackages ? ["--system-site-packages"] : []
        let base = recipe.interpreter
        if base.hasPip && !recipe.hasScript {
            // The interpreter's own pip, from outside: to put another one in takes seconds.
            try await tool(base.path, ["-m", "venv", "--without-pip"] + system + [target])
                .succeed(what, within: end - clock.now, onLine: note)
            let pip = ["-m", "pip", "--python", python]
            try await tool(base.path, pip + ["install", "--no-compile"] + source + requirements)
                .succeed(what, within: end - clock.now, onLine: note)
            return tool(base.path, pip + ["freeze"])
        }
        guard base.hasEnsurePip else {
            let version = base.version.split(separator: ".").prefix(2).joined(separator: ".")
            throw FlockError(
                .pythonFailed,
                "\(what): \(base.path) has no ensurepip. On Debian: apt install python3-venv"
                    + " (or python\(version)-venv); or put uv into PATH.")
        }
        try await tool(base.path, ["-m", "venv"] + system + [target])
            .succeed(what, within: end - clock.now, onLine: note)
        try await tool(python, ["-m", "pip", "install", "--no-compile"] + source + requirements)
            .succeed(what, within: end - clock.now, onLine: note)
        return tool(python, ["-m", "pip", "freeze"])
    }

    private func tool(_ program: String, _ arguments: [String]) -> Tool {
        Tool(executable: program, arguments: arguments, environment: Self.variables(), folder: recipe.folder)
    }

    private var note: @Sendable (String) -> Void {
        { [log] line in log.debug("\(line)", metadata: ["environment": "being built"]) }
    }

    private static func uv() -> String? {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.map { "\($0)/uv" }.first { access($0, X_OK) == 0 }
    }
}
