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
    /// Nodes and clients of other clusters are refused.
    public var clusterID: String
    /// A file with the cluster's token, mode 0600.
    public var tokenFile: String?
    /// Listen beyond loopback without a token.
    public var insecure: Bool
    public var limits: Limits
    public var logger: Logger
    /// Cores that `.perCore` counts; nil: those of the machine.
    public var cores: Int?
    /// Look for work for a moment before the node's thread and an instance of each lane sleep: less latency, for a
    /// core each while requests come.
    public var busyPoll = false

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

    var coreCount: Int { cores ?? ProcessInfo.processInfo.activeProcessorCount }
}
