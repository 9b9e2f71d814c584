// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import Flockwork
import Foundation
import Glibc

/// Node processes on 127.0.0.1 that begin a cluster together.
final class ClusterOfProcesses {
    let nodes: [ChildProcess]
    let addresses: [String]
    private var joined = 0
    /// Where nodes of a durable cluster have their folders.
    private let folder: URL?

    init(_ count: Int, isDurable: Bool = false, runs work: Work = .served) throws {
        let ports = try freePorts(count)
        let addresses = ports.map { "127.0.0.1:\($0)" }
        self.addresses = addresses
        let folder = isDurable ? try Self.makeFolder() : nil
        self.folder = folder
        var nodes: [ChildProcess] = []
        do {
            for (place, port) in ports.enumerated() {
                nodes.append(
                    try ChildProcess(
                        starting: [
                            "cluster-node", "--id", "node-\(place)", "--port", "\(port)", "--bootstrap", "\(count)",
                            "--addresses", addresses.joined(separator: ","), "--work", work.rawValue,
                        ] + (folder.map { ["--folder", $0.appending(path: "node-\(place)").path] } ?? [])))
            }
            for node in nodes { try node.waitUntilReady() }
        } catch {
            for node in nodes { node.stop() }
            Self.remove(folder)
            throw error
        }
        self.nodes = nodes
    }

    func stop() {
        for node in nodes { node.stop() }
        Self.remove(folder)
    }

    /// In TMPDIR: what a durable cluster does depends on the disk under it.
    private static func makeFolder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "flockbench-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    private static func remove(_ folder: URL?) {
        guard let folder else { return }
        do { try FileManager.default.removeItem(at: folder) } catch { print("\(folder.path) stays: \(error)") }
    }

    /// A further process that joins; returns when it has come as far as `stage` says.
    func joiner(until stage: Stage) throws -> ChildProcess {
        joined += 1
        return try ChildProcess([
            "cluster-node", "--id", "joiner-\(joined)", "--port", "0", "--addresses", addresses.joined(separator: ","),
            "--stage", stage.rawValue,
        ])
    }

    /// Returns once the first nodes are the only members, each leads partitions, and each partition has so many copies
    /// in sync and no learner.
    func waitForCopies(_ count: Int) async throws {
        let client = try await Client.connect(to: addresses, configuration: InboxSuite.configuration)
        let end = monotonicNanoseconds() + 60_000_000_000
        while true {
            let views = try await client.status().compactMap(\.cluster)
            let isSettled = views.allSatisfy { view in
                view.members.count == nodes.count
                    && Set(view.partitions.map(\.primary)).count == nodes.count
                    && view.partitions.allSatisfy {
                        $0.primary != nil && $0.inSync.count == count && $0.learners.isEmpty
                    }
            }
            if isSettled && views.count == nodes.count { break }
            guard monotonicNanoseconds() < end else { throw BenchmarkError("the cluster has not all copies in 60 s") }
            try await Task.sleep(for: .milliseconds(5))
        }
        await client.close()
    }

    /// What a node process of the cluster does. `stage` is when it says that it is ready.
    /// With a `folder` its pipelines are durable.
    static func serve(
        id: String, port: Int, bootstrap: Int?, addresses: [String], stage: Stage, folder: String?, work: Work
    ) async throws {
        var configuration = NodeConfiguration()
        configuration.id = NodeID(id)
        configuration.port = port
        configuration.bootstrap = bootstrap
        configuration.join = addresses
        configuration.clusterID = Served.clusterID
        configuration.logger = .quiet
        configuration.dataFolder = folder
        let group = folder == nil ? PartitionGroup.replicated : .durable
        let pipelines: [any ServablePipeline] =
            switch work {
            case .served: [Served.rows.kept(group), Served.structs.kept(group), Served.records.kept(group)]
            case .load: [LoadPipelines.overload]
            }
        let node = Node(pipelines: pipelines, configuration: configuration)
        try await node.start()
        try await node.joined()
        while stage == .leads {
            let partitions = try await node.status().cluster?.partitions ?? []
            if partitions.contains(where: { $0.primary == node.id }) { break }
            try await Task.sleep(for: .milliseconds(2))
        }
        guard let port = node.port else { throw BenchmarkError("the node has no port") }
        ChildProcess.isReady(port: port)
        try await ChildProcess.waitForTheEnd()
    }

    enum Stage: String, ExpressibleByArgument {
        case joined, leads
    }

    /// Whose pipelines they run: those of the suites, or of the overload run.
    enum Work: String, ExpressibleByArgument {
        case served, load
    }
}

/// Ports of 127.0.0.1 that nobody listens on: a member list names them before the nodes do.
private func freePorts(_ count: Int) throws -> [Int] {
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    return try (0..<count).map { _ in
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        sockets.append(descriptor)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 ? getsockname(descriptor, pointer, &length) : -1
            }
        }
        guard result == 0 else { throw BenchmarkError("no free port") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
