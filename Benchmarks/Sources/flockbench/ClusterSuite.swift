// Flockwork · Apache-2.0 · see LICENSE

import Flockwork

/// A cluster of three node processes on loopback that keeps three copies of every request, and a client process.
enum ClusterSuite {
    static func measure(_ run: Run) async throws {
        let calls = ["replicated-1", "replicated-1024", "replicated-post"]
        if run.wants(calls + ["idle-cpu", "start", "lead"]) {
            let ping = try await RawPingPong.measure("cluster", inFlight: 1, run: run)
            let cluster = try ClusterOfProcesses(3)
            defer { cluster.stop() }
            try await measureCalls(run, limit: ping, cluster)
            try await run.figure("cluster", "idle-cpu", unit: "% of a core", must: "1 % (aim 0.3 %), mean of 3 nodes") {
                try await idle(cluster, seconds: max($0, 3))
            }
            try await run.figure("cluster", "start", unit: "ms", must: "300 ms (aim 100 ms), a fourth joins") { _ in
                try await join(cluster, stage: .joined)
            }
            try await run.figure("cluster", "lead", unit: "ms", must: "no must: until it leads a partition") { _ in
                try await join(cluster, stage: .leads)
            }
        }
        if run.wants(["durable-1", "durable-1024"]) { try await measureDurable(run) }
        try await run.figure("cluster", "form", unit: "ms", must: "no must: three begin, until all copies are made") {
            _ in
            let start = monotonicNanoseconds()
            let cluster = try ClusterOfProcesses(3)
            defer { cluster.stop() }
            try await cluster.waitForCopies(3)
            return Double(monotonicNanoseconds() - start) / 1e6
        }
    }

    private static func measureCalls(_ run: Run, limit ping: Measured?, _ cluster: ClusterOfProcesses) async throws {
        try await cluster.waitForCopies(3)
        let client = try await Client.connect(to: cluster.addresses, configuration: InboxSuite.configuration)
        // An inbox has a session on each node that is connected when it opens.
        while try await client.status().count < cluster.nodes.count { try await Task.sleep(for: .milliseconds(5)) }
        let rows = try await client.inbox(of: Served.rows)
        let nodes = cluster.nodes.map(\.id)
        try await run.latency("cluster", "replicated-1", limit: ping, must: "0.3 ms (aim 0.17 ms)") {
            try await InboxSuite.ask(rows, tasks: 1, seconds: $0, nodes: nodes)
        }
        try await run.rate("cluster", "replicated-1024", must: "400 k/s, p99 <= 10 ms (aim 1.2 M/s, 4 ms)") {
            try await InboxSuite.ask(rows, tasks: 1024, seconds: $0, nodes: nodes)
        }
        try await run.rate("cluster", "replicated-post", must: "3 M/s (aim 12 M/s)") {
            try await InboxSuite.postRows(client, seconds: $0, nodes: nodes)
        }
        await client.close()
    }

    /// The same calls of a cluster that has requests and outcomes on the disks of all nodes before it says so.
    private static func measureDurable(_ run: Run) async throws {
        let cluster = try ClusterOfProcesses(3, isDurable: true)
        defer { cluster.stop() }
        try await cluster.waitForCopies(3)
        let client = try await Client.connect(to: cluster.addresses, configuration: InboxSuite.configuration)
        while try await client.status().count < cluster.nodes.count { try await Task.sleep(for: .milliseconds(5)) }
        let rows = try await client.inbox(of: Served.rows)
        let nodes = cluster.nodes.map(\.id)
        try await run.latency("cluster", "durable-1", limit: nil, must: "no must: an fsync of each node, twice") {
            try await InboxSuite.ask(rows, tasks: 1, seconds: $0, nodes: nodes)
        }
        try await run.rate("cluster", "durable-1024", must: "150 k/s (aim 500 k/s)") {
            try await InboxSuite.ask(rows, tasks: 1024, seconds: $0, nodes: nodes)
        }
        await client.close()
    }

    /// Percent of a core that a node takes when nobody asks for anything.
    private static func idle(_ cluster: ClusterOfProcesses, seconds: Double) async throws -> Double {
        // What the rows before left behind has its time to end.
        try await Task.sleep(for: .seconds(1))
        let nodes = cluster.nodes.map(\.id)
        let start = monotonicNanoseconds()
        let before = try nodes.map(processorSeconds).reduce(0, +)
        try await Task.sleep(for: .seconds(seconds))
        let used = try nodes.map(processorSeconds).reduce(0, +) - before
        let wall = Double(monotonicNanoseconds() - start) / 1e9
        return 100 * used / wall / Double(nodes.count)
    }

    /// Milliseconds from the start of a further process until it is as far as `stage` says. It is killed after that.
    private static func join(_ cluster: ClusterOfProcesses, stage: ClusterOfProcesses.Stage) async throws -> Double {
        try await cluster.waitForCopies(3)
        let start = monotonicNanoseconds()
        let node = try cluster.joiner(until: stage)
        let milliseconds = Double(monotonicNanoseconds() - start) / 1e6
        node.stop()
        return milliseconds
    }
}
