// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// What a node's copies of durable partitions get goes to its log; what the log says comes back as events.

/// What a node's disk has when it starts.
struct NodeDisk: Sendable {
    /// As a voter; nil if it never voted.
    var record: VoterRecord?
    /// The number of the log under its copies of durable partitions; 0 for none.
    var log: UInt64 = 0
    /// What the log has of partitions.
    var copies: [RecoveredCopy] = []
}

extension InboxActor {
    /// Opens what is in a node's folder. Blocks: for the start of a node.
    static func open(
        _ folder: DataFolder, isDurable: Bool, for inbox: InboxActor, limits: Limits, log: Logger
    ) async throws -> NodeDisk {
        var disk = NodeDisk(record: try VoterFile.load(from: folder))
        await inbox.whenLocal { $0.keepRecord(in: folder) }
        guard isDurable else { return disk }
        let found = try DurableLog.recover(from: folder, fresh: .random(in: 1 ... .max), limits: limits)
        if found.verdict.isDamaged {
            log.error(
                "the log on this node's disk is damaged: its copies are thrown away and made again from others",
                metadata: ["folder": "\(folder.path)", "verdict": "\(found.verdict)"])
        } else if !found.copies.isEmpty {
            log.notice("copies were found on this node's disk", metadata: ["partitions": "\(found.copies.count)"])
        }
        disk.log = found.recovery.log
        disk.copies = found.copies
        await inbox.whenLocal { $0.keepCopies(in: folder, after: found.recovery) }
        return disk
    }

    private func keepCopies(in folder: DataFolder, after recovery: WALRecovery) {
        let listener = DurableLog.Listener(
            kept: { [weak self] kept in self?.assumeIsolated { $0.step(NodeEvent.kept(kept)) } },
            wantSnapshot: { [weak self] partition in
                self?.assumeIsolated { $0.step(NodeEvent.snapshotWanted(partition)) }
            },
            failed: { [weak self] error in self?.assumeIsolated { $0.diskFailed(error) } })
        durableLog = DurableLog(
            in: folder, after: recovery, on: actorSystem.loop, limits: limits, listener: listener)
    }

    private func diskFailed(_ error: FlockError) {
        log.critical(
            "the disk refuses: this node acknowledges nothing more, and leaves the cluster",
            metadata: ["error": "\(error)"])
        diskError = error
        step(NodeEvent.diskFailed)
    }

    /// Returns why this process is out for good, once it is; nil when it stops.
    func waitForExclusion() async -> FlockError? {
        if let error = cluster?.refusal { return error }
        if let diskError, cluster?.hasLeft == true { return diskError }
        return await withUnsafeContinuation { exclusion.append($0) }
    }

    /// Tells those who wait.
    func excluded(_ error: FlockError?) {
        let waiting = exclusion
        exclusion = []
        for continuation in waiting { continuation.resume(returning: error) }
    }

    /// Whether a pipeline's sessions are in durable partitions.
    func isDurable(_ kind: SessionKind) -> Bool {
        pipelines.indices.contains(kind.pipeline) && pipelines[kind.pipeline].definition.group == .durable
    }
}
