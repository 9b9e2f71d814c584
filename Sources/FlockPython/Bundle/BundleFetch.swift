// Flockwork · Apache-2.0 · see LICENSE

// The other side of `BundleLibrary`. Nothing that a peer says is believed before its hash was compared; a peer that is
// lost, or does not tell the truth, is left for the next one, and what was received in whole is kept.

internal import Distributed
public import FlockActors
public import FlockWire
internal import Synchronization

extension BundleStore {
    /// Has a bundle from the first of these nodes that has it, unless it is here already.
    ///
    /// The nodes are to be connected with `system`, and to share their bundles. A node that fails in the middle is left
    /// for the next one.
    /// - Throws: `notFound` if none has it; the last node's error if all failed; `system`.
    public func fetch(
        _ bundle: ContentHash, from peers: [NodeID], over system: FlockSystem
    ) async throws -> BundleManifest {
        if files(of: bundle) != nil { return try await manifest(of: bundle) }
        var sources: [RemoteBundle] = []
        for peer in peers { sources.append(try RemoteBundle(bundle, at: peer, over: system, limits: limits)) }
        var fetch = BundleFetch(bundle: bundle, sources: sources)
        let manifest = try await fetch.manifest(limits)
        let fresh = try await onOwnThread { () throws(FlockError) in try self.fresh() }
        do {
            for (index, file) in manifest.files.enumerated() { try await fetch.file(index, file, into: fresh, limits) }
            try await onOwnThread { () throws(FlockError) in
                try fresh.commit(manifest, to: path(of: bundle))
                collect()
            }
        } catch {
            // It has failed for a reason of its own.
            try? await onOwnThread { () throws(FlockError) in fresh.discard() }
            throw error
        }
        return manifest
    }

    /// Lets the nodes that `system` is connected with fetch the bundles of this store.
    public func share(over system: FlockSystem) async { await BundleLibrary.serve(self, in: system) }
}

/// A bundle at a peer.
private struct RemoteBundle {
    let node: NodeID
    private let bundle: ContentHash
    private let library: BundleLibrary
    private let chunk: Int

    init(_ bundle: ContentHash, at node: NodeID, over system: FlockSystem, limits: Limits) throws {
        self.bundle = bundle
        self.node = node
        chunk = limits.bundleChunkBytes
        library = try BundleLibrary.resolve(id: ActorAddress(named: BundleLibrary.name, on: node), using: system)
    }

    /// Time for one answer.
    private static let patience = Duration.seconds(20)

    func manifest(_ limits: Limits) async throws -> BundleManifest {
        let longest = BundleManifest.longest(limits)
        var writer = ByteWriter(capacity: 4096)
        while true {
            let offset = writer.count
            let part = try await FlockSystem.$deadline.withValue(Self.patience) {
                try await library.manifest(of: "\(bundle)", from: offset, count: chunk)
            }
            guard part.count <= chunk, writer.count + part.count <= longest else { throw lie("a manifest too long") }
            writer.write(part)
            if part.count < chunk { break }
        }
        let encoded = writer.finish()
        guard ContentHash(of: encoded) == bundle else { throw lie("another manifest") }
        return try BundleManifest(encoded, limits: limits)
    }

    /// The next bytes of a file: all that were asked for.
    func part(of file: Int, size: Int, from offset: Int) async throws -> Bytes {
        let count = min(chunk, size - offset)
        let part = try await FlockSystem.$deadline.withValue(Self.patience) {
            try await library.file(file, of: "\(bundle)", from: offset, count: count)
        }
        guard part.count == count else { throw lie("\(part.count) bytes instead of \(count)") }
        return part
    }

    func lie(_ what: String) -> FlockError {
        FlockError(.protocolViolation, "\(node) gave \(what) for the bundle \(bundle).", node: node)
    }
}

/// A bundle on its way.
private struct BundleFetch {
    let bundle: ContentHash
    /// Those that have not failed.
    var sources: [RemoteBundle]
    private var last: FlockError?

    init(bundle: ContentHash, sources: [RemoteBundle]) {
        self.bundle = bundle
        self.sources = sources
    }

    /// Asks one peer after the other, and does without those that fail.
    private mutating func asking<Value>(_ body: (RemoteBundle) async throws -> Value) async throws -> Value {
        while let source = sources.first {
            do {
                return try await body(source)
            } catch {
                try Task.checkCancellation()
                let known = (error as? FlockError) ?? source.lie("an answer that cannot be read")
                // That it does not have the bundle says less than how another one failed.
                if last == nil || known.code != .notFound { last = known }
                sources.removeFirst()
            }
        }
        throw last ?? FlockError(.notFound, "No node is known that has the bundle \(bundle).")
    }

    mutating func manifest(_ limits: Limits) async throws -> BundleManifest {
        try await asking { try await $0.manifest(limits) }
    }

    /// Receives a file, if need be from several peers, and compares it.
    mutating func file(
        _ index: Int, _ file: BundleManifest.File, into fresh: FreshFolder, _ limits: Limits
    ) async throws {
        var isDone = false
        while !isDone {
            let writer = try await onOwnThread { () throws(FlockError) in
                try BundleFileWriter(file, into: fresh, limits)
            }
            var givers: [NodeID] = []
            while writer.offset < file.size {
                let part = try await asking { source in
                    if givers.last != source.node { givers.append(source.node) }
                    return try await source.part(of: index, size: file.size, from: writer.offset)
                }
                try await onOwnThread { () throws(FlockError) in try writer.append(part) }
            }
            isDone = try await onOwnThread { () throws(FlockError) in try writer.end() }
            if isDone { break }
            try await onOwnThread { () throws(FlockError) in try fresh.remove(file.path) }
            // Of several, any may have lied: the last one shows by itself what it has.
            guard givers.count <= 1 else { continue }
            last = FlockError(
                .protocolViolation, "\(file.path.debugDescription) of the bundle \(bundle) is not what it should be.",
                node: givers.first)
            guard let giver = givers.first, sources.contains(where: { $0.node != giver }) else {
                throw last ?? FlockError(.protocolViolation, "A file of a bundle is wrong.")
            }
            sources.removeAll { $0.node == giver }
        }
    }
}

/// A file of a bundle on its way. Used by one thread at a time, which may wait.
private final class BundleFileWriter: Sendable {
    private struct State: ~Copyable {
        let open: OpenFile
        var hasher = ContentHasher()
        var offset = 0

        init(_ open: consuming OpenFile) { self.open = open }
    }

    private let file: BundleManifest.File
    private let state: Mutex<State>

    init(_ file: BundleManifest.File, into fresh: FreshFolder, _ limits: Limits) throws(FlockError) {
        self.file = file
        state = Mutex(State(try fresh.create(file.path, limits)))
    }

    /// Bytes that are there.
    var offset: Int { state.withLock { $0.offset } }

    func append(_ part: Bytes) throws(FlockError) {
        try state.withLock { (state) throws(FlockError) in
            try state.open.write(part)
            part.withUnsafeBytes { state.hasher.update($0) }
            state.offset += part.count
        }
    }

    /// Whether it is the file that it should be.
    func end() throws(FlockError) -> Bool {
        try state.withLock { (state) throws(FlockError) in
            try state.open.sync()
            return state.hasher.finish() == file.hash
        }
    }
}
