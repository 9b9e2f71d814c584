// Flockwork · Apache-2.0 · see LICENSE

// Environments by key: `KEY` is one, `KEY.lock` is locked by whoever builds it (alone) or uses it (together). The file
// READY in it is written last. One without is what a builder left that died, and is built anew. They are built where
// they stay, since a virtual environment cannot be moved.

internal import FlockWire
internal import Foundation
internal import Logging

/// A virtual environment in use. It is not removed before this object is.
final class EnvironmentLease: Sendable {
    /// Its interpreter.
    let interpreter: String
    /// Whether it was there.
    let wasReady: Bool
    /// What is still being made.
    let byteCode: ByteCode?
    private let lock: Int32

    fileprivate init(interpreter: String, wasReady: Bool, byteCode: ByteCode?, lock: Int32) {
        self.interpreter = interpreter
        self.wasReady = wasReady
        self.byteCode = byteCode
        self.lock = lock
    }

    deinit { FolderLock.release(lock) }
}

/// The virtual environments of this user on this machine.
struct EnvironmentCache: Sendable {
    static let marker = "READY"

    let folder: String
    /// Environments that nobody uses and that are kept all the same: those used last.
    var kept = 8
    /// Time for building one.
    var buildTime = Duration.seconds(1800)
    let log: Logger

    init(folder: String?, log: Logger) {
        self.folder = (folder ?? CacheFolder.standard) + "/environments"
        self.log = log
    }

    /// The environment of a recipe, built if it is not there.
    /// - Throws: `pythonFailed` with the last lines of the tool that failed; `system`.
    func lease(_ recipe: EnvironmentRecipe) async throws -> EnvironmentLease {
        let path = "\(folder)/\(recipe.key)"
        let lock = try await onOwnThread { () throws(FlockError) in
            try CacheFolder.make(folder)
            let lock = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard lock >= 0 else { throw FlockError(systemCallFor: path + ".lock") }
            return lock
        }
        do {
            let built = try await prepare(recipe, path, lock)
            return EnvironmentLease(
                interpreter: path + "/bin/python3", wasReady: built == nil,
                byteCode: built ?? unfinishedByteCode(in: path), lock: lock)
        } catch {
            FolderLock.release(lock)
            throw error
        }
    }

    /// Returns, with the lock shared, when the environment is there; nil if it was there before.
    private func prepare(_ recipe: EnvironmentRecipe, _ path: String, _ lock: Int32) async throws -> ByteCode? {
        let begun = ContinuousClock.now
        var built: ByteCode?
        while true {
            if flock(lock, LOCK_SH | LOCK_NB) == 0, isReady(path) {
                // When it was used last, for `collect`.
                utimes(path + "/" + Self.marker, nil)
                if built != nil { await collect() }
                return built
            }
            if flock(lock, LOCK_EX | LOCK_NB) == 0 {
                if !isReady(path) { built = try await build(recipe, path) }
                continue
            }
            guard ContinuousClock.now - begun < buildTime else {
                throw FlockError(.pythonFailed, "Another process has been building \(path) for \(buildTime).")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func isReady(_ path: String) -> Bool {
        access(path + "/" + Self.marker, R_OK) == 0 && access(path + "/bin/python3", X_OK) == 0
    }

    /// Whoever began with it ended before it was done.
    private func unfinishedByteCode(in path: String) -> ByteCode? {
        guard access(path + "/" + ByteCode.pending, F_OK) == 0 else { return nil }
        return ByteCode(of: path, within: buildTime, log: log)
    }

    private func build(_ recipe: EnvironmentRecipe, _ path: String) async throws -> ByteCode {
        try await remove(path)
        let begun = ContinuousClock.now
        log.notice("building a Python environment", metadata: ["environment": "\(path)", "for": "\(recipe.folder)"])
        do {
            let byteCode = try await EnvironmentBuilder(recipe: recipe, target: path, log: log).build(within: buildTime)
            try await onOwnThread { () throws(FlockError) in try Self.mark(path) }
            log.notice(
                "a Python environment is ready",
                metadata: ["environment": "\(path)", "seconds": "\(ContinuousClock.now - begun)"])
            return byteCode
        } catch {
            // Also without this it would be built anew.
            try? await remove(path)
            throw error
        }
    }

    /// Says that it is ready, and what is in it.
    private static func mark(_ path: String) throws(FlockError) {
        let marker = path + "/" + Self.marker
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = try OpenFile(open(marker + ".new", flags, 0o600), marker)
        try file.write(Bytes(packages(in: path).joined(separator: "\n") + "\n"))
        try file.sync()
        guard rename(marker + ".new", marker) == 0 else { throw FlockError(systemCallFor: marker) }
    }

    /// What is installed, for whoever looks: `name==version`, named as their folders are.
    static func packages(in path: String) -> [String] {
        // A version of Python has a folder in lib; other folders there have no packages.
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: path + "/lib")) ?? []
        let names = versions.flatMap { version in
            // As above.
            (try? FileManager.default.contentsOfDirectory(atPath: "\(path)/lib/\(version)/site-packages")) ?? []
        }
        return names.filter { $0.hasSuffix(".dist-info") }.sorted().map { name in
            name.dropLast(".dist-info".count).split(separator: "-", maxSplits: 1).joined(separator: "==")
        }
    }

    private func remove(_ path: String) async throws(FlockError) {
        try await onOwnThread { () throws(FlockError) in
            guard access(path, F_OK) == 0 else { return }
            do { try FileManager.default.removeItem(atPath: path) } catch {
                throw FlockError(.system, "\(path) cannot be removed: \(error.localizedDescription)")
            }
        }
    }

    // MARK: Collection

    /// Removes environments that nobody uses, but for those used last, and what builders left that died.
    func collect() async {
        do throws(FlockError) {
            let unused = try await onOwnThread { () throws(FlockError) -> [String] in candidates() }
            for candidate in unused {
                let lock = open(candidate + ".lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW)
                guard lock >= 0 else { continue }
                defer { FolderLock.release(lock) }
                guard flock(lock, LOCK_EX | LOCK_NB) == 0 else { continue }
                log.info("removing a Python environment that is not used", metadata: ["environment": "\(candidate)"])
                try await remove(candidate)
            }
        } catch {
            log.warning("a Python environment could not be removed", metadata: ["why": "\(error.message)"])
        }
    }

    private func candidates() -> [String] {
        // An unreadable folder has nothing to collect.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        var ready: [(path: String, used: Int)] = []
        var garbage: [String] = []
        for name in names where ContentHash(name) != nil {
            let path = "\(folder)/\(name)"
            let used = FolderLock.time(of: path + "/" + Self.marker)
            if used > 0 { ready.append((path, used)) } else { garbage.append(path) }
        }
        return garbage + ready.sorted { $0.used > $1.used }.dropFirst(kept).map(\.path)
    }
}
