// Flockwork · Apache-2.0 · see LICENSE

import Flockwork

/// A client process, a node process, TCP on loopback. Every answer is compared with the model's own.
enum InboxSuite {
    static let run = 64

    static func measure(_ run: Run) async throws {
        let ping = try await RawPingPong.measure("inbox", inFlight: 1, run: run)
        let node = try ChildProcess(["inbox-node"])
        defer { node.stop() }
        let client = try await Client.connect(to: "127.0.0.1:\(node.port)", configuration: configuration)
        let rows = try await client.inbox(of: Served.rows)
        try await run.latency("inbox", "ask-1", limit: ping, must: "0.13 ms (aim 0.07 ms)") {
            try await ask(rows, tasks: 1, seconds: $0, nodes: [node.id])
        }
        try await run.latency("inbox", "ask-1-loop", limit: ping, must: "as above, the task on the client's loop") {
            seconds in
            try await withTaskExecutorPreference(client.executor) {
                try await ask(rows, tasks: 1, seconds: seconds, nodes: [node.id])
            }
        }
        try await run.rate("inbox", "ask-1024", must: "700 k/s, p99 <= 5 ms (aim 2 M/s, 2 ms)") {
            try await ask(rows, tasks: 1024, seconds: $0, nodes: [node.id])
        }
        try await run.rate("inbox", "post-runs", must: "8 M/s (aim 30 M/s)") {
            try await postRows(client, seconds: $0, nodes: [node.id])
        }
        try await run.rate("inbox", "post-codable", must: "1.2 M/s (aim 4 M/s)") {
            try await post(Served.items, to: client.inbox(of: Served.structs), seconds: $0, nodes: [node.id])
        }
        try await run.rate("inbox", "post-plain", must: "no must: the struct as its own bytes") {
            try await post(Served.plainItems, to: client.inbox(of: Served.records), seconds: $0, nodes: [node.id])
        }
        await client.close()
        try await measureBusy(run, limit: ping)
    }

    /// The same with the client's loop, the node's loop and its stages spinning before they sleep, which is opt-in.
    private static func measureBusy(_ run: Run, limit ping: Measured?) async throws {
        let node = try ChildProcess(["inbox-node", "--busy-poll"])
        defer { node.stop() }
        var configuration = configuration
        configuration.busyPoll = true
        let client = try await Client.connect(to: "127.0.0.1:\(node.port)", configuration: configuration)
        let rows = try await client.inbox(of: Served.rows)
        try await run.latency("inbox", "ask-1-busy", limit: ping, must: "aim 0.02 ms, the task on the client's loop") {
            seconds in
            try await withTaskExecutorPreference(client.executor) {
                try await ask(rows, tasks: 1, seconds: seconds, nodes: [node.id])
            }
        }
        await client.close()
    }

    static var configuration: ClientConfiguration {
        var configuration = ClientConfiguration()
        configuration.clusterID = Served.clusterID
        configuration.logger = .quiet
        configuration.window = 16_384
        return configuration
    }

    /// Tasks that each ask, wait and check.
    static func ask(
        _ inbox: Inbox<Row, Float>, tasks: Int, seconds: Double, nodes: [Int32]
    ) async throws -> Measured {
        let questions = Served.questions
        let expected = Served.expected
        return try await ClosedLoop.measure(tasks: tasks, seconds: seconds, children: nodes) { turn in
            let index = turn % questions.count
            let answer = try await inbox.ask(questions[index])
            guard abs(answer - expected[index]) < Served.tolerance else {
                throw BenchmarkError("row \(index) was answered \(answer), not \(expected[index])")
            }
            return 1
        }
    }

    static func postRows(_ client: Client, seconds: Double, nodes: [Int32]) async throws -> Measured {
        let inbox = try await client.inbox(of: Served.rows)
        let posting = Posting(inbox: inbox, runs: Dataset.rowCount / run) { index in
            try await inbox.post(Dataset.rows.slice(from: index * run, count: run), until: .buffered)
        }
        return try await posting.measure(seconds: seconds, children: nodes)
    }

    private static func post<Item: Sendable>(
        _ items: [Item], to inbox: Inbox<Item, Float>, seconds: Double, nodes: [Int32]
    ) async throws -> Measured {
        let posting = Posting(inbox: inbox, runs: items.count / run) { index in
            try await inbox.post(Array(items[index * run..<(index + 1) * run]), until: .buffered)
        }
        return try await posting.measure(seconds: seconds, children: nodes)
    }
}
