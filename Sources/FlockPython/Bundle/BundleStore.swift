// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
internal import Foundation

/// The bundles that a node has, each in a folder that is called like its hash.
///
/// Several processes may use one store.
public struct BundleStore: Sendable {
    /// Of this user alone.
    public let folder: String
    let limits: Limits
    /// Bundles that nobody uses and that are kept all the same: those used last.
    let kept: Int

    /// A store in `folder`, by default `bundles` in Flockwork's cache folder.
    /// - Parameter kept: Bundles that are kept though no process uses them.
    public init(folder: String? = nil, limits: Limits = Limits(), kept: Int = 8) {
        self.folder = folder ?? CacheFolder.standard + "/bundles"
        self.limits = limits
        self.kept = kept
    }

    /// Where the files of a bundle lie, if it is there. They are not to be changed, and may be removed once nobody has
    /// used the bundle for an hour: see `hold`.
    public func files(of bundle: ContentHash) -> String? {
        let path = "\(folder)/\(bundle)/files"
        return access(path, R_OK | X_OK) == 0 ? path : nil
    }

    /// Copies a model's folder into the store. Left out are names that begin with a dot, `__pycache__` and `*.pyc`.
    /// - Throws: `invalidInput` for a link, a device, a name that no bundle may have, or too many files or bytes;
    ///   `system`.
    public func add(_ model: String) async throws(FlockError) -> BundleManifest {
        try await onOwnThread { () throws(FlockError) in
            let fresh = try fresh()
            do throws(FlockError) {
                var copy = BundleCopy(to: fresh, limits: limits)
                let root = try OpenFile(Glibc.open(model, O_RDONLY | O_DIRECTORY | O_CLOEXEC), model)
                try copy.add(root.descriptor, "")
                let manifest = try BundleManifest(copy.files, limits: limits)
                try fresh.commit(manifest, to: path(of: manifest.hash))
                collect()
                return manifest
            } catch {
                fresh.discard()
                throw error
            }
        }
    }

    /// What a bundle that is there holds.
    /// - Throws: `notFound`.
    public func manifest(of bundle: ContentHash) async throws(FlockError) -> BundleManifest {
        try await onOwnThread { () throws(FlockError) in
            let flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC
            let descriptor = Glibc.open(path(of: bundle) + "/manifest", flags)
            guard descriptor >= 0 else { throw FlockError(.notFound, "There is no bundle \(bundle) here.") }
            let file = try OpenFile(descriptor, "")
            let manifest = try BundleManifest(
                try file.read(BundleManifest.longest(limits), from: 0), limits: limits)
            guard manifest.hash == bundle else {
                throw FlockError(.invalidInput, "The bundle \(bundle) in the store was changed.")
            }
            return manifest
        }
    }

    /// Whether every file of a bundle is still what its manifest says.
    /// - Throws: `invalidInput` that names a file that is not.
    public func verify(_ bundle: ContentHash) async throws(FlockError) {
        let manifest = try await manifest(of: bundle)
        try await onOwnThread { () throws(FlockError) in
            for file in manifest.files {
                let open = try open(file.path, of: bundle)
                var hasher = ContentHasher()
                var size = 0
                while size <= file.size {
                    let bytes = try open.read(limits.bundleChunkBytes, from: size)
                    if bytes.isEmpty { break }
                    bytes.withUnsafeBytes { hasher.update($0) }
                    size += bytes.count
                }
                guard size == file.size, hasher.finish() == file.hash else {
                    throw FlockError(.invalidInput, "\(file.path) of the bundle \(bundle) in the store was changed.")
                }
            }
        }
    }

    func path(of bundle: ContentHash) -> String { "\(folder)/\(bundle)" }

    func fresh() throws(FlockError) -> FreshFolder {
        try CacheFolder.make(folder)
        return try FreshFolder(in: folder)
    }

    /// A file of a bundle that is there, to be read on a thread that may wait.
    func open(_ file: String, of bundle: ContentHash) throws(FlockError) -> OpenFile {
        let path = "\(path(of: bundle))/files/\(file)"
        return try OpenFile(Glibc.open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), "\(file) of the bundle \(bundle)")
    }
}

/// Copies a folder, and notes what it copied.
private struct BundleCopy {
    let target: FreshFolder
    let limits: Limits
    var files: [BundleManifest.File] = []
    var size = 0

    init(to target: FreshFolder, limits: Limits) {
        self.target = target
        self.limits = limits
    }

    /// The folder behind a descriptor, which is `prefix` in the bundle.
    mutating func add(_ folder: Int32, _ prefix: String) throws(FlockError) {
        for name in try names(folder, prefix) {
            let path = prefix + name
            var status = stat()
            guard fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
                throw FlockError(systemCallFor: path)
            }
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                // Also a bound for how deep this goes.
                _ = try BundleNames.components(of: path + "/x", limits)
                let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
                let inner = try OpenFile(openat(folder, name, flags), path)
                try add(inner.descriptor, path + "/")
            case S_IFREG:
                let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
                try copy(OpenFile(openat(folder, name, flags), path), path)
            default:
                throw FlockError(
                    .invalidInput, "\(path) is neither a file nor a folder; a bundle has no links: copy what is meant.")
            }
        }
    }

    private func names(_ folder: Int32, _ prefix: String) throws(FlockError) -> [String] {
        let descriptor = dup(folder)
        guard descriptor >= 0, let list = fdopendir(descriptor) else {
            if descriptor >= 0 { close(descriptor) }
            throw FlockError(systemCallFor: "the folder \(prefix)")
        }
        defer { closedir(list) }
        var names: [String] = []
        while let entry = readdir(list) {
            let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            guard let name = String(validating: bytes, as: UTF8.self) else {
                throw FlockError(
                    .invalidInput, "A file in \(prefix) of the model's folder has a name that is not UTF-8.")
            }
            if !name.hasPrefix("."), name != "__pycache__", !name.hasSuffix(".pyc") { names.append(name) }
        }
        return names.sorted()
    }

    private mutating func copy(_ source: consuming OpenFile, _ path: String) throws(FlockError) {
        guard files.count < limits.bundleFiles else {
            throw FlockError(
                .invalidInput, "The model's folder has more than \(limits.bundleFiles) files.", limit: .bundleFiles)
        }
        guard try source.status().st_mode & S_IFMT == S_IFREG else {
            throw FlockError(.invalidInput, "\(path) was replaced while it was read.")
        }
        let file = try target.create(path, limits)
        var hasher = ContentHasher()
        var offset = 0
        while true {
            let bytes = try source.read(limits.bundleChunkBytes, from: offset)
            if bytes.isEmpty { break }
            offset += bytes.count
            guard bytes.count <= limits.bundleBytes - size else {
                throw FlockError(
                    .invalidInput, "The model's folder has more than \(limits.bundleBytes) bytes.", limit: .bundleBytes)
            }
            size += bytes.count
            bytes.withUnsafeBytes { hasher.update($0) }
            try file.write(bytes)
        }
        try file.sync()
        files.append(BundleManifest.File(path: path, size: offset, hash: hasher.finish()))
    }
}
