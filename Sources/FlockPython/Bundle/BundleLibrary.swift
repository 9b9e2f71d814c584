// Flockwork · Apache-2.0 · see LICENSE

// Serves bundles to other nodes. Whoever holds a hash can check everything that it is given, so a node may ask any
// peer, and several for one bundle. Clients cannot ask: code and models are none of theirs.

internal import Distributed
internal import FlockActors
internal import FlockWire

/// Where the bytes of bundles come from.
protocol BundleSource: Sendable {
    /// `count` bytes, or as many as are left, of a manifest.
    func manifest(of bundle: ContentHash, from offset: Int, count: Int) async throws(FlockError) -> Bytes
    /// The same of a file, by its place in the manifest.
    func file(_ index: Int, of bundle: ContentHash, from offset: Int, count: Int) async throws(FlockError) -> Bytes
}

extension BundleStore: BundleSource {
    func manifest(of bundle: ContentHash, from offset: Int, count: Int) async throws(FlockError) -> Bytes {
        let encoded = try await manifest(of: bundle).encoded
        guard offset <= encoded.count else { throw FlockError(.invalidInput, "an offset behind the end") }
        return encoded.slice(from: offset, count: min(count, encoded.count - offset))
    }

    func file(
        _ index: Int, of bundle: ContentHash, from offset: Int, count: Int
    ) async throws(FlockError) -> Bytes {
        let files = try await manifest(of: bundle).files
        guard files.indices.contains(index) else { throw FlockError(.invalidInput, "a file that is not there") }
        return try await onOwnThread { () throws(FlockError) in
            try open(files[index].path, of: bundle).read(count, from: offset)
        }
    }
}

/// Lets other nodes fetch bundles of this one.
distributed actor BundleLibrary {
    typealias ActorSystem = FlockSystem

    /// Every node's is called like this.
    static let name = "bundles"
    private let source: any BundleSource
    private let models: @Sendable () -> [ModelOffer]
    private let limits: Limits

    init(
        _ source: any BundleSource, offers models: @escaping @Sendable () -> [ModelOffer], limits: Limits,
        actorSystem: FlockSystem
    ) {
        self.source = source
        self.models = models
        self.limits = limits
        self.actorSystem = actorSystem
    }

    /// Has a system serve bundles to nodes, until it stops.
    /// - Parameter offers: Asked again by each who asks.
    static func serve(
        _ source: any BundleSource, offers: @autoclosure @escaping @Sendable () -> [ModelOffer] = [],
        in system: FlockSystem
    ) async {
        _ = await system.named(name, exportedTo: .nodes) {
            BundleLibrary(source, offers: offers, limits: system.limits, actorSystem: system)
        }
    }

    /// What this node serves, each of which it has as bundles.
    distributed func offers() -> [ModelOffer] { models() }

    distributed func manifest(of bundle: String, from offset: Int, count: Int) async throws -> Bytes {
        let hash = try checked(bundle, offset, count)
        return try await source.manifest(of: hash, from: offset, count: count)
    }

    distributed func file(_ index: Int, of bundle: String, from offset: Int, count: Int) async throws -> Bytes {
        let hash = try checked(bundle, offset, count)
        do throws(FlockError) {
            return try await source.file(index, of: hash, from: offset, count: count)
        } catch {
            // Where it lies here is not told.
            throw error.code == .system ? FlockError(.unavailable, "The bundle cannot be read.") : error
        }
    }

    private func checked(_ bundle: String, _ offset: Int, _ count: Int) throws(FlockError) -> ContentHash {
        guard let hash = ContentHash(bundle), offset >= 0, offset <= limits.bundleBytes, count > 0,
            count <= limits.bundleChunkBytes
        else { throw FlockError(.invalidInput, "a request for a bundle that makes no sense") }
        return hash
    }
}
