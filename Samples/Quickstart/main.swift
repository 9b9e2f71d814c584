// Flockwork · Apache-2.0 · see LICENSE

// The program of README.md: a stage, a model, a node, and one request, which crosses no socket since the inbox is in
// this process. Then two more by a client, which might be in another one: see Posting.swift.

import Distributed
import Flockwork

struct Message: Codable, Sendable { var text: String }

/// A stage is a distributed actor; what goes in and out is read off `process`.
distributed actor Featurize: Stage {
    distributed func process(_ batch: [Message]) async throws -> [Row] {
        batch.map { Row([Float($0.text.count), $0.text.contains("!") ? 1 : 0]) }
    }
}

let model = try LinearModel(weights: [-0.01, 2], bias: [-1], inputWidth: 2, link: .logistic)

let spam = Pipeline("spam", of: Message.self)
    .stage(batch: .upTo(256), Featurize.init)
    .model(.swift(model))
    .map { $0 > 0.5 ? "spam" : "fine" }

let node = Node(pipelines: spam)
try await node.start()
let inbox = try await node.inbox(of: spam)
print(try await inbox.ask(Message(text: "Win now!"), deadline: .milliseconds(500)))
try await post([Message(text: "Lunch?"), Message(text: "Free money!")], to: spam, at: "127.0.0.1:\(node.port ?? 7400)")
await inbox.close()
await node.shutDown()
