// Flockwork · Apache-2.0 · see LICENSE

// Where a bundle is written before it has its name. Every folder and file on the way is one that this code has just
// made, and is opened relative to the one before: a link that somebody puts there meanwhile is not followed.

internal import FlockWire
internal import Foundation

/// A folder that nobody else knows, in a store. Used on threads that may wait for a disk.
final class FreshFolder: Sendable {
    /// What its name begins with.
    static let prefix = "incoming-"

    let path: String
    private let root: Int32
    /// Tells that somebody works on it.
    private let lock: Int32

    init(in store: String) throws(FlockError) {
        var template = Array("\(store)/\(Self.prefix)XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw FlockError(systemCallFor: "no new folder in \(store)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let lock = FolderLock.take(path, LOCK_SH) else { throw FlockError(systemCallFor: path) }
        self.lock = lock
        guard mkdir(path + "/files", 0o700) == 0 else {
            FolderLock.release(lock)
            throw FlockError(systemCallFor: path)
        }
        root = open(path + "/files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard root >= 0 else {
            FolderLock.release(lock)
            throw FlockError(systemCallFor: path)
        }
    }

    deinit {
        close(root)
        FolderLock.release(lock)
    }

    /// A new file in `files`, open for writing.
    func create(_ file: String, _ limits: Limits) throws(FlockError) -> OpenFile {
        let components = try BundleNames.components(of: file, limits)
        var folder = try OpenFile(dup(root), file)
        for name in components.dropLast() {
            guard mkdirat(folder.descriptor, name, 0o700) == 0 || errno == EEXIST else {
                throw FlockError(systemCallFor: file)
            }
            folder = try OpenFile(
                openat(folder.descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), file)
        }
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        return try OpenFile(openat(folder.descriptor, components[components.count - 1], flags, 0o400), file)
    }

    /// Takes a file out again, which was not what it should be.
    func remove(_ file: String) throws(FlockError) {
        guard unlinkat(root, file, 0) == 0 else { throw FlockError(systemCallFor: file) }
    }

    /// Gives the folder its name, when all files are there. Another one of the name is as good.
    func commit(_ manifest: BundleManifest, to target: String) throws(FlockError) {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = try OpenFile(open(path + "/manifest", flags, 0o400), "the manifest of \(manifest.hash)")
        try file.write(manifest.encoded)
        try file.sync()
        guard rename(path, target) == 0 else {
            guard errno == ENOTEMPTY || errno == EEXIST else { throw FlockError(systemCallFor: target) }
            return discard()
        }
        let store = try OpenFile(open(target + "/..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), target)
        try store.sync()
    }

    func discard() {
        // What cannot be removed is in the way of nobody.
        try? FileManager.default.removeItem(atPath: path)
    }
}

extension OpenFile {
    func write(_ bytes: UnsafeRawBufferPointer) throws(FlockError) {
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw FlockError(systemCallFor: "a file of a bundle cannot be written") }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    func write(_ bytes: Bytes) throws(FlockError) {
        try bytes.withUnsafeBytes { (raw) throws(FlockError) in try write(raw) }
    }

    /// Up to `count` bytes from `offset` on; fewer at the end of the file.
    func read(_ count: Int, from offset: Int) throws(FlockError) -> Bytes {
        let storage = ByteStorage(capacity: count)
        var filled = 0
        try storage.withMutableBytes { (target) throws(FlockError) in
            while filled < count {
                let place = UnsafeMutableRawBufferPointer(rebasing: target[filled..<count])
                let got = pread(descriptor, place.baseAddress, place.count, offset + filled)
                if got < 0 && errno == EINTR { continue }
                guard got >= 0 else { throw FlockError(systemCallFor: "a file of a bundle cannot be read") }
                if got == 0 { break }
                filled += got
            }
        }
        return Bytes(storage: storage, start: 0, count: filled)
    }

    /// What was written outlives a loss of power.
    func sync() throws(FlockError) {
        guard fsync(descriptor) == 0 else { throw FlockError(systemCallFor: "a file of a bundle cannot be kept") }
    }

    func status() throws(FlockError) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FlockError(systemCallFor: "a file of a bundle") }
        return status
    }
}
