// Flockwork · Apache-2.0 · see LICENSE

// A node's data folder. Writes are synced before they count, a new or replaced file's name as well, and a lock keeps a
// second process out: two that write one log would ruin both.

public import FlockWire
internal import Glibc

/// The folder that holds what a node must not forget. One process has it at a time, and only its owner may read it. It
/// is given back when its loop has ended, whoever holds it still, or when nobody does.
///
/// Reading and opening block and are meant for the start; writing never blocks the loop. Of one file one write may be
/// under way at a time.
// Unchecked: the descriptors do not change after `init`; the rest is asked of the operating system.
public final class DataFolder: @unchecked Sendable {
    private static let lockName = "lock"
    private static let draftSuffix = ".new"

    /// Where it is.
    public let path: String
    private let loop: EventLoop
    private let descriptor: Int32
    private let lock: Int32

    /// Opens the folder, and makes it (mode 0700) if it is not there; drafts that a crash left behind are deleted.
    /// - Throws: `system` that names the folder: another process has it, others than its owner may enter it, or the
    ///   operating system refuses.
    public init(path: String, on loop: EventLoop) throws(FlockError) {
        if mkdir(path, 0o700) != 0 && errno != EEXIST { throw Self.error("cannot be made", path) }
        let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw Self.error("cannot be opened", path) }
        do throws(FlockError) {
            try Self.checkOwner(of: folder, path)
            lock = try Self.locked(folder, path)
        } catch {
            Glibc.close(folder)
            throw error
        }
        self.path = path
        self.loop = loop
        descriptor = folder
        for name in try names(drafts: true) where name.hasSuffix(Self.draftSuffix) { unlinkat(descriptor, name, 0) }
        guard loop.atEnd({ [weak self] in self?.release() }) else {
            throw FlockError(.shuttingDown, "\(path): event loop \(loop.name) was stopped")
        }
    }

    /// A child that is being made has the descriptor until it runs its program: closing alone would leave it locked.
    private func release() { _ = flock(lock, LOCK_UN) }

    deinit {
        release()
        Glibc.close(lock)
        Glibc.close(descriptor)
    }

    /// What is in it opens sessions: nobody else may look.
    private static func checkOwner(of folder: Int32, _ path: String) throws(FlockError) {
        var status = stat()
        guard fstat(folder, &status) == 0 else { throw error("cannot be opened", path) }
        guard status.st_uid == geteuid() else {
            throw FlockError(.system, "data folder \(path) belongs to another user: give each node its own folder")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw FlockError(.system, "data folder \(path) may be entered by others: `chmod 700 \(path)`")
        }
    }

    /// The lock goes with the process, however that ends.
    private static func locked(_ folder: Int32, _ path: String) throws(FlockError) -> Int32 {
        let file = openat(folder, lockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw error("cannot be locked", path) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            let isTaken = errno == EWOULDBLOCK
            let refused = error("cannot be locked", path)
            let holder = isTaken ? text(of: file) : ""
            Glibc.close(file)
            guard isTaken else { throw refused }
            let process = holder.isEmpty ? "" : " (\(holder))"
            throw FlockError(
                .system, "data folder \(path) is in use by another process\(process): give each node its own")
        }
        // For whoever is refused; the lock does not depend on it.
        let process = Array(String(getpid()).utf8)
        if ftruncate(file, 0) == 0 { _ = pwrite(file, process, process.count, 0) }
        return file
    }

    private static func text(of file: Int32) -> String {
        var digits = [UInt8](repeating: 0, count: 20)
        let count = pread(file, &digits, digits.count, 0)
        return String(decoding: digits.prefix(max(count, 0)), as: UTF8.self)
    }

    /// Names of the files in it, ascending.
    public func names() throws(FlockError) -> [String] { try names(drafts: false) }

    private func names(drafts: Bool) throws(FlockError) -> [String] {
        guard let stream = opendir(path) else { throw Self.error("cannot be listed", path) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            // By offset: as a tuple the name would be copied with all 256 bytes, more than the entry has.
            let start = UnsafeRawPointer(entry) + MemoryLayout<dirent>.offset(of: \.d_name)!
            let name = String(cString: start.assumingMemoryBound(to: CChar.self))
            let isDraft = name.hasSuffix(Self.draftSuffix)
            if name != "." && name != ".." && name != Self.lockName && (drafts || !isDraft) { names.append(name) }
        }
        return names.sorted()
    }

    /// The content of a file; nil if there is none.
    public func read(_ name: String) throws(FlockError) -> Bytes? {
        let file = openat(descriptor, name, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw Self.error("cannot be read", "\(path)/\(name)")
        }
        defer { Glibc.close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw Self.error("cannot be read", "\(path)/\(name)") }
        let storage = ByteStorage(capacity: Int(status.st_size))
        var at = 0
        while at < storage.capacity {
            let count = storage.withMutableBytes { pread(file, $0.baseAddress! + at, storage.capacity - at, off_t(at)) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw Self.error("cannot be read", "\(path)/\(name)") }
            if count == 0 { break }
            at += count
        }
        return Bytes(storage: storage, start: 0, count: at)
    }

    /// Writes at an offset and syncs; at offset 0 the file is made anew and its name synced, too. `completion` runs on
    /// the loop, where this is called, and never from inside the call. After an error nothing is known of the file's
    /// end.
    public func write(
        _ name: String, at offset: Int, _ bytes: Bytes, completion: @escaping (Result<Void, FlockError>) -> Void
    ) {
        perform(completion) { [self] () throws(FlockError) in
            let flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (offset == 0 ? O_CREAT | O_TRUNC : 0)
            try writeSynced(name, flags: flags, at: offset, bytes)
            if offset == 0 { try syncNames() }
        }
    }

    /// Puts a file in place of what was there, wholly or not at all. `completion` runs on the loop, where this is
    /// called, and never from inside the call. After an error the file is the old one, or the new one.
    public func replace(_ name: String, with bytes: Bytes, completion: @escaping (Result<Void, FlockError>) -> Void) {
        perform(completion) { [self] () throws(FlockError) in
            let draft = name + Self.draftSuffix
            do throws(FlockError) {
                try writeSynced(draft, flags: O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_CREAT | O_TRUNC, at: 0, bytes)
                guard renameat(descriptor, draft, descriptor, name) == 0 else {
                    throw Self.error("cannot be replaced", "\(path)/\(name)")
                }
            } catch {
                // It takes room on a disk that may have none.
                unlinkat(descriptor, draft, 0)
                throw error
            }
            try syncNames()
        }
    }

    /// Deletes a file that is not needed. One that stays, after a crash or an error, does no harm.
    public func remove(_ name: String) {
        perform({ _ in }) { [self] () throws(FlockError) in unlinkat(descriptor, name, 0) }
    }

    /// Deletes files; when it returns they are gone for good. Blocks: for the start.
    public func delete(_ names: [String]) throws(FlockError) {
        for name in names where unlinkat(descriptor, name, 0) != 0 && errno != ENOENT {
            throw Self.error("cannot be deleted", "\(path)/\(name)")
        }
        if !names.isEmpty { try syncNames() }
    }

    private func perform(
        _ completion: @escaping (Result<Void, FlockError>) -> Void,
        _ work: @escaping @Sendable () throws(FlockError) -> Void
    ) {
        guard !loop.isStopping else {
            // What was begun before is finished; this would come after the loop's end.
            let error = FlockError(.shuttingDown, "\(path): event loop \(loop.name) was stopped")
            // Called on this loop, where it was made.
            nonisolated(unsafe) let completion = completion
            return loop.ownWork.append(.call { completion(.failure(error)) })
        }
        loop.offload {
            Result { () throws(FlockError) in try work() }
        } completion: {
            completion($0)
        }
    }

    private func writeSynced(_ name: String, flags: Int32, at offset: Int, _ bytes: Bytes) throws(FlockError) {
        let file = openat(descriptor, name, flags, 0o600)
        guard file >= 0 else { throw Self.error("cannot be written", "\(path)/\(name)") }
        defer { Glibc.close(file) }
        var at = 0
        while at < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(file, $0.baseAddress! + at, bytes.count - at, off_t(offset + at))
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw Self.error("cannot be written", "\(path)/\(name)") }
            at += count
        }
        guard fdatasync(file) == 0 else { throw Self.error("cannot be synced", "\(path)/\(name)") }
    }

    private func syncNames() throws(FlockError) {
        guard fsync(descriptor) == 0 else { throw Self.error("cannot be synced", path) }
    }

    private static func error(_ what: String, _ path: String) -> FlockError {
        FlockError(.system, "\(path) \(what): \(String(cString: strerror(errno)))")
    }
}
