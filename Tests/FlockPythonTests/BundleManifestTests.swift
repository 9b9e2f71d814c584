// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockPython

@Suite("bundle manifests")
struct BundleManifestTests {
    private static func file(_ path: String, _ size: Int = 1) -> BundleManifest.File {
        BundleManifest.File(path: path, size: size, hash: ContentHash(of: Bytes(path)))
    }

    @Test("a SHA-256 is that of the standard")
    func hash() {
        #expect(
            "\(ContentHash(of: Bytes("abc")))" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let hash = ContentHash(of: Bytes("x"))
        #expect(ContentHash("\(hash)") == hash)
        for bad in [
            "", "ba78", "\(hash)".uppercased(), "\(hash)0", "../../../../etc/passwd", "\(hash)".dropLast() + "g",
        ] {
            #expect(ContentHash(bad) == nil, "\(bad)")
        }
    }

    @Test("a manifest is the same in whichever order its files come, and is read back as it was")
    func roundTrip() throws {
        let files = ["handler.py", "model/weights.bin", "model/ü.txt", "wheels/a-1-py3-none-any.whl"].map {
            Self.file($0)
        }
        let one = try BundleManifest(files)
        let other = try BundleManifest(files.reversed())
        #expect(one == other && one.files == other.files && one.size == 4)
        let read = try BundleManifest(one.encoded, limits: Limits())
        #expect(read.files == one.files && read.hash == one.hash)
        #expect(try BundleManifest(files.dropLast()).hash != one.hash)
    }

    @Test(
        "a path is refused that leaves its folder or is no plain name",
        arguments: [
            "", "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./a", "a/./b", "a//b", "a/", "a\0b", "a\\b",
            "C:\\x", "a\nb", "a\u{7F}", String(repeating: "x", count: 256), String(repeating: "x/", count: 33) + "x",
            String(repeating: "long/", count: 110) + "x",
        ])
    func hostilePath(path: String) {
        let error = #expect(throws: FlockError.self) { try BundleManifest([Self.file("handler.py"), Self.file(path)]) }
        #expect(error?.code == .invalidInput)
        // It is told without its control characters, and not at any length.
        #expect(error?.message.contains("\0") == false && (error?.message.count ?? 0) < 300)
    }

    @Test(
        "names are refused that some file system takes for one",
        arguments: [
            ["a", "a"], ["Model.py", "model.py"], ["Dir/a", "dir/b"], ["a", "a/b"], ["A", "a/b"],
            ["stra\u{DF}e", "STRASSE"],
            ["\u{E9}.py", "e\u{301}.py"], ["\u{212A}", "k"],
        ])
    func colliding(paths: [String]) {
        #expect(throws: FlockError(.invalidInput, "")) { try BundleManifest(paths.map { Self.file($0) }) }
    }

    @Test("files and bytes are bounded, also where a sum would overflow")
    func bounds() throws {
        var limits = Limits()
        limits.bundleFiles = 2
        limits.bundleBytes = 100
        _ = try BundleManifest([Self.file("a", 50), Self.file("b", 50)], limits: limits)
        let long = #expect(throws: FlockError.self) {
            try BundleManifest([Self.file(String(repeating: "long/", count: 110) + "x")])
        }
        #expect(long?.limit == .bundlePathBytes)
        for files in [
            [Self.file("a"), Self.file("b"), Self.file("c")], [Self.file("a", 50), Self.file("b", 51)],
            [Self.file("a", .max), Self.file("b", .max)], [Self.file("a", -1)],
        ] {
            #expect(throws: FlockError(.invalidInput, "")) { try BundleManifest(files, limits: limits) }
        }
    }

    @Test(
        "bytes that are no manifest are refused: cut off, changed, extended, unsorted",
        arguments: [1, 2, 3] as [UInt64])
    func hostileBytes(seed: UInt64) throws {
        print("seed \(seed)")
        let manifest = try BundleManifest(["a/b", "c", "d/e/f"].map { Self.file($0, 300) })
        let good = manifest.encoded.array
        for count in 0..<good.count {
            #expect(throws: FlockError.self) { try BundleManifest(Bytes(Array(good[..<count])), limits: Limits()) }
        }
        #expect(throws: FlockError.self) { try BundleManifest(Bytes(good + [0]), limits: Limits()) }
        // A count of 2^63 files, of which no memory is taken.
        let many = [good[0]] + Array(repeating: 0xFF, count: 9) + [0x01]
        #expect(throws: FlockError.self) { try BundleManifest(Bytes(many), limits: Limits()) }
        var unsorted = ByteWriter()
        unsorted.write(UInt8(1))
        unsorted.writeVarint(2)
        for path in ["b", "a"] {
            unsorted.writeText(path)
            unsorted.writeVarint(1)
            ContentHash(of: .empty).bytes.withUnsafeBytes { unsorted.write($0) }
        }
        let swapped = unsorted.finish()
        #expect(throws: FlockError.self) { try BundleManifest(swapped, limits: Limits()) }
        var random = SeededRandom(seed: seed)
        for _ in 0..<3000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: 0...255, using: &random)
            }
            // What is still a manifest is another one, or the same.
            if let read = try? BundleManifest(Bytes(bytes), limits: Limits()) {
                #expect((read.hash == manifest.hash) == (bytes == good))
                for file in read.files { #expect(!file.path.hasPrefix("/") && !file.path.contains("..//")) }
            }
        }
    }
}
