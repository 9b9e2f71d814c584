// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Foundation
import Testing

@Suite("The cluster's token", .timeLimit(.minutes(1)), .logsOnFailure)
struct TokenTests {
    private let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)

    /// Runs `body` with a token file of its own.
    private func withToken<Result>(
        _ text: String, mode: Int = 0o600, body: (String) async throws -> Result
    ) async throws -> Result {
        let path = NSTemporaryDirectory() + "flock-token-\(UInt64.random(in: .min ... .max))"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        defer { unlink(path) }
        return try await body(path)
    }

    private func connect(to port: Int, tokenFile: String?) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.tokenFile = tokenFile
        configuration.logger = .quiet
        return try await Client.connect(to: "127.0.0.1:\(port)", configuration: configuration)
    }

    @Test("lets nodes and clients that have it work together")
    func right() async throws {
        try await withToken("secret\n") { path in
            try await testCluster(nodes: 2, pipeline, options: .init(tokenFile: path)) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                for item in 0..<10 { #expect(try await inbox.ask(item) == item + 1) }
                try await flock.wait { $0.peers.contains("node-1") }
            }
        }
    }

    @Test("keeps out who has another one or none, and says so")
    func wrong() async throws {
        try await withToken("secret") { path in
            try await testCluster(pipeline, options: .init(tokenFile: path)) { flock in
                let port = flock.nodes[0].port ?? 0
                let missing = await #expect(throws: FlockError.self) { try await connect(to: port, tokenFile: nil) }
                #expect(missing?.code == .unauthenticated)
                let wrong = try await withToken("Secret") { other in
                    await #expect(throws: FlockError.self) { try await connect(to: port, tokenFile: other) }
                }
                #expect(wrong?.code == .unauthenticated)
                #expect(wrong?.description.contains("ecret") == false, "the token is in the message")
                // Those who have it are still served.
                #expect(try await flock.client.inbox(of: pipeline).ask(1) == 2)
            }
        }
    }

    @Test("may be another one for clients, who cannot pass for nodes with it, and must not be the same")
    func clients() async throws {
        try await withToken("secret") { path in
            try await withToken("open") { clients in
                var configuration = NodeConfiguration(port: 0, tokenFile: path, logger: .quiet)
                configuration.clientTokenFile = clients
                let node = Node(pipelines: pipeline, configuration: configuration)
                try await node.start()
                let port = node.port ?? 0
                let client = try await connect(to: port, tokenFile: clients)
                #expect(try await client.inbox(of: pipeline).ask(1) == 2)
                await client.close()
                let error = await #expect(throws: FlockError.self) { try await connect(to: port, tokenFile: path) }
                #expect(error?.code == .unauthenticated && error?.message.contains("for clients") == true)
                await node.shutDown()
                // Nothing would be guarded with one of these.
                for (nodes, word) in [(nil, "none for nodes"), (clients, "make another one")] {
                    configuration.tokenFile = nodes
                    let useless = Node(pipelines: pipeline, configuration: configuration)
                    let refusal = await #expect(throws: FlockError.self) { try await useless.start() }
                    #expect(refusal?.code == .invalidInput && refusal?.message.contains(word) == true)
                }
            }
        }
    }

    @Test("that others may read is refused by nodes and clients, with the command that helps")
    func mode() async throws {
        try await withToken("secret", mode: 0o644) { path in
            let node = Node(
                pipelines: pipeline,
                configuration: NodeConfiguration(port: 0, tokenFile: path, logger: .quiet))
            let refusals = [
                await #expect(throws: FlockError.self) { try await node.start() },
                await #expect(throws: FlockError.self) { try await connect(to: 1, tokenFile: path) },
            ]
            for error in refusals {
                #expect(error?.code == .invalidInput)
                #expect(error?.message.contains("chmod 600 \(path)") == true)
            }
            #expect(node.port == nil)
        }
    }

    @Test("is needed to listen beyond loopback, unless one insists", arguments: ["0.0.0.0", "::"])
    func beyondLoopback(host: String) async throws {
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(host: host, port: 0, logger: .quiet))
        let error = await #expect(throws: FlockError.self) { try await node.start() }
        #expect(error?.code == .unauthenticated)
        #expect(error?.message.contains(host) == true)
        try await withToken("secret") { path in
            for (token, insecure) in [(path, false), (nil, true)] {
                let node = Node(
                    pipelines: pipeline,
                    configuration: NodeConfiguration(
                        host: "0.0.0.0", port: 0, tokenFile: token, insecure: insecure, logger: .quiet))
                try await node.start()
                #expect(node.port != nil)
                await node.shutDown()
            }
        }
    }
}
