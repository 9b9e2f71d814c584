// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

/// Where the partitions of a cluster keep what a pipeline was asked and what it answered.
public enum PartitionGroup: String, Codable, Sendable, Hashable, CaseIterable {
    /// In the memory of all replicas in sync: survives the loss of a node of three, not a stop of all.
    case replicated
    /// On their disks as well, before anything is called accepted or done: survives a stop of all nodes too. Needs a
    /// cluster (`NodeConfiguration.bootstrap` or `join`) whose nodes have a data folder each.
    case durable
}

extension Pipeline {
    /// Keeps the pipeline's requests and outcomes in a group of partitions; `replicated` where nothing is said. All
    /// nodes of a cluster must say the same; callers need not.
    public func kept(_ group: PartitionGroup) -> Pipeline {
        var pipeline = self
        pipeline.group = group
        return pipeline
    }
}

extension [PipelineDefinition] {
    /// How many of a cluster's partitions are durable: none, all, or half of them where pipelines want both.
    func durablePartitions(of partitions: Int) throws(FlockError) -> Int {
        let durable = count { $0.group == .durable }
        if durable == 0 { return 0 }
        if durable == count { return partitions }
        guard partitions > 1 else {
            throw FlockError(.invalidInput, "One partition cannot be of both groups, replicated and durable.")
        }
        return partitions / 2
    }
}
