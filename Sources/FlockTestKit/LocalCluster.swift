// Flockwork · Apache-2.0 · see LICENSE

public import Flockwork

// Several nodes in one process, over real loopback sockets: what a test of the whole way wants, without
// the time that processes take.

/// The nodes of one cluster in this process, and a client of theirs.
public struct LocalCluster: Sendable {
    /// How nodes and clients are configured.
    public struct Options: Sendable {
        /// Of nodes and client.
        public var limits: Limits
        /// Cores that `.perCore` counts on each node.
        public var cores = 2
        /// Requests of one session that may be open: a power of two.
        public var window: Int
        /// A file with the cluster's token, for nodes and client.
        public var tokenFile: String?
        /// Loops and instances look for work before they sleep.
        public var busyPoll = false
        /// Where the logs go: by default to the test's own capture, if it has one.
        public var logs: LogCapture
        /// The defaults, unless given.
        public init(limits: Limits = Limits(), window: Int = 16_384, tokenFile: String? = nil) {
            self.limits = limits
            self.window = window
            self.tokenFile = tokenFile
            logs = LogCapture.current ?? LogCapture()
        }
    }

    /// The nodes `node-0`, `node-1`, … They run until `stop`.
    public let nodes: [Node]
    /// A client that is connected to all of them.
    public let client: Client
    /// How they were started.
    public let options: Options

    /// Starts nodes and connects a client. Call `stop`, whatever happens: `testCluster` does.
    ///
    /// - Throws: `FlockError`, as `Node.start` and `Client.connect` do. Nothing is left running then.
    public static func start(
        nodes count: Int = 1, _ pipelines: [any ServablePipeline], options: Options = Options()
    ) async throws -> LocalCluster {
        precondition(count > 0, "a cluster of \(count) nodes")
        var attempts = 5
        while true {
            attempts -= 1
            var nodes: [Node] = []
            do {
                for node in try makeNodes(count, pipelines, options) {
                    nodes.append(node)
                    try await node.start()
                }
                let client = try await connect(to: nodes[0], options)
                return LocalCluster(nodes: nodes, client: client, options: options)
            } catch let error as FlockError where error.code == .system && count > 1 && attempts > 0 {
                // Someone took a port between its search and its use: other ports, then.
                for node in nodes { await node.shutDown() }
            } catch {
                for node in nodes { await node.shutDown() }
                throw error
            }
        }
    }

    private static func makeNodes(
        _ count: Int, _ pipelines: [any ServablePipeline], _ options: Options
    ) throws -> [Node] {
        let ports = count > 1 ? try FreePorts.find(count) : [0]
        let ids = (0..<count).map { NodeID("node-\($0)") }
        var members: [Member] = []
        if count > 1 {
            for (id, port) in zip(ids, ports) { members.append(try Member(id: id, host: "127.0.0.1", port: port)) }
        }
        return zip(ids, ports).map { id, port in
            var configuration = NodeConfiguration(
                id: id, port: port, members: members, tokenFile: options.tokenFile, limits: options.limits,
                logger: options.logs.logger(for: id), cores: options.cores)
            configuration.busyPoll = options.busyPoll
            return Node(pipelines: pipelines, configuration: configuration)
        }
    }

    /// Another client, through a node of the cluster. The caller closes it.
    public func connect(to index: Int = 0) async throws -> Client {
        try await Self.connect(to: nodes[index], options)
    }

    /// A client of any node of this process.
    public static func connect(to node: Node, _ options: Options = Options()) async throws -> Client {
        var configuration = ClientConfiguration()
        configuration.limits = options.limits
        configuration.tokenFile = options.tokenFile
        configuration.window = options.window
        configuration.busyPoll = options.busyPoll
        configuration.logger = options.logs.logger(for: "client")
        return try await Client.connect(to: "127.0.0.1:\(node.port ?? 0)", configuration: configuration)
    }

    /// Returns once a node's status is as the test expects.
    public func wait(for node: Int = 0, _ isThere: (NodeStatus) throws -> Bool) async throws {
        try await eventually { try isThere(try await nodes[node].status()) }
    }

    /// Ends the client, then all nodes. May be called when some were stopped already.
    public func stop() async {
        await client.close()
        for node in nodes { await node.shutDown() }
    }
}

/// Runs `body` with a cluster in this process, and stops it whatever happens.
///
///     try await testCluster(nodes: 3, pipeline) { cluster in
///         let inbox = try await cluster.client.inbox(of: pipeline)
///         #expect(try await inbox.ask(1) == 2)
///     }
///
/// If `body` throws, the nodes' logs are printed.
public func testCluster<Result>(
    nodes count: Int = 1, _ pipelines: any ServablePipeline..., options: LocalCluster.Options = .init(),
    body: (LocalCluster) async throws -> Result
) async throws -> Result {
    try await options.logs.printingOnFailure {
        let cluster = try await LocalCluster.start(nodes: count, pipelines, options: options)
        do {
            let result = try await body(cluster)
            await cluster.stop()
            return result
        } catch {
            await cluster.stop()
            throw error
        }
    }
}
