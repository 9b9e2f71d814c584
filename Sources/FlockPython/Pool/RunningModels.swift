// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Synchronization

/// Where one model runs in this process, and from which folder by now.
final class RunningModels: Sendable {
    private struct Place {
        weak var pool: PythonPool?
    }

    private let state = Mutex<(folder: String?, places: [Place])>((nil, []))

    /// The folder of the newest version, if there was one after the first.
    var folder: String? { state.withLock { $0.folder } }

    func add(_ pool: PythonPool) {
        state.withLock { state in
            state.places.removeAll { $0.pool == nil }
            state.places.append(Place(pool: pool))
        }
    }

    func remove(_ pool: PythonPool) {
        state.withLock { $0.places.removeAll { $0.pool == nil || $0.pool === pool } }
    }

    func update(to folder: String) { state.withLock { $0.folder = folder } }

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
        let next = at(folder)
        _ = try next.folderFound()
        for pool in running.pools { try await pool.replace(with: next) }
        running.update(to: folder)
    }

    /// As it was updated last.
    var current: PythonModel { running.folder.map { at($0) } ?? self }

    private func at(_ folder: String) -> PythonModel {
        PythonModel(folder: folder, module: module, function: function, options: options, running: running)
    }
}
