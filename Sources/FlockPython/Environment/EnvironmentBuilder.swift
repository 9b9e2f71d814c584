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
    ///
    /// It begins while packages are installed, with those whose list of files is there, and goes through all of them
    /// once the file of its argument is.
    private static let compile = """
        import compileall, glob, os, re, sys, sysconfig, time
        paths = sysconfig.get_paths()
        places = {paths["purelib"], paths["platlib"]}
        def compile(folder):
            compileall.compile_dir(folder, quiet=2, workers=0, rx=re.compile("/tests?/"))
        seen = set()
        while not os.path.exists(sys.argv[1]):
            for record in {r for place in places for r in glob.glob(place + "/*.dist-info/RECORD")} - seen:
                seen.add(record)
                with open(record, encoding="utf-8", errors="replace") as file:
                    names = {line.split("/")[0] for line in file if ".py," in line}
                for name in names - {"..", ""}:
                    folder = os.path.join(os.path.dirname(os.path.dirname(record)), name)
                    if os.path.isdir(folder):
                        compile(folder)
            time.sleep(0.02)
        for place in places:
            compile(place)
        os.remove(sys.argv[1])
        """

    /// What makes an environment, in this order.
    private struct Steps {
        var make: Tool
        var install: Tool
        /// Says what is installed, as `pip freeze` does.
        var list: Tool
    }

    /// Returns what is installed.
    /// - Throws: `pythonFailed` with the last lines of the tool that failed.
    func build(within time: Duration) async throws -> [String] {
        let clock = ContinuousClock()
        let end = clock.now + time
        let what = "The environment of \(recipe.folder) cannot be"
        let steps = try steps()
        try await steps.make.succeed("\(what) made", within: end - clock.now, onLine: note)
        let installed = target + "/installed"
        async let compiled = tool(target + "/bin/python3", ["-I", "-c", Self.compile, installed])
            .succeed("\(what) compiled", within: end - clock.now, onLine: note)
        try await steps.install.succeed("\(what) made", within: end - clock.now, onLine: note)
        try Data().write(to: URL(filePath: installed))
        async let list = steps.list.succeed("\(what) listed", within: end - clock.now)
        _ = try await compiled
        return try await list
    }

    private func steps() throws(FlockError) -> Steps {
        let python = target + "/bin/python3"
        let requirements = ["-r", "requirements.txt"]
        let source = recipe.wheelhouse.map { ["--no-index", "--find-links", $0] } ?? []
        let system = recipe.seesSystemPackages ? ["--system-site-packages"] : []
        if let uv = Self.uv() {
            // For a script that calls pip.
            let seed = recipe.hasScript ? ["--seed"] : []
            let offline = recipe.wheelhouse == nil ? [] : ["--offline"]
            return Steps(
                make: tool(uv, ["venv", "--quiet", "--python", recipe.interpreter.path] + seed + system + [target]),
                install: tool(uv, ["pip", "install", "--python", python] + offline + source + requirements),
                list: tool(uv, ["pip", "freeze", "--python", python]))
        }
        let base = recipe.interpreter
        if base.hasPip && !recipe.hasScript {
            // The interpreter's own pip, from outside: to put another one in takes seconds.
            let pip = ["-m", "pip", "--python", python]
            return Steps(
                make: tool(base.path, ["-m", "venv", "--without-pip"] + system + [target]),
                install: tool(base.path, pip + ["install", "--no-compile"] + source + requirements),
                list: tool(base.path, pip + ["freeze"]))
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
            install: tool(python, ["-m", "pip", "install", "--no-compile"] + source + requirements),
            list: tool(python, ["-m", "pip", "freeze"]))
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
