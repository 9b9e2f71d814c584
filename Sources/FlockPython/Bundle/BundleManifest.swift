// Flockwork · Apache-2.0 · see LICENSE

// What a folder of a model holds, as it goes from node to node. A manifest that exists has passed every check: where
// one comes from does not matter after that. One content has one encoding, so the hash of the encoding is the bundle's
// name.

public import FlockWire

/// The files of a bundle, by path.
public struct BundleManifest: Sendable, Hashable {
    /// A file of a bundle.
    public struct File: Sendable, Hashable {
        /// Relative, its components separated by `/`.
        public let path: String
        /// Bytes.
        public let size: Int
        /// Of its content.
        public let hash: ContentHash

        /// Checked when it becomes part of a manifest.
        public init(path: String, size: Int, hash: ContentHash) {
            self.path = path
            self.size = size
            self.hash = hash
        }
    }

    /// In the order of their paths' bytes.
    public let files: [File]
    /// The name of the bundle: the hash of `encoded`.
    public let hash: ContentHash
    /// Files' bytes together.
    public let size: Int
    let encoded: Bytes

    /// A bundle of these files.
    /// - Throws: `invalidInput` that names the first path that is not allowed, or the bound that is passed.
    public init(_ files: [File], limits: Limits = Limits()) throws(FlockError) {
        try self.init(sorted: files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }, limits)
    }

    private init(sorted files: [File], _ limits: Limits) throws(FlockError) {
        guard files.count <= limits.bundleFiles else {
            throw FlockError(
                .invalidInput, "A bundle of \(files.count) files; at most \(limits.bundleFiles).", limit: .bundleFiles)
        }
        var names = BundleNames()
        var total = 0
        for file in files {
            try names.add(file.path, limits)
            guard file.size >= 0, file.size <= limits.bundleBytes - total else {
                throw FlockError(
                    .invalidInput, "A bundle of more than \(limits.bundleBytes) bytes.", limit: .bundleBytes)
            }
            total += file.size
        }
        var writer = ByteWriter(capacity: 64 + 80 * files.count)
        writer.write(Self.format)
        writer.writeVarint(UInt64(files.count))
        for file in files {
            writer.writeText(file.path)
            writer.writeVarint(UInt64(file.size))
            file.hash.bytes.withUnsafeBytes { writer.write($0) }
        }
        self.files = files
        size = total
        encoded = writer.finish()
        hash = ContentHash(of: encoded)
    }

    private static let format: UInt8 = 1

    /// Reads what `encoded` gives, from somebody who is not trusted.
    /// - Throws: `invalidInput`.
    init(_ bytes: Bytes, limits: Limits) throws(FlockError) {
        var files: [File] = []
        do throws(WireError) {
            var reader = ByteReader(bytes)
            guard try reader.read(UInt8.self) == Self.format else { throw .malformed("a manifest's format") }
            let least = 3 + ContentHash.size
            let count = try reader.readCount(
                of: "files", limit: limits.bundleFiles, named: .bundleFiles, minimumSize: least)
            files.reserveCapacity(count)
            for _ in 0..<count {
                let path = try reader.readText(of: "path", limit: limits.bundlePathBytes, named: .bundlePathBytes)
                let size = try reader.readVarint()
                guard size <= UInt64(limits.bundleBytes) else { throw .overLimit(.bundleBytes, "bytes of a file") }
                files.append(File(path: path, size: Int(size), hash: try ContentHash(from: &reader)))
            }
            try reader.finish()
        } catch {
            throw FlockError(
                .invalidInput, "A bundle's manifest cannot be read: \(error)", limit: Limit(of: error))
        }
        try self.init(files, limits: limits)
        // Sorted, without names that come twice, and each number written in the shortest way.
        guard encoded == bytes else { throw FlockError(.invalidInput, "A bundle's manifest is not in its only form.") }
    }

    /// Bytes of the longest manifest within the limits.
    static func longest(_ limits: Limits) -> Int { 16 + limits.bundleFiles * (limits.bundlePathBytes + 64) }
}

extension BundleManifest {
    /// By their hashes.
    public static func == (left: BundleManifest, right: BundleManifest) -> Bool { left.hash == right.hash }
    public func hash(into hasher: inout Hasher) { hasher.combine(hash) }
}

/// The names of a bundle so far.
struct BundleNames {
    /// Folders that hold each other.
    private static let depth = 32
    /// Files and folders as a file system sees them that does not tell upper from lower case, and as they are.
    private var seen: [String: (path: [UInt8], isFile: Bool)] = [:]

    /// - Throws: `invalidInput` for a name that no bundle may have, or that is another file's on some file system.
    mutating func add(_ path: String, _ limits: Limits) throws(FlockError) {
        let components = try Self.components(of: path, limits)
        var prefix = ""
        for (place, component) in components.enumerated() {
            prefix += (place == 0 ? "" : "/") + component
            let isFile = place == components.count - 1
            // Some letters are two in upper case, and some look alike only there.
            let folded = prefix.uppercased().lowercased()
            guard let other = seen[folded] else {
                seen[folded] = (Array(prefix.utf8), isFile)
                continue
            }
            guard !isFile, !other.isFile, other.path.elementsEqual(prefix.utf8) else {
                throw Self.refusal(path, "is there already, or differs from another one in case only")
            }
        }
    }

    /// The names on the way to a file.
    static func components(of path: String, _ limits: Limits) throws(FlockError) -> [String] {
        guard path.utf8.count <= limits.bundlePathBytes else {
            var error = refusal(path, "is longer than \(limits.bundlePathBytes) bytes")
            error.limit = .bundlePathBytes
            throw error
        }
        guard path.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\\") }) else {
            throw refusal(path, "has a backslash or a control character")
        }
        let components = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { String(Substring($0)) }
        guard components.count <= depth else { throw refusal(path, "has more than \(depth) parts") }
        for component in components {
            guard !component.isEmpty, component != ".", component != "..", component.utf8.count <= 255 else {
                throw refusal(path, "is absolute, leaves its folder or has a part that is no name")
            }
        }
        return components
    }

    private static func refusal(_ path: String, _ why: String) -> FlockError {
        FlockError(.invalidInput, "The path \(path.prefix(80).debugDescription) of a bundle \(why).")
    }
}
