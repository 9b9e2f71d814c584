// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation
internal import Synchronization

/// What an interpreter says of itself.
struct Interpreter: Sendable, Equatable {
    /// The program itself, where its name may be that of a script that finds one.
    var path: String
    /// "3.11.2".
    var version: String
    /// "cpython", "pypy".
    var implementation: String
    /// With the build and the compiler.
    var fullVersion: String
    /// What extension modules are built for: "cpython-311-x86_64-linux-gnu".
    var tag: String
    /// "linux-x86_64".
    var platform: String
    /// Whether it loads libflockpython, which is built on the stable ABI of 3.11: one without the interpreter's lock
    /// does not.
    var loadsLibrary: Bool
    /// Whether it can put pip into a virtual environment.
    var hasEnsurePip: Bool
    /// The folder with its package pip, if that can install into another environment than its own.
    var pip: String?

    private static let question = """
        import sys, sysconfig
        from importlib.util import find_spec
        print('%d.%d.%d' % sys.version_info[:3], sys.implementation.name)
        print(sys.executable)
        print(sys.version.replace('\\n', ' '))
        print(sysconfig.get_config_var('SOABI'))
        print(sysconfig.get_platform(), bool(sysconfig.get_config_var('Py_GIL_DISABLED')))
        print(find_spec('ensurepip') is not None)
        try:
            import os, pip
            place = os.path.dirname(os.path.abspath(pip.__file__))
            can = tuple(int(x) for x in pip.__version__.split('.')[:2]) >= (22, 3)
            print(os.path.dirname(place) if can and os.path.exists(place + '/__pip-runner__.py') else None)
        except (ImportError, ValueError):
            print(None)
        """

    /// Runs it, to hear.
    /// - Throws: `pythonFailed` when it does not work, or is older than 3.8.
    init(asking path: String) async throws(FlockError) {
        let own = ProcessInfo.processInfo.environment
        let names = ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"] + PythonEnvironment.inherited
        let ran = try await Tool(
            executable: path, arguments: ["-c", Self.question],
            environment: names.compactMap { name in own[name].map { (name, $0) } }, folder: "/"
        ).run(within: .seconds(30))
        let lines = ran.output
        guard ran.exit == .exited(0), lines.count == 7 else {
            throw FlockError(
                .pythonFailed, "\(path) is no Python interpreter that works: it \(ran.exit).\n\(ran.tail)")
        }
        let words = lines[0].split(separator: " ").map(String.init)
        let numbers = words[0].split(separator: ".").compactMap { Int($0) }
        guard words.count == 2, numbers.count == 3, (numbers[0], numbers[1]) >= (3, 8) else {
            throw FlockError(.pythonFailed, "\(path) is \(lines[0]); Python 3.8 or newer is needed.")
        }
        let place = lines[4].split(separator: " ").map(String.init)
        loadsLibrary = words[1] == "cpython" && (numbers[0], numbers[1]) >= (3, 11) && place.last == "False"
        self.path = lines[1]
        version = words[0]
        implementation = words[1]
        fullVersion = lines[2]
        tag = lines[3]
        platform = place.first ?? ""
        hasEnsurePip = lines[5] == "True"
        pip = lines[6] == "None" ? nil : lines[6]
    }
}
