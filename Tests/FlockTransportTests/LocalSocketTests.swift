// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Foundation
import Logging
import Testing

@testable import FlockTransport

@Suite("Sockets in the file system", .timeLimit(.minutes(1)))
struct LocalSocketTests {
    private func withFolder(_ body: (String, EventLoop) async throws -> Void) async throws {
        let folder = NSTemporaryDirectory() + "flock-\(UInt32.random(in: 0 ... .max))"
        #expect(mkdir(folder, 0o700) == 0)
        let loop = try EventLoop(name: "local")
        do {
            try await body(folder, loop)
        } catch {
            await loop.stop()
            throw error
        }
        await loop.stop()
        try FileManager.default.removeItem(atPath: folder)
    }

    private func bind(
        _ path: String, _ loop: EventLoop, onConnection: @escaping @Sendable (Connection) -> Void = { _ in }
    ) async throws -> Listener {
        try await Listener.bind(
            path: path, on: loop, identity: .node(), limits: Limits(), log: .quiet, onConnection: onConnection)
    }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode & 0o777 : 0
    }

    @Test("frames go both ways, only the owner may connect, and the name goes with the listener")
    func echoes() async throws {
        try await withFolder { folder, loop in
            let path = folder + "/s"
            let listener = try await bind(path, loop, onConnection: echo)
            #expect(mode(path) == 0o600)
            let connection = try await Dialer.connect(path: path, on: loop, identity: .client(), limits: Limits())
            let answer = Promise<String>()
            await loop.run {
                connection.onFrame = { answer.fulfil(String(decoding: $0.body.array, as: UTF8.self)) }
                connection.send(.call) { $0.write(Bytes(Array("hello".utf8))) }
            }
            #expect(await answer.value == "hello")
            await loop.run { connection.close(FlockError(.cancelled, "enough")) }
            await listener.close()
            #expect(mode(path) == 0, "the name is gone")
        }
    }

    @Test("a socket that a process left behind is replaced, one that is in use is not")
    func leftOver() async throws {
        try await withFolder { folder, loop in
            let path = folder + "/s"
            let left = try LocalSocket(listeningAt: path)
            left.close()
            #expect(mode(path) == 0o600)
            let error = await #expect(throws: FlockError.self) {
                try await Dialer.connect(path: path, on: loop, identity: .client(), limits: Limits())
            }
            #expect(error?.code == .unavailable)
            let first = try await bind(path, loop)
            let second = await #expect(throws: FlockError.self) { try await bind(path, loop) }
            #expect(second?.message.contains("another process listens there") == true)
            #expect(mode(path) == 0o600, "the first one's")
            await first.close()
        }
    }

    @Test("a file that is no socket stays, and paths that no socket can have are refused")
    func wrongPaths() async throws {
        try await withFolder { folder, loop in
            let path = folder + "/file"
            try Data("mine".utf8).write(to: URL(fileURLWithPath: path))
            let error = await #expect(throws: FlockError.self) { try await bind(path, loop) }
            #expect(error?.message.contains("something else") == true)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
            let long = await #expect(throws: FlockError.self) {
                try await bind(folder + "/" + String(repeating: "x", count: 200), loop)
            }
            #expect(long?.code == .invalidInput && long?.message.contains("1 to 107 bytes") == true)
            let nowhere = await #expect(throws: FlockError.self) { try await bind(folder + "/no/s", loop) }
            #expect(nowhere?.code == .system)
        }
    }
}
