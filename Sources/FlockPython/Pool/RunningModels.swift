// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Synchronization

/// Where one model runs in this process, and from which folder by now.
final class RunningModels: Sendable {
    /// What changes from one version to the next.
    struct Version: Sendable {
        var folder: String
        var wheelhouse: String?
    }

    private struct Place {
        weak var pool: PythonPool?
    }

    private let state = Mutex<(version: Version?, places: [Place])>((nil, []))

    /// The newest one, if there was one after the first.
    var version: Version? { state.withLock { $0.version } }

    func add(_ pool: PythonPool) {
        state.withLock { state in
            state.places.removeAll { $0.pool == nil }
            state.places.append(Place(pool: pool))
        }
    }

    func remove(_ pool: PythonPool) {
        state.withLock { $0.places.removeAll { $0.pool == nil || $0.pool === pool } }
    }

    func update(to version: Version) { state.withLock { $0.version = version } }

    var pools: [PythonPool] { state.withLock { $0.places.compactMap(\.pool) } }
}

extension PythonModel {
    /// Has the model's code and files in another folder take over wherever this process runs it.
    ///
    /// The new version's environment is made and its `init.sh` runs; then processes of it are started beside the old
    /// ones, then batches go to them, then the old ones finish what they have and end, and their `cleanup.sh` runs.
    /// No request fails for it. The handler's name and the options stay.
    /// - Throws: `pythonFailed` when the new version cannot be started: the old one goes on. `unavailable` while
    ///   another update is under way.
    public func update(to folder: String) async throws {
        try await update(to: RunningModels.Version(folder: folder, wheelhouse: current.options.environment.wheelhouse))
    }

    /// The same, with other wheels.
    func update(to version: RunningModels.Version) async throws {
        let next = at(version)
        _ = try next.folderFound()
        for pool in running.pools { try await pool.replace(with: next) }
        running.update(to: version)
    }

    /// As it was updated last.
    var current: PythonModel { running.version.map { at($0) } ?? self }

    func at(_ version: RunningModels.Version) -> PythonModel {
        var options = options
        options.environment.wheelhouse = version.wheelhouse
        return PythonModel(
            folder: version.folder, module: module, function: function, options: options, running: running,
            title: title)
    }
}
