// Flockwork · Apache-2.0 · see LICENSE

public import FlockCluster
internal import FlockTransport
public import FlockWire
internal import Foundation
public import Logging

/// What a node needs to know beside its pipelines.
public struct NodeConfiguration: Sendable {
    /// The node's stable name within the cluster.
    public var id: NodeID
    /// Where it listens. Anything but loopback needs a token (or `insecure`).
    public var host: String
    /// 0: any free port.
    public var port: Int
    /// All nodes of the cluster, this one included; empty: this node is alone. Must be the same on every node.
    public var members: [Member]
    /// Addresses ("host:port") of nodes that this one looks for. With `bootstrap`: of all its voters, this node among
    /// them. Without: of any nodes of a running cluster, which this one joins. Not together with `members`.
    public var join: [String] = []
    /// 1, 3 or 5: this node begins a cluster with so many voters, unless there is one already. All of them are given
    /// the same number and the same addresses in `join`.
    public var bootstrap: Int?
    /// A folder of this node's own, for what it must not forget as a voter. Without one, a voter that starts again does
    /// not vote any more: the cluster survives the failure of one voter less, until it is exchanged.
    public var dataFolder: String?
    /// Where operators reach this node: a socket in the file system, of mode 0600. Nil: `admin.sock` in the data
    /// folder, or none without one. At most 107 bytes.
    public var adminSocket: String?
    /// Nodes and clients of other clusters are refused.
    public var clusterID: String
    /// A file with the cluster's token, mode 0600.
    public var tokenFile: String?
    /// A file with another token for clients, mode 0600: who has only that cannot pass for a node. Nil: clients have
    /// the nodes' token. The same on all nodes.
    public var clientTokenFile: String?
    /// Listen beyond loopback without a token.
    public var insecure: Bool
    public var limits: Limits
    public var logger: Logger
    /// What this node has that stages may ask for with `labels:`, "gpu" for example: at most 16, of 1 to 255 bytes
    /// without space, comma or equals sign.
    public var labels: [String] = []
    /// Cores that `.perCore` counts; nil: those of the machine.
    public var cores: Int?
    /// Always look for work for a moment before the node's thread and an instance of each lane sleep, not only while
    /// that pays: less latency, for a core each while requests come.
    public var busyPoll = false
    /// What else is to be found at the node, before it listens.
    package var atStart: [@Sendable (StartingNode) async -> Void] = []
    /// For tests: faults of the network can be turned on, and are drawn from this seed.
    package var faultSeed: UInt64?
    /// For tests: when the process ends by itself.
    package var crashPoint: CrashPoint?

    public init(
        id: NodeID = "node-1", host: String = "127.0.0.1", port: Int = 7400, members: [Member] = [],
        clusterID: String = "flockwork", tokenFile: String? = nil, insecure: Bool = false, limits: Limits = Limits(),
        logger: Logger = Logger(label: "flockwork.node"), cores: Int? = nil
    ) {
        self.id = id
        self.host = host
        self.port = port
        self.members = members
        self.clusterID = clusterID
        self.tokenFile = tokenFile
        self.insecure = insecure
        self.limits = limits
        self.logger = logger
        self.cores = cores
    }

    /// What nodes, and clients, prove to have; read from the files.
    ///
    /// - Throws: `invalidInput` that names a file.
    func tokens() throws(FlockError) -> (nodes: Token?, clients: Token?) {
        let nodes = try tokenFile.map { path throws(FlockError) in try Token(file: path) }
        guard let clientTokenFile else { return (nodes, nil) }
        let clients = try Token(file: clientTokenFile)
        guard let nodes else {
            throw FlockError(
                .invalidInput, "There is a token for clients (\(clientTokenFile)), and none for nodes: give one too.")
        }
        guard !nodes.isSame(as: clients) else {
            throw FlockError(
                .invalidInput, "The token for clients (\(clientTokenFile)) is that of the nodes: make another one.")
        }
        return (nodes, clients)
    }

    /// Members come and go, and partitions have copies, as agreed views say.
    var isClustered: Bool { bootstrap != nil || !join.isEmpty }

    /// - Throws: `invalidInput` where the ways to find others do not go together.
    package func checkCluster() throws(FlockError) {
        _ = try NodeLabels.checked(labels)
        guard isClustered else { return }
        guard members.isEmpty else {
            throw FlockError(.invalidInput, "A static member list does not go together with join or bootstrap.")
        }
        guard !["0.0.0.0", "::", ""].contains(host) else {
            throw FlockError(
                .invalidInput, "Members tell each other where they listen: give the node's own address, not \(host).")
        }
        for address in join { _ = try HostPort.parse(address) }
        guard let bootstrap else { return }
        guard [1, 3, 5].contains(bootstrap) else {
            throw FlockError(.invalidInput, "A cluster begins with 1, 3 or 5 voters, not \(bootstrap).")
        }
        guard Set(join).count == join.count, join.count == bootstrap || (bootstrap == 1 && join.isEmpty) else {
            throw FlockError(
                .invalidInput,
                "A bootstrap of \(bootstrap) needs the addresses of all \(bootstrap) voters, this node's among them; "
                    + "join has \(Set(join).count).")
        }
    }

    /// Where the admin socket is to be; nil for nowhere.
    var adminPath: String? {
        adminSocket ?? (isClustered ? dataFolder.map { $0 + "/" + OperatorActor.socketName } : nil)
    }

    /// Instances that a node begins with. In a cluster, a number for all of it is shared out by views.
    func instances(of placement: StagePlacement, members: [NodeID]) -> Int {
        guard placement.isAllowed(on: labels) else { return 0 }
        if isClustered, case .total = placement.instances { return 0 }
        return placement.instances.count(on: id, of: members, cores: coreCount, stage: placement.name)
    }

    var coreCount: Int { cores ?? ProcessInfo.processInfo.activeProcessorCount }
}
