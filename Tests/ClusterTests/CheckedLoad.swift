// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import FlockTestKit
import Flockwork
import Testing

@testable import Launcher

/// Requests at an even pace, of which each is followed from its acceptance to its outcome.
final class CheckedLoad: Sendable {
    let run: DemoRun
    private let task: Task<Double, Never>

    /// So many a second, until `end`.
    init(_ client: Client, rate: Double = 400) async throws {
        run = DemoRun(
            total: 1_000_000, chunk: 4, data: try Dataset.bundled(), reference: try Reference.bundled(for: .logistic))
        run.offer(rate)
        let inbox = try await client.inbox(of: diagnosisPipeline(model: .logistic))
        task = Task { [run] in await run.run(inbox: inbox, lanes: 32) }
    }

    /// Returns once so many more have their outcomes.
    func goesOn(_ more: Int = 200) async throws {
        let wanted = run.done + more
        try await eventually { run.done >= wanted }
    }

    /// Every request that was accepted has one outcome, the right one, and all were accepted.
    func expectPerfect() async {
        run.finish()
        let summary = run.summary(seconds: await task.value, shares: [])
        let checker = summary.checker
        #expect(
            summary.isSuccess,
            """
            \(checker.acceptedCount) accepted of \(checker.total), \(checker.values) values, lost \(checker.lost), \
            doubled \(checker.doubled), wrong \(checker.wrong), strays \(checker.strays), \
            failures \(checker.failures), \(checker.examples) \(summary.interruption ?? "")
            """)
    }

    /// Ends it whatever was answered.
    func abandon() { run.interrupt("the test failed") }
}

/// Runs `body` while requests go on, and expects that each of them has its one outcome. It begins when all of the nodes
/// have their copies.
func withCheckedLoad(
    on addresses: [String], _ nodes: [String], _ configuration: ClientConfiguration,
    _ body: (ViewWatch, CheckedLoad) async throws -> Void
) async throws {
    var configuration = configuration
    configuration.sessionsPerNode = 4
    let client = try await Client.connect(to: addresses, configuration: configuration)
    do {
        let views = ViewWatch(client: client, patience: .seconds(100))
        try await views.whole(nodes)
        let load = try await CheckedLoad(client)
        do {
            try await load.goesOn()
            try await body(views, load)
            try await load.goesOn()
        } catch {
            load.abandon()
            throw error
        }
        await load.expectPerfect()
        await client.close()
    } catch {
        await client.close()
        throw error
    }
}

extension ViewWatch {
    /// These nodes are members, each leads something, and all copies are there.
    func whole(_ nodes: [String]) async throws { try await wait("all copies") { $0.isWhole(members: nodes) } }

    /// Which processes the nodes are.
    func numbers() async throws -> [String: UInt32] {
        var numbers: [String: UInt32] = [:]
        try await wait("a view") { view in
            for member in view.members { numbers[member.node.rawValue] = member.number }
            return true
        }
        return numbers
    }

    /// Others lead what that node led.
    func leadsNothing(_ node: String) async throws {
        try await wait("\(node) leads nothing") { !$0.partitions.contains { $0.primary?.rawValue == node } }
    }

    /// That process is no member.
    func isGone(_ number: UInt32?) async throws {
        try await wait("member \(number.map(String.init(describing:)) ?? "-") is gone") { view in
            !view.members.contains { $0.number == number }
        }
    }
}
