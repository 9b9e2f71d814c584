// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Glibc
import Testing

@testable import FlockTransport

@Suite("Data folder", .timeLimit(.minutes(1)))
struct DataFolderTests {
    private func withFolder(_ body: (EventLoop, DataFolder, String) async throws -> Void) async throws {
        var template = Array("/tmp/flockwork-folder-XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template).map { String(cString: $0) })
        let path = made + "/data"
        let loop = try EventLoop(name: "folder")
        do {
            let folder = try DataFolder(path: path, on: loop)
            try await body(loop, folder, path)
            for name in try folder.names() + ["lock"] { unlink("\(path)/\(name)") }
        }
        await loop.stop()
        rmdir(path)
        rmdir(made)
    }

    private func write(
        _ name: String, at offset: Int, _ text: String, _ folder: DataFolder, _ loop: EventLoop
    ) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            loop.execute {
                folder.write(name, at: offset, Bytes(text)) {
                    #expect(loop.isCurrent)
                    continuation.resume(with: $0.mapError { $0 as any Error })
                }
            }
        }
    }

    @Test("what was written is read back, also by another opening of the folder")
    func writes() async throws {
        try await withFolder { loop, folder, _ in
            try await write("wal-1", at: 0, "hello ", folder, loop)
            try await write("wal-1", at: 6, "world", folder, loop)
            #expect(try folder.read("wal-1")?.text == "hello world")
            #expect(try folder.read("wal-2") == nil)
            #expect(try folder.names() == ["wal-1"])
        }
    }

    @Test("a file is replaced as a whole, and its draft does not stay")
    func replaces() async throws {
        try await withFolder { loop, folder, _ in
            for text in ["first", "a longer second one", "3"] {
                try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                    loop.execute {
                        folder.replace("voter", with: Bytes(text)) {
                            continuation.resume(with: $0.mapError { $0 as any Error })
                        }
                    }
                }
                #expect(try folder.read("voter")?.text == text)
            }
            #expect(try folder.names() == ["voter"])
        }
    }

    @Test("a second opening is refused while the first lasts, and says why")
    func locks() async throws {
        try await withFolder { loop, _, path in
            let error = #expect(throws: FlockError.self) { try DataFolder(path: path, on: loop) }
            #expect(error?.message.contains("in use by another process (\(getpid()))") == true)
        }
    }

    @Test("a folder is free when its loop has ended, whoever holds it still")
    func freed() async throws {
        try await withFolder { _, _, path in
            let (first, second) = (try EventLoop(name: "first"), try EventLoop(name: "second"))
            let held = try DataFolder(path: path + "/more", on: first)
            await first.stop()
            let taken = try DataFolder(path: path + "/more", on: second)
            #expect(try taken.names() == held.names())
            await second.stop()
            #expect(throws: FlockError.self) { try DataFolder(path: path + "/more", on: second) }
            unlink("\(path)/more/lock")
            rmdir("\(path)/more")
        }
    }

    @Test("a write that the system refuses is an error with the file's name")
    func refuses() async throws {
        try await withFolder { loop, folder, path in
            mkdir("\(path)/wal-1", 0o700)
            let error = await #expect(throws: FlockError.self) { try await write("wal-1", at: 0, "x", folder, loop) }
            #expect(error?.message.contains("wal-1") == true)
            rmdir("\(path)/wal-1")
        }
    }

    private func replace(
        _ name: String, with bytes: Bytes, _ folder: DataFolder, _ loop: EventLoop
    ) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            loop.execute {
                folder.replace(name, with: bytes) { continuation.resume(with: $0.mapError { $0 as any Error }) }
            }
        }
    }

    @Test("the folder and its files are for their owner only, and a folder that is not is refused")
    func modes() async throws {
        try await withFolder { loop, folder, path in
            try await write("wal-1", at: 0, "x", folder, loop)
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o700)
            #expect(stat("\(path)/wal-1", &status) == 0 && status.st_mode & 0o777 == 0o600)
            let open = "\(path)/open"
            mkdir(open, 0o700)
            chmod(open, 0o750)
            let error = #expect(throws: FlockError.self) { try DataFolder(path: open, on: loop) }
            #expect(error?.message.contains("chmod 700") == true)
            rmdir(open)
        }
    }

    @Test("a draft that a crash left behind is gone with the next start, and was never listed")
    func drafts() async throws {
        try await withFolder { loop, folder, path in
            let other = path + "/second"
            mkdir(other, 0o700)
            let draft = open("\(other)/voter.new", O_CREAT | O_WRONLY, 0o600)
            #expect(draft >= 0)
            close(draft)
            let second = try DataFolder(path: other, on: loop)
            #expect(try second.names().isEmpty)
            #expect(access("\(other)/voter.new", F_OK) != 0)
            unlink("\(other)/lock")
            rmdir(other)
        }
    }

    @Test("a disk without room is an error, and the file stays the old one", .enabled(if: DataFolderTests.isRoot))
    func full() async throws {
        try await withFolder { loop, _, path in
            let small = path + "/small"
            mkdir(small, 0o700)
            try #require(mount("tmpfs", small, "tmpfs", 0, "size=64k,mode=700") == 0)
            defer {
                umount2(small, Int32(MNT_DETACH))
                rmdir(small)
            }
            let folder = try DataFolder(path: small, on: loop)
            try await replace("voter", with: Bytes("old"), folder, loop)
            let large = Bytes([UInt8](repeating: 7, count: 256 << 10))
            let error = await #expect(throws: FlockError.self) { try await replace("voter", with: large, folder, loop) }
            #expect(error?.message.contains("No space left") == true && error?.message.contains("voter") == true)
            #expect(try folder.read("voter")?.text == "old")
            // The draft went with the error: there is room again.
            try await replace("voter", with: Bytes("new"), folder, loop)
            #expect(try folder.read("voter")?.text == "new")
        }
    }

    private static let isRoot = geteuid() == 0

    @Test("after the loop's end a write is refused at once")
    func afterStop() async throws {
        try await withFolder { loop, _, path in
            let other = try EventLoop(name: "stopped")
            let second = try DataFolder(path: path + "/more", on: other)
            await other.stop()
            let error = await #expect(throws: FlockError.self) { try await write("x", at: 0, "x", second, other) }
            #expect(error?.code == .shuttingDown)
            unlink("\(path)/more/lock")
            rmdir("\(path)/more")
        }
    }

    @Test("a stopping loop finishes the writes that were begun")
    func stops() async throws {
        try await withFolder { loop, folder, path in
            let done = Counter(goal: 20)
            let other = try EventLoop(name: "stopping")
            let second = try DataFolder(path: path + "/more", on: other)
            other.execute {
                for number in 0..<20 { second.write("f\(number)", at: 0, Bytes("x")) { _ in done.add() } }
            }
            await other.stop()
            await done.reachGoal()
            #expect(try second.names().count == 20)
            for name in try second.names() + ["lock"] { unlink("\(path)/more/\(name)") }
            rmdir("\(path)/more")
        }
    }
}
