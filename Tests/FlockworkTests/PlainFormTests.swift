// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("plain forms", .timeLimit(.minutes(1)))
struct PlainFormTests {
    struct Named: Codable, Sendable { var name: String }

    private func withClient(
        _ pipelines: any ServablePipeline..., body: (Client) async throws -> Void
    ) async throws {
        let logs = LogCapture()
        let node = Node(
            pipelines: pipelines, configuration: NodeConfiguration(port: 0, logger: logs.logger(for: "node-1")))
        try await node.start()
        do {
            let client = try await Client.connect(to: "127.0.0.1:\(node.port ?? 0)")
            do { try await body(client) } catch {
                await client.close()
                throw error
            }
            await client.close()
        } catch {
            await node.shutDown()
            throw error
        }
        await node.shutDown()
    }

    @Test("a pipeline of plain data is called by its name and form, without its steps")
    func called() async throws {
        let sums = Pipeline("sums", rowsOf: 3).map { $0.values.reduce(0, +) }
        let halves = Pipeline("halves", rowsOf: 2).map { row in Row(row.values.map { $0 / 2 }) }
        let shout = Pipeline("shout", of: String.self).map { $0.uppercased() }
        try await withClient(sums, halves, shout) { client in
            let sum = try await client.inbox(named: "sums", of: Row.self, width: 3, returning: Float.self)
            #expect(try await sum.ask([1, 2, 4]) == 7)
            let half = try await client.inbox(named: "halves", of: Row.self, width: 2, returning: Row.self)
            #expect(try await half.ask([1, 3]) == [0.5, 1.5])
            let loud = try await client.inbox(named: "shout", of: String.self, returning: String.self)
            #expect(try await loud.ask("hey") == "HEY")
        }
    }

    @Test("a wrong width, kind or name is refused, and the error says what the pipeline takes")
    func refused() async throws {
        let sums = Pipeline("sums", rowsOf: 3).map { $0.values.reduce(0, +) }
        try await withClient(sums) { client in
            let width = await #expect(throws: FlockError.self) {
                try await client.inbox(named: "sums", of: Row.self, width: 4, returning: Float.self)
            }
            #expect(width?.code == .incompatibleNode)
            #expect(width?.message.contains("rows of 3 floats -> a number") == true, "\(String(describing: width))")
            let kind = await #expect(throws: FlockError.self) {
                try await client.inbox(named: "sums", of: String.self, returning: String.self)
            }
            #expect(kind?.code == .incompatibleNode)
            let name = await #expect(throws: FlockError.self) {
                try await client.inbox(named: "sum", of: Row.self, width: 3, returning: Float.self)
            }
            #expect(name?.code == .notFound)
            let type = await #expect(throws: FlockError.self) {
                try await client.inbox(named: "sums", of: Named.self, returning: Float.self)
            }
            #expect(type?.code == .invalidInput)
        }
    }

    @Test("a client sees which pipelines there are, and which of them it can call without their types")
    func listed() async throws {
        let names = Pipeline("names", of: Named.self).map { $0.name }
        let sums = Pipeline("sums", rowsOf: 3).map { $0.values.reduce(0, +) }
        try await withClient(names, sums) { client in
            let all = try await client.pipelines()
            #expect(all.map(\.name) == ["names", "sums"])
            #expect(all.map(\.form) == [nil, PlainForm(of: Row.self, width: 3, returning: Float.self)])
        }
    }
}
