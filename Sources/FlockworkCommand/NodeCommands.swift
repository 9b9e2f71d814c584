// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork

/// Takes a node out of work.
struct DrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Has a node lead nothing and take no work; it stays a member.",
        discussion: """
            Returns when the node leads nothing. It keeps copies only where the others are short of them. `undrain` \
            takes it back; so does a restart of the node. What it executes at the moment is finished.
            """)

    @Argument(help: "The node's name.") var node: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("drain", node, done: "\(node) is drained: it leads nothing and gets no work") {
            try await $0.drain(NodeID(node))
        }
    }
}

/// The opposite of `drain`.
struct UndrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "undrain", abstract: "Has a drained node take its share again.")

    @Argument(help: "The node's name.") var node: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("undrain", node, done: "\(node) takes its share again") {
            try await $0.undrain(NodeID(node))
        }
    }
}

/// Ends a node without a failure for anybody.
struct LeaveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "leave",
        abstract: "Has a node hand over what it has, and end.",
        discussion: """
            The same as SIGTERM to its process, which ends with 0. Returns when the node is no member any more. A \
            voter stays one while it is away: start it again, or have it replaced.
            """)

    @Argument(help: "The node's name.") var node: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("leave", node, done: "\(node) has handed over what it had, and ends") {
            try await $0.leave(NodeID(node))
        }
    }
}
