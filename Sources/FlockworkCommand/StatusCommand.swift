// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork
internal import Foundation

/// Shows what nodes and their worker processes do.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Shows what each node does, and each of its worker processes.",
        discussion: "Items a second and busy time are those of the moment between two looks (--over seconds).")

    @Flag(help: "One JSON object a node, each on a line, with the totals since the start.")
    var json = false
    @Option(help: ArgumentHelp("Time between the two looks.", valueName: "seconds"))
    var over = 1.0
    @OptionGroup(title: "Cluster") var target: TargetFlags
    @OptionGroup(title: "Cluster") var cluster: ClusterFlags

    func validate() throws {
        guard over >= 0.1, over <= 3600 else { throw ValidationError("--over is 0.1 to 3600 seconds.") }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            let lines = try await target.withClient(cluster) { client in
                let before = try await client.status()
                if json { return try before.map(Self.json) }
                let start = ContinuousClock.now
                try await Task.sleep(for: .milliseconds(Int64(over * 1000)))
                let after = try await client.status()
                return StatusTable(before, after, seconds: (ContinuousClock.now - start) / .seconds(1)).lines
            }
            for line in lines { print(line) }
        }
    }

    private static func json(_ status: NodeStatus) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(status), as: UTF8.self)
    }
}
