// Flockwork · Apache-2.0 · see LICENSE

// Several nodes on one machine, each a process: `serve --nodes n` and the demo.

import Flockwork
import Foundation
import Synchronization

/// The nodes that this process started, and stops.
final class LocalFlock: Sendable {
    private let children = Mutex<[ChildNode]>([])
    /// Where a node that comes later finds the others.
    private let seeds = Mutex("")
    /// Where each node keeps its votes, in a folder of its own name.
    private let folder = Mutex<URL?>(nil)
    /// What runs; nil for this program.
    private let program: URL?
    /// Flags that every node gets besides.
    private let extra: [String]

    init(program: URL? = nil, extra: [String] = []) {
        self.program = program
        self.extra = extra
    }

    var nodes: [ChildNode] { children.withLock { $0 } }
    var addresses: [String] { nodes.map { "127.0.0.1:\($0.port)" } }

    /// Starts one node on each port and waits until all accept connections. Stops those that it started if one fails.
    func start(
        ports: [Int], host: String, settings: Settings, folder: URL? = nil, readyWithin limit: Duration = .seconds(30),
        onLine: @escaping @Sendable (_ node: String, _ line: String) -> Void
    ) async throws {
        try await start(
            places: ports.map { Place(host: host, port: $0) }, settings: settings, folder: folder, readyWithin: limit,
            onLine: onLine)
    }

    /// Where a node runs: an address, and the network namespace that has it if it is not this process's own.
    struct Place: Sendable {
        var host: String
        var port: Int
        var namespace: String?
    }

    /// Starts one node in each place, as above.
    func start(
        places: [Place], settings: Settings, folder: URL? = nil, readyWithin limit: Duration = .seconds(30),
        onLine: @escaping @Sendable (_ node: String, _ line: String) -> Void
    ) async throws {
        let ids = places.indices.map { "node-\($0 + 1)" }
        let voters = Self.voters(of: ids.count)
        let join = places.prefix(voters).map { "\($0.host):\($0.port)" }.joined(separator: ",")
        seeds.withLock { $0 = join }
        do {
            if let folder {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            }
            self.folder.withLock { $0 = folder }
            try Self.make([folder?.path, settings.optional(.admin)].compactMap { $0 })
            for (index, (id, place)) in zip(ids, places).enumerated() {
                let cluster = index < voters ? ["--bootstrap", "\(voters)", "--join", join] : ["--join", join]
                let arguments = self.arguments(
                    id: id, port: place.port, host: place.host, cluster: ids.count == 1 ? [] : cluster, of: ids.count,
                    settings)
                let child = try ChildNode(
                    id: id, port: place.port, arguments: arguments, namespace: place.namespace, program: program
                ) { onLine(id, $0) }
                children.withLock { $0.append(child) }
            }
            for child in nodes { try await child.waitUntilReady(within: limit) }
        } catch {
            _ = await stop()
            throw error
        }
    }

    /// Folders in which the nodes have theirs.
    private static func make(_ folders: [String]) throws(FlockError) {
        for folder in folders {
            do {
                try FileManager.default.createDirectory(
                    atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            } catch {
                throw FlockError(.system, "\(folder) cannot be made: \(error)", cause: error)
            }
        }
    }

    /// A majority of fewer than three voters is all of them; more than five only cost time.
    private static func voters(of nodes: Int) -> Int { nodes < 3 ? 1 : nodes < 5 ? 3 : 5 }

    /// One more node joins those that run, with further flags. Returns when it is a member.
    func join(
        port: Int, host: String, settings: Settings, extra: [String] = [], readyWithin limit: Duration = .seconds(30),
        onLine: @escaping @Sendable (_ node: String, _ line: String) -> Void
    ) async throws {
        let count = nodes.count + 1
        let id = "node-\(count)"
        let arguments = self.arguments(
            id: id, port: port, host: host, cluster: ["--join", seeds.withLock { $0 }], of: count, settings)
        let child = try ChildNode(id: id, port: port, arguments: arguments + extra, program: program) {
            onLine(id, $0)
        }
        children.withLock { $0.append(child) }
        try await child.waitUntilReady(within: limit)
    }

    /// The same command line again, for a node that has ended. Returns when it is a member.
    func restart(
        _ node: ChildNode, readyWithin limit: Duration = .seconds(30),
        onLine: @escaping @Sendable (_ node: String, _ line: String) -> Void
    ) async throws {
        let id = node.id
        let child = try ChildNode(
            id: id, port: node.port, arguments: node.arguments, program: program
        ) { onLine(id, $0) }
        children.withLock { $0.append(child) }
        try await child.waitUntilReady(within: limit)
    }

    /// Ends a node with SIGKILL: it is none of these any more.
    func kill(_ node: ChildNode) {
        children.withLock { $0.removeAll { $0 === node } }
        node.killNow()
    }

    /// Asks a node to hand over what it has and to go; returns its status.
    func leave(_ node: ChildNode, within limit: Duration = .seconds(40)) async -> Int32 {
        children.withLock { $0.removeAll { $0 === node } }
        return await node.stop(within: limit)
    }

    /// All values are given as flags, so that neither the environment nor a file can make a child start children.
    private func arguments(
        id: String, port: Int, host: String, cluster: [String], of count: Int, _ settings: Settings
    ) -> [String] {
        let cores = settings.number(.cores) ?? max(1, ProcessInfo.processInfo.activeProcessorCount / count)
        var arguments = [
            "serve", "--nodes", "1", "--id", id, "--host", host, "--port", "\(port)",
            "--cluster-id", settings.text(.clusterID), "--log-level", settings.text(.logLevel), "--cores", "\(cores)",
            "--model", settings.text(.model), settings.flag(.insecure) ? "--insecure" : "--no-insecure",
            "--follow-parent",
        ]
        arguments += cluster
        if let folder = folder.withLock({ $0 }) { arguments += ["--data-folder", folder.appending(path: id).path] }
        if settings.flag(.durable) { arguments.append("--durable") }
        arguments += ["--admin", settings.optional(.admin).map { "\($0)/\(id).sock" } ?? ""]
        for token in [Setting.tokenFile, .clientTokenFile] {
            if let file = settings.optional(token) { arguments += ["--\(token.flagName)", file] }
        }
        for label in settings.text(.label).split(separator: ",") { arguments += ["--label", String(label)] }
        return arguments + extra
    }

    /// The first node that ends otherwise than it should, or the last one; nil when the task is cancelled before.
    func firstEnd() async -> (id: String, status: Int32)? {
        // Those that go because they are told to are not waited for: they are taken out of the list before.
        while !Task.isCancelled {
            guard let (node, status) = await nextEnd() else { return nil }
            if nodes.contains(where: { $0 === node }) {
                // An operator asked it to leave: the others go on, as long as there are any.
                children.withLock { nodes in if status == 0 { nodes.removeAll { $0 === node } } }
                if status != 0 || nodes.isEmpty { return (node.id, status) }
            }
            do { try await Task.sleep(for: .milliseconds(100)) } catch { return nil }
        }
        return nil
    }

    private func nextEnd() async -> (node: ChildNode, status: Int32)? {
        let nodes = nodes
        return await withTaskGroup(of: (ChildNode, Int32)?.self) { group in
            for node in nodes {
                group.addTask { await node.ended.value().map { (node, $0) } }
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }

    /// Drains all nodes at the same time, kills those that take too long, and returns their statuses.
    func stop(within limit: Duration = .seconds(40)) async -> [Int32] {
        let nodes = nodes
        let statuses = await withTaskGroup(of: (Int, Int32).self) { group in
            for (index, node) in nodes.enumerated() {
                group.addTask { (index, await node.stop(within: limit)) }
            }
            var statuses = [Int32](repeating: 0, count: nodes.count)
            for await (index, status) in group { statuses[index] = status }
            return statuses
        }
        children.withLock { $0 = [] }
        return statuses
    }

    /// Ends all nodes at once.
    func killNow() {
        for node in nodes { node.killNow() }
    }
}
