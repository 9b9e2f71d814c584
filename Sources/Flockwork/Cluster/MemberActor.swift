// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// What nodes of a cluster call on each other, and clients cannot. It lives on the loop and hands everything to the
// inbox.

distributed actor MemberActor {
    typealias ActorSystem = FlockSystem

    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }

    private let inbox: InboxActor

    init(inbox: InboxActor, actorSystem: FlockSystem) {
        self.inbox = inbox
        self.actorSystem = actorSystem
    }

    static let name = "member"
    static let deliverMethod = DirectMethod(MemberActor.self, "deliver")

    /// Messages of a member, any number of them: one-way and direct. They may be lost.
    distributed func deliver(_ message: EncodedMessage) async throws {
        throw FlockError(.invalidInput, "MemberActor.deliver is a direct call.")
    }

    /// A process that wants to come in says where it listens, and hears who is here.
    distributed func greet(_ greeting: Greeting) throws -> Greeting.Answer {
        inbox.assumeIsolated { $0.greeted(by: greeting) }
    }

    /// An operator wants this node to hand over what it has, and to end. Returns at once.
    distributed func leave() {
        inbox.assumeIsolated { $0.askToLeave() }
    }

    static func registerDirect(in system: FlockSystem) {
        system.direct(MemberActor.self, "deliver") { member, call in
            do {
                let from = call.peer.identity.node
                // Entries are kept for long: one copy of the frame, whose parts they are.
                let bytes = call.arguments.unpinned()
                try member.assumeIsolated { member in
                    try member.inbox.assumeIsolated { try $0.received(bytes, from: from) }
                }
            } catch {
                call.peer.close(FlockError(unreadable: "deliver", error, on: system.loop))
            }
        }
    }
}

/// What a process says before it is a member.
struct Greeting: Codable, Sendable {
    struct Place: Codable, Sendable, Equatable {
        var node: NodeID
        var host: String
        var port: Int
    }

    /// A pipeline as nodes compare it.
    struct Pipeline: Codable, Sendable, Equatable {
        var name: String
        var fingerprint: UInt64
        var group: PartitionGroup

        init(_ definition: PipelineDefinition) {
            name = definition.name
            fingerprint = definition.fingerprint
            group = definition.group
        }

        /// The same of any group.
        var unkept: Pipeline {
            var pipeline = self
            pipeline.group = .replicated
            return pipeline
        }
    }

    /// What it hears.
    struct Answer: Codable, Sendable {
        var node: NodeID
        /// The answering node knows a view.
        var isFormed: Bool
        var members: [Place]
        var voters: [NodeID]
        /// In the order of their numbers.
        var pipelines: [Pipeline]
    }

    var node: NodeID
    var host: String
    var port: Int
}
