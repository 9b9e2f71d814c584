// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import FlockTestKit
import Flockwork
import Foundation
import Synchronization
import Testing

@testable import Launcher

/// Three node processes with a folder each, as an operator starts them on three hosts.
private final class DurableFlock: Sendable {
    let ports: [Int]
    let folder: URL
    let runs = Mutex<[LauncherRun]>([])

    init() throws {
        ports = try FreePorts.find(3)
        folder = FileManager.default.temporaryDirectory.appending(path: "flockwork-processes-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    /// `smallest`: the place of the node whose disk is nearly full.
    func start(smallest: Int? = nil) throws {
        let join = ports.map { "127.0.0.1:\($0)" }.joined(separator: ",")
        let started = try ports.enumerated().map { place, port in
            try LauncherRun(
                [
                    "--id", "n\(place)", "--port", "\(port)", "--bootstrap", "3", "--join", join, "--cores", "1",
                    "--durable", "--data-folder", folder.appending(path: "n\(place)").path,
                ], fileKilobytes: place == smallest ? 600 : nil)
        }
        runs.withLock { $0 = started }
    }

    func ready() async throws {
        for run in runs.withLock({ $0 }) { try #require(await run.isReady(), "\(run.output)") }
    }

    func killAll() async {
        let runs = runs.withLock { $0 }
        for run in runs { run.signal(SIGKILL) }
        for run in runs { _ = await run.end() }
    }

    func client() async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.window = 4096
        return try await Client.connect(to: ports.map { "127.0.0.1:\($0)" }, configuration: configuration)
    }
}

/// Posts rows until it is told to stop, and counts what came of them.
private final class PostedRows: Sendable {
    private struct State {
        var tickets: [Ticket: Int] = [:]
        var outcomes: [Ticket: [Diagnosis?]] = [:]
        var isOver = false
    }

    private let state = Mutex(State())
    private let inbox: Inbox<Row, Verdict>
    private let rows: Rows<Float>
    private let reference: Reference

    init(_ inbox: Inbox<Row, Verdict>) throws {
        self.inbox = inbox
        rows = try Dataset.bundled().rows
        reference = try Reference.bundled()
    }

    var accepted: Int { state.withLock { $0.tickets.count } }
    /// Requests without the reference's answer, with none or with two.
    var wrong: [String] {
        state.withLock { state in
            state.tickets.filter { ticket, row in state.outcomes[ticket] != [reference.labels[row]] }
                .map { "\($0) \($1): \(state.outcomes[$0] ?? [])" }
        }
    }
    /// Every accepted request has an outcome, and no other has.
    var isComplete: Bool { state.withLock { Set($0.tickets.keys) == Set($0.outcomes.keys) } }

    func run() async throws {
        let reader = Task {
            for await (ticket, outcome) in inbox.outbox() { note(ticket, outcome) }
        }
        defer { reader.cancel() }
        var first = 0
        while !state.withLock({ $0.isOver }) {
            let tickets = try await inbox.post(rows.slice(from: first, count: 50))
            state.withLock { state in
                for (offset, ticket) in tickets.enumerated() { state.tickets[ticket] = first + offset }
            }
            first = (first + 50) % (rows.count - 50)
        }
        try await eventually { self.isComplete }
    }

    private func note(_ ticket: Ticket, _ outcome: Outcome<Verdict>) {
        state.withLock { state in
            let label: Diagnosis? = if case .value(let verdict) = outcome { verdict.label } else { nil }
            state.outcomes[ticket, default: []].append(label)
        }
    }

    func stop() { state.withLock { $0.isOver = true } }

    /// Waits until so many more were accepted.
    func goesOn(_ count: Int = 2000) async throws {
        let goal = accepted + count
        try await eventually { self.accepted >= goal }
    }
}

@Suite(.serialized, .timeLimit(.minutes(2))) struct DurableProcessTests {
    private func underLoad(
        _ flock: DurableFlock, _ body: (PostedRows) async throws -> Void
    ) async throws {
        let client = try await flock.client()
        let posted = try PostedRows(try await client.inbox(of: diagnosisPipeline()))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await posted.run() }
            do { try await body(posted) } catch {
                posted.stop()
                throw error
            }
            posted.stop()
            try await group.waitForAll()
        }
        #expect(posted.wrong == [] && posted.isComplete)
        await client.close()
    }

    @Test("all three processes are killed with -9 under load and started again: each accepted request has one outcome")
    func killAll() async throws {
        let flock = try DurableFlock()
        try flock.start()
        try await flock.ready()
        try await underLoad(flock) { posted in
            for _ in 0..<3 {
                try await posted.goesOn()
                await flock.killAll()
                try flock.start()
            }
            try await posted.goesOn()
        }
        await flock.killAll()
        try FileManager.default.removeItem(at: flock.folder)
    }

    @Test("a node whose disk is full acknowledges nothing more, says so, goes and ends with 1; nothing is lost")
    func diskFull() async throws {
        let flock = try DurableFlock()
        try flock.start(smallest: 2)
        try await flock.ready()
        try await underLoad(flock) { posted in
            let full = flock.runs.withLock { $0[2] }
            let status = await full.end()
            #expect(status == 1 && full.output.contains("the disk refuses"), "\(full.output)")
            #expect(full.output.contains("File too large"), "\(full.output)")
            try await posted.goesOn()
        }
        await flock.killAll()
        try FileManager.default.removeItem(at: flock.folder)
    }
}
