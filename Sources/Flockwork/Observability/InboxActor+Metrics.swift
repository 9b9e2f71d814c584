// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// Gauges are read by a timer, not at every change: nothing on the way of a request pays for them.

extension InboxActor {
    /// How often the gauges are read.
    static let sampleTime = Duration.milliseconds(500)

    /// Begins to report, if there is somebody to report to. After `start`.
    func report(to metrics: NodeMetrics?) {
        self.metrics = metrics
        guard let metrics else { return }
        actorSystem.loop.limitsReached.listen { metrics.reached($0) }
        sample()
    }

    private func sample() {
        guard let metrics else { return }
        metrics.set(openBytes: budget.open + budget.unread, openRequests: openItems)
        for (index, pipeline) in pipelines.enumerated() {
            let credits = pipeline.hosts.keys.reduce(0) { $0 + (pipeline.dispatcher.credit(of: $1)?.items ?? 0) }
            metrics.set(credits: credits, pipeline: index)
            for (lane, runner) in pipeline.runners.enumerated() {
                metrics.set(waiting: runner?.backlog.items ?? 0, pipeline: index, lane: lane)
            }
        }
        sampling = actorSystem.loop.schedule(after: Self.sampleTime) { [weak self] in
            self?.assumeIsolated { $0.sample() }
        }
    }

    func reached(_ limit: Limit?) { actorSystem.loop.limitsReached.reached(limit) }

    /// What became too old, after the partition's clock went on.
    func noteExpiry(_ before: PartitionCounters?, _ after: PartitionCounters?) {
        guard let before, let after else { return }
        if after.expired > before.expired { reached(.outcomeTimeToLive) }
        if after.idleSessions > before.idleSessions { reached(.sessionIdleTime) }
    }

    /// Runs that no host has credit for, after all was sent that could be.
    func noteCredits(_ index: Int) {
        guard pipelines[index].dispatcher.queuedItems > 0, !pipelines[index].hosts.isEmpty else { return }
        let dispatcher = pipelines[index].dispatcher
        let hasItems = pipelines[index].hosts.keys.contains { (dispatcher.credit(of: $0)?.items ?? 0) > 0 }
        reached(hasItems ? .creditBytes : .creditItems)
    }
}
