// Flockwork · Apache-2.0 · see LICENSE

internal import Foundation

/// Locks of folders, among processes.
enum FolderLock {
    /// The descriptor that holds it, if nobody has one that excludes it and the folder is still there.
    static func take(_ path: String, _ kind: Int32) -> Int32? {
        let lock = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard lock >= 0 else { return nil }
        var locked = stat()
        var named = stat()
        // Whoever removes a folder has renamed it, with the lock.
        if flock(lock, kind | LOCK_NB) == 0, fstat(lock, &locked) == 0, lstat(path, &named) == 0,
            locked.st_ino == named.st_ino
        {
            return lock
        }
        close(lock)
        return nil
    }

    /// A child that is being made has the descriptor until it runs its program: closing alone would leave it locked.
    static func release(_ lock: Int32) {
        _ = flock(lock, LOCK_UN)
        close(lock)
    }

    /// When a file was written or used last, in nanoseconds; 0 if it is not there.
    static func time(of file: String) -> Int {
        var status = stat()
        guard stat(file, &status) == 0 else { return 0 }
        return Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec)
    }
}
