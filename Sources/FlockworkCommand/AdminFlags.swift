// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork
internal import Foundation
internal import Synchronization

/// The node that an operator asks.
struct AdminFlags: ParsableArguments {
    static let environmentName = "FLOCKWORK_ADMIN"

    @Option(
        help: ArgumentHelp(
            "The admin socket of a node of this machine, or its data folder (default: \(environmentName)).",
            valueName: "path"), completion: .file())
    var admin: String?

    /// What was given, if anything was.
    var path: String? {
        let path = admin ?? ProcessInfo.processInfo.environment[Self.environmentName]
        return path.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Connects, runs `body`, and closes the connection.
    func withOperator<Result>(_ body: (Operator) async throws -> Result) async throws -> Result {
        guard let path else {
            throw FlockError(
                .invalidInput,
                "which node? Give --admin with its data folder or admin socket, or set \(Self.environmentName)")
        }
        let admin = try await Operator.connect(to: path)
        do {
            let result = try await body(admin)
            await admin.close()
            return result
        } catch {
            await admin.close()
            throw error
        }
    }
}

/// Looks through one node again and again, also after it was away.
final class AdminSource: Sendable {
    private let path: String
    private let admin = Mutex<Operator?>(nil)

    init(path: String) { self.path = path }

    func look() async throws -> [NodeStatus] {
        if let admin = admin.withLock({ $0 }) {
            do {
                return try await admin.status()
            } catch {
                close()
            }
        }
        let made = try await Operator.connect(to: path)
        admin.withLock { $0 = made }
        return try await made.status()
    }

    /// Lets the connection go.
    func close() {
        guard let admin = admin.withLock({ $0.take() }) else { return }
        Task { await admin.close() }
    }
}

/// One order, and how it went.
struct OrderFlags: ParsableArguments {
    @Flag(help: "One JSON object on standard output.")
    var json = false
    @OptionGroup(title: "Node") var admin: AdminFlags

    /// What a script reads.
    private struct Report: Encodable {
        var order: String
        var of: String
        var done: Bool
        var code: String?
        var error: String?
    }

    /// Carries an order out and says how it went: `done` for people, or what was wrong, as everywhere.
    func give(_ order: String, _ name: String, done: String, _ body: (Operator) async throws -> Void) async throws {
        try await give(order, name) { admin in
            try await body(admin)
            return done
        }
    }

    /// The same where what was done is known afterwards.
    func give(_ order: String, _ name: String, _ body: (Operator) async throws -> String) async throws {
        try await FlockworkCommand.reporting {
            do {
                let done = try await admin.withOperator(body)
                try say(Report(order: order, of: name, done: true), done)
            } catch let error as FlockError {
                if json {
                    try say(
                        Report(order: order, of: name, done: false, code: "\(error.code)", error: error.message), "")
                }
                throw error
            }
        }
    }

    private func say(_ report: Report, _ text: String) throws {
        print(json ? try JSONText.line(report) : text)
    }
}

/// JSON of one line, its keys in order.
enum JSONText {
    static func line(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
