// Flockwork · Apache-2.0 · see LICENSE

// Every version of a model leaves a bundle behind. Whoever uses one has its folder locked, together with others; only
// what nobody has locked is removed. Locks end with their process, so one that dies leaves nothing behind.

public import FlockWire
internal import Foundation

/// A bundle in use. It is not removed before this object is.
public final class BundleHold: Sendable {
    /// Where its files lie.
    public let files: String
    private let lock: Int32

    fileprivate init(files: String, lock: Int32) {
        self.files = files
        self.lock = lock
    }

    deinit { FolderLock.release(lock) }
}

extension BundleStore {
    /// What somebody is about to use, and has not locked yet, is younger; in nanoseconds.
    private static let youngest = 3_600_000_000_000

    /// Keeps a bundle that is there from being removed.
    /// - Throws: `notFound`.
    public func hold(_ bundle: ContentHash) throws(FlockError) -> BundleHold {
        let path = path(of: bundle)
        if let lock = FolderLock.take(path, LOCK_SH) {
            // When it was used last, for `collect`.
            utimes(path + "/manifest", nil)
            return BundleHold(files: path + "/files", lock: lock)
        }
        throw FlockError(.notFound, "There is no bundle \(bundle) here.")
    }

    func hold(_ bundles: [ContentHash]) throws(FlockError) -> [BundleHold] {
        try bundles.map { bundle throws(FlockError) in try hold(bundle) }
    }

    /// Removes bundles that nobody uses, but for those used last or within an hour, and what processes left that died.
    /// On a thread that may wait for a disk.
    func collect() {
        for path in candidates() {
            guard let lock = FolderLock.take(path, LOCK_EX) else { continue }
            defer { FolderLock.release(lock) }
            // Renamed first: half a bundle must not be found under its name.
            let away = "\(folder)/\(FreshFolder.prefix)\(UUID().uuidString)"
            guard rename(path, away) == 0 else { continue }
            // What cannot be removed is tried again next time.
            try? FileManager.default.removeItem(atPath: away)
        }
    }

    private func candidates() -> [String] {
        // An unreadable folder has nothing to collect.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let old = Int(Date().timeIntervalSince1970 * 1e9) - Self.youngest
        let left = names.filter { $0.hasPrefix(FreshFolder.prefix) }.map { "\(folder)/\($0)" }
            .filter { FolderLock.time(of: $0) < old }
        let used = names.filter { ContentHash($0) != nil }.map { name in
            (path: "\(folder)/\(name)", at: FolderLock.time(of: "\(folder)/\(name)/manifest"))
        }
        return left + used.sorted { $0.at > $1.at }.dropFirst(kept).filter { $0.at < old }.map(\.path)
    }
}
