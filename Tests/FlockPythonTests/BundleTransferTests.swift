// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Flockwork
import Foundation
import Logging
import Synchronization
import Testing

@testable import FlockPython

@Suite("bundles between nodes", .timeLimit(.minutes(1)))
struct BundleTransferTests {
    /// Chunks are small, so that a file has many.
    private static var limits: Limits {
        var limits = Limits()
        limits.bundleChunkBytes = 64 << 10
        return limits
    }

    private static func model() throws -> HandlerFolder {
        let model = try HandlerFolder("def transform_list(items):\n    return items\n")
        try model.write("model/big.bin", String(repeating: "0123456789abcdef", count: 64 << 10))
        try model.write("empty.txt", "")
        return model
    }

    @Test("a node fetches a bundle from a peer, and has it then")
    func fetched() async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let manifest = try await from.add(try Self.model())
        try await withPeers([("node-2", from.store)]) { system in
            let got = try await to.store.fetch(manifest.hash, from: ["node-2"], over: system)
            #expect(got.files == manifest.files)
            try await to.store.verify(manifest.hash)
            // Of no peer, since it is here.
            _ = try await to.store.fetch(manifest.hash, from: [], over: system)
            let other = ContentHash(of: Bytes("another"))
            let error = await #expect(throws: FlockError.self) {
                try await to.store.fetch(other, from: ["node-2"], over: system)
            }
            #expect(error?.code == .notFound, "\(String(describing: error))")
            #expect(error?.message.contains(from.path) == false)
        }
    }

    @Test("a peer that dies in the middle is left for the next one, which goes on where it was")
    func dies() async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let manifest = try await from.add(try Self.model())
        let dying = Spoiled(from.store)
        let counted = Spoiled(from.store)
        let peers = try await Peers.start([("node-2", dying), ("node-3", counted)])
        dying.onPart = { number in if number == 5 { Task { await peers.stop(0) } } }
        dying.waitsForEverAfter = 5
        _ = try await to.store.fetch(manifest.hash, from: ["node-2", "node-3"], over: peers.own)
        try await to.store.verify(manifest.hash)
        #expect(dying.parts == 5)
        // 16 parts of the large file, one of the small one; the empty one has none.
        #expect(counted.parts == 17 - 4)
        await peers.stop()
    }

    @Test("when the last peer dies the fetch fails, and nothing is left behind")
    func allDie() async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let manifest = try await from.add(try Self.model())
        let dying = Spoiled(from.store)
        let peers = try await Peers.start([("node-2", dying)])
        dying.onPart = { number in if number == 5 { Task { await peers.stop(0) } } }
        dying.waitsForEverAfter = 5
        let error = await #expect(throws: FlockError.self) {
            try await to.store.fetch(manifest.hash, from: ["node-2"], over: peers.own)
        }
        #expect(error?.code == .unavailable)
        #expect(try FileManager.default.contentsOfDirectory(atPath: to.path).isEmpty)
        await peers.stop()
    }

    @Test("a peer that lies is found out, and the next one is asked", arguments: Spoiled.Lie.allCases)
    func lies(lie: Spoiled.Lie) async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let manifest = try await from.add(try Self.model())
        let liar = Spoiled(from.store)
        liar.lie = lie
        try await withPeers([("node-2", liar), ("node-3", from.store)]) { system in
            let alone = TestStore(Self.limits)
            let error = await #expect(throws: FlockError.self) {
                try await alone.store.fetch(manifest.hash, from: ["node-2"], over: system)
            }
            #expect(error?.code == .protocolViolation || error?.code == .invalidInput, "\(String(describing: error))")
            #expect(alone.store.files(of: manifest.hash) == nil)
            _ = try await to.store.fetch(manifest.hash, from: ["node-2", "node-3"], over: system)
            try await to.store.verify(manifest.hash)
        }
    }

    @Test("a manifest that is what its hash says is refused all the same when its paths are hostile")
    func hostileManifest() async throws {
        var writer = ByteWriter()
        writer.write(UInt8(1))
        writer.writeVarint(1)
        writer.writeText("../../escape")
        writer.writeVarint(3)
        ContentHash(of: Bytes("abc")).bytes.withUnsafeBytes { writer.write($0) }
        let encoded = writer.finish()
        let store = TestStore(Self.limits)
        let hostile = Spoiled(store.store)
        hostile.manifest = encoded
        try await withPeers([("node-2", hostile)]) { system in
            let error = await #expect(throws: FlockError.self) {
                try await store.store.fetch(ContentHash(of: encoded), from: ["node-2"], over: system)
            }
            #expect(error?.code == .invalidInput, "\(String(describing: error))")
            #expect(hostile.parts == 0)
        }
    }

    @Test("a node that comes with nothing gets all models that are offered, their wheels, and how to run them")
    func shelf() async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let wheels = WheelFolder()
        try await wheels.add("hello", "1.0")
        let (plain, needy) = (try Self.model(), try Self.model())
        try needy.write("requirements.txt", "hello\n")
        var offered = ModelShelf(from.store)
        try await offered.add(plain.path, wheels: nil, settings: "{}")
        try await offered.add(needy.path, wheels: wheels.wheels, settings: "second")
        var configuration = NodeConfiguration(id: "node-2", clusterID: "test", limits: Self.limits)
        configuration.logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let (store, offers) = (from.store, offered.offers)
        let loop = try EventLoop(name: "node-1")
        let system = FlockSystem(
            identity: Identity(clusterID: "test", node: "node-1", role: .node), loop: loop, limits: Self.limits,
            log: configuration.logger)
        await BundleLibrary.serve(store, offers: offers, in: system)
        let port = try await system.listen(host: "127.0.0.1", port: 0, insecure: false)
        configuration.join = ["127.0.0.1:1", "127.0.0.1:\(port)"]
        let got = try await ModelShelf.fetched(from: configuration, into: to.store)
        #expect(got.offers == offers && got.offers.map(\.settings) == ["{}", "second"])
        #expect(got.offers.map(\.folder) == [plain, needy].map { String($0.path.split(separator: "/").last ?? "") })
        for bundle in [got.offers[0].bundle, got.offers[1].bundle] { try await to.store.verify(bundle) }
        let files = try FileManager.default.contentsOfDirectory(
            atPath: got.files(of: try #require(got.offers[1].wheels)))
        #expect(files == ["hello-1.0-py3-none-any.whl"] && got.offers[0].wheels == nil)
        await system.stop()
        await loop.stop()
    }

    @Test("a client cannot fetch bundles")
    func client() async throws {
        let (from, to) = (TestStore(Self.limits), TestStore(Self.limits))
        let manifest = try await from.add(try Self.model())
        try await withPeers([("node-2", from.store)], as: .client) { system in
            let error = await #expect(throws: FlockError.self) {
                try await to.store.fetch(manifest.hash, from: ["node-2"], over: system)
            }
            #expect(error?.code == .notFound)
        }
    }

    private func withPeers(
        _ sources: [(NodeID, any BundleSource)], as role: PeerRole = .node, _ body: (FlockSystem) async throws -> Void
    ) async throws {
        let peers = try await Peers.start(sources, as: role)
        do {
            try await body(peers.own)
        } catch {
            await peers.stop()
            throw error
        }
        await peers.stop()
    }
}

/// Systems on loopback that serve bundles, and one that is connected with them.
private struct Peers {
    let own: FlockSystem
    let others: [FlockSystem]

    static func start(_ sources: [(NodeID, any BundleSource)], as role: PeerRole = .node) async throws -> Peers {
        func system(_ node: NodeID, _ role: PeerRole) throws -> FlockSystem {
            FlockSystem(
                identity: Identity(clusterID: "test", node: node, role: role),
                loop: try EventLoop(name: node.rawValue), limits: Limits(),
                log: Logger(label: node.rawValue) { _ in SwiftLogNoOpLogHandler() })
        }
        let own = try system("node-1", role)
        var others: [FlockSystem] = []
        for (node, source) in sources {
            let other = try system(node, .node)
            await BundleLibrary.serve(source, in: other)
            let port = try await other.listen(host: "127.0.0.1", port: 0, insecure: false)
            _ = try await own.connect(host: "127.0.0.1", port: port)
            others.append(other)
        }
        return Peers(own: own, others: others)
    }

    func stop(_ index: Int) async { await others[index].stop() }

    func stop() async {
        for system in [own] + others {
            await system.stop()
            await system.loop.stop()
        }
    }
}

/// A store that does not do what it should.
final class Spoiled: BundleSource {
    enum Lie: String, CaseIterable, Sendable {
        case otherBytes, shorter, longer, otherManifest, endlessManifest, garbageManifest
    }

    private struct State {
        var parts = 0
        var lie: Lie?
        var manifest: Bytes?
        var onPart: (@Sendable (Int) -> Void)?
        var waitsForEverAfter = Int.max
    }

    private let store: BundleStore
    private let state = Mutex(State())

    init(_ store: BundleStore) { self.store = store }

    var parts: Int { state.withLock { $0.parts } }
    var lie: Lie? {
        get { state.withLock { $0.lie } }
        set { state.withLock { $0.lie = newValue } }
    }
    var manifest: Bytes? {
        get { state.withLock { $0.manifest } }
        set { state.withLock { $0.manifest = newValue } }
    }
    var onPart: (@Sendable (Int) -> Void)? {
        get { state.withLock { $0.onPart } }
        set { state.withLock { $0.onPart = newValue } }
    }
    var waitsForEverAfter: Int {
        get { state.withLock { $0.waitsForEverAfter } }
        set { state.withLock { $0.waitsForEverAfter = newValue } }
    }

    func manifest(of bundle: ContentHash, from offset: Int, count: Int) async throws(FlockError) -> Bytes {
        if let manifest { return manifest.slice(from: offset, count: min(count, manifest.count - offset)) }
        switch lie {
        case .otherManifest: return try BundleManifest([]).encoded
        case .endlessManifest: return Bytes([UInt8](repeating: 1, count: count))
        case .garbageManifest: return Bytes([1, 0xFF, 0xFF, 0xFF])
        default: return try await store.manifest(of: bundle, from: offset, count: count)
        }
    }

    func file(_ index: Int, of bundle: ContentHash, from offset: Int, count: Int) async throws(FlockError) -> Bytes {
        let (number, onPart, last) = state.withLock { state in
            state.parts += 1
            return (state.parts, state.onPart, state.waitsForEverAfter)
        }
        onPart?(number)
        if number >= last { for await _ in AsyncStream<Void>(unfolding: { await Self.never() }) {} }
        let bytes = try await store.file(index, of: bundle, from: offset, count: count)
        switch lie {
        case .otherBytes: return Bytes(bytes.array.map { $0 ^ 1 })
        case .shorter: return bytes.slice(from: 0, count: bytes.count - 1)
        case .longer: return Bytes(bytes.array + [0])
        default: return bytes
        }
    }

    /// Until the task is cancelled.
    private static func never() async -> Void? {
        let stream = AsyncStream<Void> { _ in }
        for await _ in stream {}
        return nil
    }
}
