// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork

/// Gives up what nobody has any more.
struct AcceptLossCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accept-loss",
        abstract: "Gives up what partitions held of which no copy can be reached; they begin empty.",
        discussion: """
            For disks that do not come back. WHAT WAS ACCEPTED THERE IS GONE: its callers hear "lost", and a disk that \
            comes back later counts for nothing. Start the nodes that have copies first, if there are any. \
            `flockwork status --partitions` shows which partitions nobody leads. Refused where a copy can be reached.
            """)

    @Argument(help: ArgumentHelp("Partitions by number, as status shows them.", valueName: "partition"))
    var partitions: [Int] = []
    @Flag(help: "All partitions of which no copy can be reached.")
    var all = false
    @OptionGroup var order: OrderFlags

    func validate() throws {
        guard all == partitions.isEmpty else {
            throw ValidationError("Name partitions, or give --all: one of the two.")
        }
        guard partitions.allSatisfy({ (0...Int(UInt16.max)).contains($0) }) else {
            throw ValidationError("Partitions are numbers from 0 to \(UInt16.max).")
        }
    }

    func run() async throws {
        let wanted = all ? nil : partitions.map { PartitionID($0) }
        let name = all ? "all" : partitions.map(String.init).joined(separator: ",")
        try await order.give("accept loss", name) { admin in
            let given = try await admin.acceptLoss(of: wanted)
            if given.isEmpty { return "nothing is lost: a copy of each partition can be reached" }
            let list = given.map { "\($0)" }.joined(separator: ", ")
            return "\(given.count) partitions were given up and begin empty: \(list)"
        }
    }
}
