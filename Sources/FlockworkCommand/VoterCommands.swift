// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork

/// The nodes whose majority decides.
struct VotersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "voters", abstract: "Lists the nodes that vote on views; adds, removes or exchanges one.",
        subcommands: [
            VotersListCommand.self, VotersAddCommand.self, VotersRemoveCommand.self, VotersReplaceCommand.self,
        ],
        defaultSubcommand: VotersListCommand.self)
}

/// Who votes.
struct VotersListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the voters (the default).")

    @Flag(help: "One JSON object on standard output.")
    var json = false
    @OptionGroup(title: "Node") var admin: AdminFlags

    /// What a script reads.
    struct Report: Encodable, Equatable {
        struct Voter: Encodable, Equatable {
            var node: String
            /// `up`, `draining`, …; `suspected` and `away` do not vote now.
            var state: String
            var address: String?
        }

        var view: UInt64
        var voters: [Voter]
        /// Of the voters that there are, and now, with those that answer.
        var survives: Int
        var survivesNow: Int
        var coming: String?

        init(_ view: ClusterStatus) {
            self.view = view.version
            voters = view.voters.map { node in
                guard let member = view.members.first(where: { $0.node == node }) else {
                    return Voter(node: node.rawValue, state: "away", address: nil)
                }
                return Voter(
                    node: node.rawValue, state: member.isSuspected ? "suspected" : member.phase,
                    address: "\(member.host):\(member.port)")
            }
            survives = view.toleratedVoterFailures
            let there = voters.count { $0.state != "away" && $0.state != "suspected" }
            survivesNow = there - (voters.count / 2 + 1)
            coming = view.comingVoter?.rawValue
        }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            let nodes = try await admin.withOperator { try await $0.status() }
            guard let view = nodes.compactMap(\.cluster).max(by: { $0.version < $1.version }) else {
                throw FlockError(.invalidInput, "the node is in no cluster whose views are voted on")
            }
            let report = Report(view)
            if json { return print(try JSONText.line(report)) }
            Screen().print(Self.lines(report))
        }
    }

    static func lines(_ report: Report) -> [TextLine] {
        var table = TextTable([.words("voter"), .words("state"), .words("address")])
        for voter in report.voters {
            let isThere = voter.state != "away" && voter.state != "suspected"
            table.rows.append([
                Cell(voter.node), Cell(voter.state, isThere ? nil : .red), Cell(voter.address ?? "-"),
            ])
        }
        let now =
            report.survivesNow < 0
            ? Cell("no majority is there: views do not change", .red)
            : Cell("\(report.survivesNow) more may fail", report.survivesNow < report.survives ? .yellow : nil)
        var lines = table.lines + [TextLine("\(report.voters.count / 2 + 1) of \(report.voters.count) decide; ", now)]
        if let coming = report.coming { lines.append(TextLine(Cell("\(coming) is becoming a voter", .yellow))) }
        return lines
    }
}

/// One more.
struct VotersAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Has a member vote besides those that do.",
        discussion: """
            An even number of voters survives no more failures than one less: add two, one after the other. Give the \
            node a data folder, where its votes survive a restart.
            """)

    @Argument(help: "The node's name.") var node: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("add voter", node, done: "\(node) votes") { try await $0.addVoter(NodeID(node)) }
    }
}

/// One less.
struct VotersRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Has a voter vote no more.",
        discussion: """
            For a cluster that gets smaller, or a voter that is gone and for which nobody comes. It never votes again \
            under its name; it may be a member. A majority of the other voters has to be there. Of two voters none may \
            fail: remove two of five, or two of three, one after the other.
            """)

    @Argument(help: "The voter that goes.") var node: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("remove voter", node, done: "\(node) votes no more") {
            try await $0.removeVoter(NodeID(node))
        }
    }
}

/// One for another.
struct VotersReplaceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace",
        abstract: "Has a member vote in the place of another node.",
        discussion: """
            For a voter that is gone, or has lost its data folder. The old one never votes again under its name; it \
            may be a member.
            """)

    @Argument(help: "The voter that goes.") var old: String
    @Argument(help: "The member that comes.") var new: String
    @OptionGroup var order: OrderFlags

    func run() async throws {
        try await order.give("replace voter", old, done: "\(new) votes in the place of \(old)") {
            try await $0.replaceVoter(NodeID(old), by: NodeID(new))
        }
    }
}
