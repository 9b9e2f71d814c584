// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Metrics

/// What is measured around each batch of a lane on this node.
final class StageObservation: Sendable {
    private struct Metrics: Sendable {
        let batchSize: Recorder
        let queueDuration: Timer
        let computeDuration: Timer
    }

    // Written once by `begin`, before the lane's instances start.
    private nonisolated(unsafe) var metrics: Metrics?
    // The same.
    private nonisolated(unsafe) var place = BatchSpan.Place(pipeline: "", stage: "", node: "")

    /// Says what is observed. Before the lane's instances start.
    func begin(pipeline: String, stage: String, node: NodeID) {
        let stage = StageLabel.text(stage)
        place = BatchSpan.Place(pipeline: pipeline, stage: stage, node: node.rawValue)
        guard NodeMetrics.isActive else { return }
        let labels = [("node", node.rawValue), ("pipeline", pipeline), ("stage", stage)]
        func timer(_ label: String) -> Timer {
            Timer(label: label, dimensions: labels, preferredDisplayUnit: .seconds)
        }
        metrics = Metrics(
            batchSize: Recorder(label: "flockwork_stage_batch_size", dimensions: labels),
            queueDuration: timer("flockwork_stage_queue_duration_seconds"),
            computeDuration: timer("flockwork_stage_compute_duration_seconds"))
    }

    /// Runs a batch. Once a batch: its size, how long its oldest request had waited, how long it took, and a span if
    /// one of its requests is traced.
    func run(_ runs: [WorkRun], _ body: () async -> BatchResult) async -> BatchResult {
        guard metrics != nil || BatchSpan.isWanted(for: runs) else { return await body() }
        let start = EventLoop.now
        let result = await BatchSpan.run(runs, at: place, body)
        if let metrics {
            metrics.batchSize.record(runs.reduce(0) { $0 + $1.run.count })
            if let oldest = runs.first { metrics.queueDuration.record(start - oldest.arrived) }
            metrics.computeDuration.record(EventLoop.now - start)
        }
        return result
    }
}

extension Timer {
    fileprivate func record(_ duration: Duration) {
        recordNanoseconds(Int64(clamping: duration.clampedNanoseconds))
    }
}
