// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockActors
import FlockTestKit
import FlockTransport
import FlockWire
import Foundation
import Logging
import Testing

@testable import FlockPython
@testable import Flockwork

@Suite("versions of models on nodes", .timeLimit(.minutes(2)))
struct ModelVersionTests {
    /// A cluster of nodes in this process, each with a store of its own; the first one has an admin socket.
    private final class Nodes {
        let folder = NSTemporaryDirectory() + "flock-versions-\(UInt32.random(in: 0 ... .max))"
        let token: String
        let ports: [Int]
        var nodes: [Node] = []
        var stores: [TestStore] = []

        init() throws {
            token = folder + "/token"
            ports = try FreePorts.find(2)
            try #require(mkdir(folder, 0o700) == 0)
            try #require(
                FileManager.default.createFile(
                    atPath: token, contents: Data("a token that nobody else has".utf8),
                    attributes: [.posixPermissions: 0o600]))
        }

        var socket: String { folder + "/admin.sock" }

        func start(_ folder: HandlerFolder, options: PythonModel.Options) async throws {
            let place = nodes.count
            let model = PythonModel.python(folder.path, options: options, title: "shout")
            let pipeline = Pipeline("shout", of: String.self).model(model, instances: .perNode(1))
            stores.append(TestStore(kept: 0))
            var configuration = NodeConfiguration(
                id: NodeID("node-\(place)"), port: ports[place], tokenFile: token,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, cores: 1)
            configuration.join = ["127.0.0.1:\(ports[0])"]
            configuration.bootstrap = place == 0 ? 1 : nil
            configuration.adminSocket = place == 0 ? socket : nil
            configuration.serve(ModelVersions([ServedModel(name: "shout", model: model)], store: stores[place].store))
            let node = Node(pipelines: [pipeline], configuration: configuration)
            nodes.append(node)
            try await node.start()
            try await node.joined()
        }

        func stop() async throws {
            for node in nodes.reversed() { await node.abandon() }
            try FileManager.default.removeItem(atPath: folder)
        }
    }

    private func withNodes(_ body: (Nodes) async throws -> Void) async throws {
        let nodes = try Nodes()
        do {
            try await body(nodes)
        } catch {
            try await nodes.stop()
            throw error
        }
        try await nodes.stop()
    }

    @Test("wheels go along with a new version, to nodes that have none")
    func wheels() async throws {
        let wheels = WheelFolder()
        try await wheels.add("flockthing", "2", value: "two")
        let plain = try HandlerFolder("def transform_list(items):\n    return ['one' for x in items]\n")
        let needy = try HandlerFolder(
            "import flockthing\ndef transform_list(items):\n    return [flockthing.value for x in items]\n")
        try needy.write("requirements.txt", "flockthing==2\n")
        try await withNodes { nodes in
            var options = wheels.options
            options.environment.wheelhouse = nil
            for _ in 0..<2 { try await nodes.start(plain, options: options) }
            let admin = try await Operator.connect(to: nodes.socket)
            let update = try await admin.update("shout", to: needy.path, wheelhouse: wheels.wheels)
            #expect(update.isDone && update.nodes.map(\.node) == ["node-0", "node-1"], "\(update)")
            #expect(update.nodes.allSatisfy { $0.outcome == .updated }, "\(update)")
            for node in nodes.nodes {
                let inbox = try await node.inbox(
                    of: Pipeline("shout", of: String.self).model(
                        .python(plain.path, title: "shout"), instances: .perNode(1)))
                for _ in 0..<20 { #expect(try await inbox.ask("x") == "two") }
            }
            // What a node runs is there still, when all that nobody uses is gone.
            for node in nodes.stores {
                let names = try FileManager.default.contentsOfDirectory(atPath: node.path)
                let bundles = names.compactMap { ContentHash($0) }
                #expect(bundles.count == 2 && bundles.contains(update.version))
                for bundle in bundles { node.setBack(bundle, seconds: 5000) }
                node.store.collect()
                for bundle in bundles { #expect(node.store.files(of: bundle) != nil) }
            }
            // The same content: nobody starts a worker for it.
            var children: [Int32] = []
            // The old ones end, and a spare comes, in their own time.
            try await eventually {
                let all = try await nodes.nodes[1].status().children
                children = all.map(\.process)
                return all.map(\.state).sorted() == ["serving", "spare"]
            }
            let again = try await admin.update("shout", to: needy.path, wheelhouse: wheels.wheels)
            #expect(again.isDone && again.nodes.allSatisfy { $0.outcome == .unchanged }, "\(again)")
            #expect(try await nodes.nodes[1].status().children.map(\.process) == children)
            await admin.close()
        }
    }

    @Test("neither a client nor a stranger with the nodes' token has a node run what he likes")
    func strangers() async throws {
        let folder = try HandlerFolder("def transform_list(items):\n    return ['one' for x in items]\n")
        let evil = try HandlerFolder("def transform_list(items):\n    return ['evil' for x in items]\n")
        try await withNodes { nodes in
            try await nodes.start(folder, options: HandlerFolder.options)
            let store = TestStore(Limits())
            let version = ModelVersion(model: "shout", bundle: try await store.add(evil).hash)
            for role in PeerRole.allCases {
                let loop = try EventLoop(name: "stranger")
                let system = FlockSystem(
                    identity: Identity(
                        clusterID: "flockwork", node: "stranger", role: role, token: try Token(file: nodes.token)),
                    loop: loop, limits: Limits(), log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                    announcement: try Announcement(pipelines: []).encoded(limits: Limits()))
                await BundleLibrary.serve(store.store, in: system)
                let node = try await system.connect(host: "127.0.0.1", port: nodes.ports[0]).identity.node
                let updates = try ModelUpdates.resolve(
                    id: ActorAddress(named: ModelUpdates.name, on: node), using: system)
                let orders = try ModelOperator.resolve(
                    id: ActorAddress(named: ModelOperator.name, on: node), using: system)
                var error = await #expect(throws: FlockError.self) {
                    try await updates.prepare(version, from: "stranger")
                }
                if role == .client {
                    #expect(error?.code == .notFound, "\(error as Any)")
                    error = await #expect(throws: FlockError.self) { _ = try await updates.adopt(version) }
                    #expect(error?.code == .notFound, "\(error as Any)")
                } else {
                    #expect(error?.message.contains("is no other member") == true, "\(role): \(error as Any)")
                    #expect(try await updates.adopt(version).code == .invalidInput, "it was not prepared")
                }
                error = await #expect(throws: FlockError.self) {
                    _ = try await orders.update("shout", to: evil.path, wheelhouse: nil)
                }
                #expect(error?.code == .notFound, "\(role): \(error as Any)")
                await system.stop()
                await loop.stop()
            }
            #expect(nodes.stores[0].store.files(of: version.bundle) == nil)
        }
    }
}
