// Flockwork · Apache-2.0 · see LICENSE

// Where a library is looked for. Python is never started for it: a wheel's files lie where every Python keeps them,
// and a node should not wait a second for an interpreter to say so.

import FlockWire
import FoundationEssentials
import Glibc

/// The places of one process in which libraries are looked for.
struct LibrarySearch: Sendable {
    /// The folder that `make libs` makes.
    static let localEnvironment = ".venv-libs"

    var environment: [String: String]
    var workingFolder: String
    var executable: String

    /// The places of this process.
    static var process: LibrarySearch {
        LibrarySearch(
            environment: ProcessInfo.processInfo.environment, workingFolder: FileManager.default.currentDirectoryPath,
            executable: realPath("/proc/self/exe") ?? "")
    }

    /// The file that the caller or the environment names; nothing else is tried then, not even if it is missing.
    func named(_ kind: LibraryKind, explicit: String?) -> (path: String, by: String)? {
        if let explicit { return (explicit, "the model source") }
        if let path = environment[kind.variable], !path.isEmpty { return (path, kind.variable) }
        return nil
    }

    /// The site-packages in which the library may be, the configured Python's first.
    func sitePackages() -> [String] {
        var roots: [String] = []
        if let python = environment["FLOCKWORK_PYTHON"], !python.isEmpty { roots += Self.roots(of: locate(python)) }
        roots += localEnvironments().filter(Self.isTrusted)
        var folders: [String] = []
        for root in roots {
            for library in ["lib", "lib64", "local/lib"] {
                let parent = "\(root)/\(library)"
                for python in Self.entries(of: parent) where python.hasPrefix("python3") {
                    folders += ["site-packages", "dist-packages"].map { "\(parent)/\(python)/\($0)" }
                }
            }
        }
        return folders.filter { Self.isFolder($0) }
    }

    /// The library's file in a site-packages folder; of several the one with the last version.
    func file(of kind: LibraryKind, in sitePackages: String) -> String? {
        let folder = "\(sitePackages)/\(kind.folder)"
        let names = Self.entries(of: folder).filter { $0 == kind.file || $0.hasPrefix(kind.file + ".") }
        return names.max { Self.version(of: $0).lexicographicallyPrecedes(Self.version(of: $1)) }
            .map { "\(folder)/\($0)" }
    }

    /// The numbers in a file's name: 1.9 comes before 1.10.
    private static func version(of name: String) -> [Int] { name.split(separator: ".").compactMap { Int($0) } }

    /// `.venv-libs` in the working folder and in every folder above the program, where a built program finds it.
    private func localEnvironments() -> [String] {
        var folders = [workingFolder]
        var folder = executable
        while let slash = folder.lastIndex(of: "/"), slash > folder.startIndex {
            folder = String(folder[..<slash])
            folders.append(folder)
        }
        return folders.map { "\($0)/\(Self.localEnvironment)" }.filter { Self.isFolder($0) }
    }

    /// The path of a Python that is named like a command.
    private func locate(_ python: String) -> String {
        guard !python.contains("/") else { return python }
        let folders = (environment["PATH"] ?? "").split(separator: ":")
        return folders.map { "\($0)/\(python)" }.first { access($0, X_OK) == 0 } ?? python
    }

    /// The folders that hold `lib/python3…` of an interpreter, or of an environment that is named by its folder.
    private static func roots(of python: String) -> [String] {
        if isFolder(python) { return [python] }
        guard let real = realPath(python) else { return [] }
        // A virtual environment's interpreter is a link to another one, whose packages are not the environment's.
        let own = parent(of: parent(of: python))
        if access("\(own)/pyvenv.cfg", R_OK) == 0 { return [own] }
        let other = parent(of: parent(of: real))
        return own == other ? [own] : [own, other]
    }

    /// A folder that someone else may have put there must not decide which code this process runs.
    private static func isTrusted(_ folder: String) -> Bool {
        var status = stat()
        guard stat(folder, &status) == 0 else { return false }
        return (status.st_uid == geteuid() || status.st_uid == 0) && status.st_mode & S_IWOTH == 0
    }

    private static func parent(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }

    private static func isFolder(_ path: String) -> Bool {
        var isFolder = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder
    }

    private static func entries(of folder: String) -> [String] {
        // A folder that is missing or cannot be read has no library for us.
        (try? FileManager.default.contentsOfDirectory(atPath: folder).sorted()) ?? []
    }

    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
