// Flockwork · Apache-2.0 · see LICENSE

import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Foundation
import Testing

@testable import Flockwork

/// What this process holds of the system's resources.
struct ProcessUse: Sendable, CustomStringConvertible {
    var descriptors: Int
    var threads: Int
    var residentBytes: Int

    static func now() throws -> ProcessUse {
        let files = FileManager.default
        let memory = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
        return ProcessUse(
            descriptors: try files.contentsOfDirectory(atPath: "/proc/self/fd").count,
            threads: try files.contentsOfDirectory(atPath: "/proc/self/task").count,
            residentBytes: (Int(memory[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))))
    }

    var description: String { "\(descriptors) descriptors, \(threads) threads, \(residentBytes >> 10) KiB" }
}

@Suite("A node that was stopped", .timeLimit(.minutes(2)))
struct GrowthTests {
    static let pipeline = Pipeline("double", rowsOf: 4).model(.swift(Doubling())).map { $0 + 1 }

    /// Starts a node, connects a client, asks once, stops both.
    static func cycle(_ index: Int) async throws {
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            guard try await inbox.ask([Float(index), 0, 0, 0]) == Float(2 * index + 1) else {
                throw FlockError(.callFailed, "a wrong answer in cycle \(index)")
            }
        }
    }

    // In a process of its own: other tests open sockets and start threads at the same time.
    @Test("leaves no descriptor, thread or memory behind, a hundred times over")
    func hundredNodes() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            for index in 0..<20 { try await Self.cycle(index) }
            let before = try ProcessUse.now()
            for index in 0..<100 { try await Self.cycle(index) }
            let after = try ProcessUse.now()
            print("growth over 100 nodes: \(before) -> \(after)")
            guard after.descriptors == before.descriptors else { fatalError("descriptors: \(before) -> \(after)") }
            // The cooperative pool may not have been at its full size before.
            guard after.threads <= before.threads + 2 else { fatalError("threads: \(before) -> \(after)") }
            // One node with its client has a session's slots (128 KiB) and two read buffers (256 KiB each): a leak of
            // one node in a hundred cycles stays below the bound, of every one is 60 MiB.
            guard after.residentBytes < before.residentBytes + (8 << 20) else {
                fatalError("memory: \(before) -> \(after)")
            }
        }
        let output = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
        if let line = output.split(separator: "\n").first(where: { $0.contains("growth over") }) { print(line) }
    }

    /// Weak references to the parts of a node.
    private struct Parts {
        weak var system: FlockSystem?
        weak var inbox: InboxActor?
        weak var loop: EventLoop?
        weak var client: Client?
        weak var core: InboxCore?
        weak var model: Weighty?

        var left: [String] {
            [
                system.map { _ in "system" }, inbox.map { _ in "inbox" }, loop.map { _ in "loop" },
                client.map { _ in "client" }, core.map { _ in "inbox core" }, model.map { _ in "model" },
            ].compactMap { $0 }
        }
    }

    /// A model that is an object, so that one can see it go.
    private final class Weighty: Model {
        let inputWidth = 4
        let outputWidth = 1
        func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
            for row in 0..<rows.count { scores[row] = 1 }
        }

        /// Does not keep it.
        var source: ModelSource {
            ModelSource(
                name: "weighty",
                load: { [weak self] in
                    guard let self else { throw FlockError(.modelLoadFailed, "gone") }
                    return self
                })
        }
    }

    private func partsOfStopped(closesInbox: Bool) async throws -> Parts {
        let model = Weighty()
        let pipeline = Pipeline("weighty", rowsOf: 4).model(model.source)
        let node = try await OpenNode.start(pipeline)
        let client = try await node.client()
        let inbox = try await client.inbox(of: pipeline)
        #expect(try await inbox.ask([1, 2, 3, 4]) == 1)
        _ = try await inbox.post([[1, 2, 3, 4]])
        let parts = Parts(
            system: node.node.system, inbox: node.node.inbox, loop: node.node.system.loop, client: client,
            core: inbox.core, model: model)
        if closesInbox { await inbox.close() }
        await client.close()
        await node.stop()
        return parts
    }

    /// Tasks that were just resumed may hold the last reference for a moment.
    private func gone(_ parts: Parts) async throws -> [String] {
        var patience = 1000
        try await eventually {
            patience -= 1
            return parts.left.isEmpty || patience == 0
        }
        return parts.left
    }

    @Test("is gone with its client, whether the inbox was closed or not", arguments: [true, false])
    func references(closesInbox: Bool) async throws {
        #expect(try await gone(try await partsOfStopped(closesInbox: closesInbox)) == [])
    }

    @Test("because its start failed is gone too, with the models that it had loaded")
    func failedStart() async throws {
        func start() async throws -> Parts {
            let model = Weighty()
            let pipeline = Pipeline("weighty", rowsOf: 4).model(model.source)
            let first = try await OpenNode.start(Self.pipeline)
            let taken = Node(
                pipelines: pipeline, configuration: NodeConfiguration(port: first.port, logger: .quiet, cores: 2))
            let error = await #expect(throws: FlockError.self) { try await taken.start() }
            #expect(error?.code == .system)
            await first.stop()
            return Parts(model: model)
        }
        #expect(try await gone(try await start()) == [])
    }

    @Test("may be stopped again, and so may its client and inbox, in any order")
    func stopsTwice() async throws {
        for order in 0..<3 {
            let node = try await LocalCluster.start([Self.pipeline])
            let inbox = try await node.client.inbox(of: Self.pipeline)
            #expect(try await inbox.ask([1, 0, 0, 0]) == 3)
            if order == 0 { await node.nodes[0].shutDown() }
            if order == 1 { await node.client.close() }
            await inbox.close()
            await node.stop()
            await node.stop()
            await inbox.close()
            let error = await #expect(throws: FlockError.self) { try await inbox.ask([1, 0, 0, 0]) }
            #expect(error?.code == .shuttingDown)
        }
    }
}
