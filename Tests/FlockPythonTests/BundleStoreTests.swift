// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Foundation
import Testing

@testable import FlockPython

@Suite("bundle store", .timeLimit(.minutes(1)))
struct BundleStoreTests {
    @Test("a folder is copied without what is not the model's, and its name is its content")
    func add() async throws {
        let model = try HandlerFolder("x = 1\n")
        try model.write("model/weights.bin", String(repeating: "w", count: 3 << 20))
        for left in [".git/config", ".env", "__pycache__/handler.pyc", "old.pyc"] { try model.write(left, "secret") }
        let store = TestStore()
        let manifest = try await store.store.add(model.path)
        #expect(manifest.files.map(\.path) == ["handler.py", "model/weights.bin"])
        #expect(manifest.size == 6 + 3 << 20)
        let files = try #require(store.store.files(of: manifest.hash))
        #expect(try String(contentsOfFile: files + "/handler.py", encoding: .utf8) == "x = 1\n")
        // Again, from elsewhere: the same.
        let copy = try HandlerFolder("x = 1\n")
        try copy.write("model/weights.bin", String(repeating: "w", count: 3 << 20))
        #expect(try await store.store.add(copy.path).hash == manifest.hash)
        #expect(try await store.store.manifest(of: manifest.hash).files == manifest.files)
        try await store.store.verify(manifest.hash)
        #expect(try FileManager.default.contentsOfDirectory(atPath: store.path) == ["\(manifest.hash)"])
    }

    @Test("a link in a model's folder is refused, and so are a pipe and a link in place of a folder")
    func links() async throws {
        let store = TestStore()
        for kind in 0..<3 {
            let model = try HandlerFolder("x = 1\n")
            switch kind {
            case 0: symlink("/etc/passwd", model.path + "/passwd")
            case 1: mkfifo(model.path + "/pipe", 0o600)
            default: symlink("/etc", model.path + "/folder")
            }
            let error = await #expect(throws: FlockError.self) { try await store.store.add(model.path) }
            #expect(error?.code == .invalidInput, "\(kind): \(String(describing: error))")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: store.path).isEmpty)
    }

    @Test("bounds of files and bytes hold while a folder is copied")
    func bounds() async throws {
        let model = try HandlerFolder("x = 1\n")
        try model.write("a", "a")
        try model.write("b", "b")
        var limits = Limits()
        limits.bundleFiles = 2
        var error = await #expect(throws: FlockError.self) { try await TestStore(limits).add(model) }
        #expect(error?.limit == .bundleFiles)
        limits.bundleFiles = 3
        limits.bundleBytes = 7
        error = await #expect(throws: FlockError.self) { try await TestStore(limits).add(model) }
        #expect(error?.limit == .bundleBytes)
    }

    @Test("what was changed in the store is noticed")
    func changed() async throws {
        let store = TestStore()
        let manifest = try await store.add(try HandlerFolder("x = 1\n"))
        let path = try #require(store.store.files(of: manifest.hash)) + "/handler.py"
        chmod(path, 0o600)
        try "x = 2\n".write(toFile: path, atomically: false, encoding: .utf8)
        let error = await #expect(throws: FlockError.self) { try await store.store.verify(manifest.hash) }
        #expect(error?.message.contains("handler.py") == true)
    }

    @Test("a link that somebody puts into a bundle that is being written is not followed")
    func planted() throws {
        let store = TestStore()
        let outside = TestStore()
        try CacheFolder.make(store.path)
        try CacheFolder.make(outside.path)
        let fresh = try FreshFolder(in: store.path)
        symlink(outside.path, fresh.path + "/files/folder")
        symlink(outside.path + "/target", fresh.path + "/files/file")
        #expect(Self.isRefused("folder/x", by: fresh))
        #expect(Self.isRefused("file", by: fresh))
        // Nor is a file written twice.
        #expect(!Self.isRefused("once", by: fresh))
        #expect(Self.isRefused("once", by: fresh))
        #expect(try FileManager.default.contentsOfDirectory(atPath: outside.path).isEmpty)
    }

    private static func isRefused(_ path: String, by folder: FreshFolder) -> Bool {
        do {
            _ = try folder.create(path, Limits()).descriptor
            return false
        } catch {
            return error.code == .system
        }
    }

    @Test("of bundles that nobody uses only those used last are kept, and one in use is never removed")
    func collected() async throws {
        let store = TestStore(kept: 1)
        var bundles: [ContentHash] = []
        var hold: BundleHold?
        for number in 0..<5 {
            bundles.append(try await store.add(try HandlerFolder("x = \(number)\n")).hash)
            if number == 0 { hold = try store.store.hold(bundles[0]) }
            store.setBack(bundles[number], seconds: 5000 - number)
        }
        #expect(bundles.map { store.store.files(of: $0) != nil } == [true, false, false, false, true])
        #expect(try String(contentsOfFile: #require(hold).files + "/handler.py", encoding: .utf8) == "x = 0\n")
        hold = nil
        store.store.collect()
        #expect(bundles.map { store.store.files(of: $0) != nil } == [false, false, false, false, true])
        #expect(throws: FlockError.self) { try store.store.hold(bundles[0]) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: store.path) == ["\(bundles[4])"])
    }

    @Test("what a process left that died while it wrote a bundle is removed, and nobody's who still writes")
    func leftBehind() throws {
        let store = TestStore()
        try CacheFolder.make(store.path)
        let fresh = try FreshFolder(in: store.path)
        let dead = store.path + "/" + FreshFolder.prefix + "dead"
        mkdir(dead, 0o700)
        for path in [fresh.path, dead] {
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -5000)], ofItemAtPath: path)
        }
        store.store.collect()
        let left = try FileManager.default.contentsOfDirectory(atPath: store.path)
        #expect(left == [URL(fileURLWithPath: fresh.path).lastPathComponent])
    }

    @Test("a cache folder in which others may write is refused")
    func sharedFolder() async throws {
        let store = TestStore()
        try CacheFolder.make(store.path)
        chmod(store.path, 0o777)
        let error = await #expect(throws: FlockError.self) {
            try await store.add(try HandlerFolder("x = 1\n"))
        }
        #expect(error?.message.contains("others may write") == true)
    }
}

/// A store in a folder that is removed with this object.
final class TestStore: Sendable {
    let path: String
    let store: BundleStore

    init(_ limits: Limits = Limits(), kept: Int = 8) {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("store-\(UUID().uuidString)").path
        store = BundleStore(folder: path, limits: limits, kept: kept)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Has a bundle look as if it was used that long ago.
    func setBack(_ bundle: ContentHash, seconds: Int) {
        let then = timeval(tv_sec: time(nil) - seconds, tv_usec: 0)
        utimes("\(path)/\(bundle)/manifest", [then, then])
    }

    /// Keeps both until it is done.
    func add(_ model: HandlerFolder) async throws -> BundleManifest {
        defer { withExtendedLifetime((self, model)) {} }
        return try await store.add(model.path)
    }
}

extension HandlerFolder {
    /// Adds a file.
    func write(_ file: String, _ text: String) throws {
        let url = URL(fileURLWithPath: path + "/" + file)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try text.write(to: url, atomically: true, encoding: .utf8)
    }
}
