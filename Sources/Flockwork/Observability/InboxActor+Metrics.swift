// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockTransport
internal import FlockWire

// Gauges are read by a timer, not at every change: nothing on the way of a request pays for them.

extension InboxActor {
    /// How often the gauges are read.
    static let sampleTime = Duration.milliseconds(500)

    /// Begins to report, if there is somebody to report to. After `start`.
    func report(to metrics: NodeMetrics?) {
        self.metrics = metrics
        if metrics != nil { sample() }
    }

    private func sample() {
        guard let metrics else { return }
        metrics.set(openBytes: budget.open + budget.unread, openRequests: openItems)
        for (index, pipeline) in pipelines.enumerated() {
            let credits = pipeline.hosts.keys.reduce(0) { $0 + (pipeline.dispatcher.credit(of: $1)?.items ?? 0) }
            metrics.set(credits: credits, pipeline: index)
            for (lane, runner) in pipeline.runners.enumerated() {
                if let runner { metrics.set(waiting: runner.backlog.items, pipeline: index, lane: lane) }
            }
        }
        sampling = actorSystem.loop.schedule(after: Self.sampleTime) { [weak self] in
            self?.assumeIsolated { $0.sample() }
        }
    }

    /// Runs that no host has credit for, after all was sent that could be.
    func noteCredits(_ index: Int) {
        guard let metrics, pipelines[index].dispatcher.queuedItems > 0, !pipelines[index].hosts.isEmpty else { return }
        metrics.reached(.creditItems)
    }
}
