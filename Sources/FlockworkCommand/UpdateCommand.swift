// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import FlockPython
internal import Flockwork
internal import Foundation

/// A new version of a folder of Python, on all nodes.
struct UpdateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "update",
        abstract: "Has all nodes serve another folder in the place of a model's, without a restart.",
        discussion: """
            The node asked copies the folder, and the others fetch it from that one; to take it from each other nodes \
            need a token (--token-file). When all have it and its packages, the asked node starts workers of it, then \
            the others do; requests move to them and the old workers end. Requests go on, and none fails. Nodes that \
            join later and bring no folder get the new one.

            Where a node cannot have it nothing changes. One that fails later keeps what it had, is named, and the \
            exit code is 1: give the command again, or give it with the old folder to go back. Handler and form stay \
            as they are.

            A NODE THAT WAS STARTED WITH A FOLDER GOES BACK TO THAT AT ITS NEXT START: start it with the new one then, \
            in a folder of the same name.
            """)

    @Argument(help: "What callers call it.") var model: String
    @Argument(help: "The new version, on this machine.", completion: .directory) var folder: String
    @Option(
        help: ArgumentHelp(
            "Wheels for a folder with a requirements.txt and no wheels of its own (default: those it has had).",
            valueName: "folder"), completion: .directory)
    var wheelhouse: String?
    @Flag(help: "One JSON object on standard output.")
    var json = false
    @OptionGroup(title: "Node") var admin: AdminFlags

    /// What a script reads.
    private struct Report: Encodable {
        struct Node: Encodable {
            var node: String
            /// `updated`, `unchanged`, `kept` or `unknown`.
            var outcome: String
            var code: String?
            var error: String?
        }

        var order = "update"
        var of: String
        var done: Bool
        var version: String?
        var nodes: [Node]?
        var code: String?
        var error: String?
    }

    func validate() throws {
        for path in [folder, wheelhouse].compactMap({ $0 }) where access(path, R_OK | X_OK) != 0 {
            throw ValidationError("there is no folder \(path), or it may not be read.")
        }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            let update: ModelUpdate
            do {
                update = try await admin.withOperator { try await $0.update(model, to: folder, wheelhouse: wheelhouse) }
            } catch let error as FlockError {
                if json {
                    print(
                        try JSONText.line(
                            Report(of: model, done: false, code: "\(error.code)", error: error.message)))
                }
                throw error
            }
            try say(update)
        }
    }

    private func say(_ update: ModelUpdate) throws {
        let failure = Self.failure(update)
        if json {
            let nodes = update.nodes.map { node in
                Report.Node(
                    node: node.node.rawValue, outcome: node.outcome.rawValue, code: node.code.map { "\($0)" },
                    error: node.error)
            }
            print(
                try JSONText.line(
                    Report(
                        of: model, done: update.isDone, version: "\(update.version)", nodes: nodes,
                        code: failure.map { "\($0.code)" }, error: failure?.message)))
        } else {
            var table = TextTable([.words("node"), .words("version")])
            for node in update.nodes { table.rows.append([Cell(node.node.rawValue), Self.cell(node.outcome)]) }
            Screen().print(table.lines)
            if update.isDone {
                print("Nodes that were started with a folder of their own go back to it at their next start.")
            }
        }
        if let failure { throw failure }
    }

    private static func cell(_ outcome: ModelUpdate.Outcome) -> Cell {
        switch outcome {
        case .updated: Cell("new", .green)
        case .unchanged: Cell("new, as before")
        case .kept: Cell("old", .yellow)
        case .unknown: Cell("old or new", .red)
        }
    }

    /// Who failed, and why.
    static func failure(_ update: ModelUpdate) -> FlockError? {
        guard !update.isDone else { return nil }
        let failed = update.nodes.filter { $0.error != nil }
        let isNowhere = update.nodes.allSatisfy { $0.outcome == .kept }
        let head = isNowhere ? "nothing has changed" : "not all nodes have the new version"
        let reasons = failed.map { "\($0.node): \($0.error ?? "")" }.joined(separator: "; ")
        return FlockError(failed.first?.code ?? .unavailable, "\(head); \(reasons)")
    }
}
