// Flockwork · Apache-2.0 · see LICENSE

internal import Flockwork
internal import Metrics

// Labels are the node, the pipeline and the stage: a child's number grows with every restart, so it is none.

/// What a pool tells swift-metrics. Once a batch or now and then, never once an item.
struct PoolMetrics: Sendable {
    private let batches: Counter
    private let items: Counter
    private let busy: FloatingPointCounter
    private let exceptions: Counter
    private let restarts: Counter
    private let droppedLines: Counter
    private let resident: Gauge
    private let workers: Gauge

    /// Nil if nobody takes metrics.
    init?(for place: SharedContext) {
        guard !(MetricsSystem.factory is NOOPMetricsHandler) else { return nil }
        let labels = [
            ("node", place.node.node.rawValue), ("pipeline", place.pipeline), ("stage", place.stage),
        ]
        batches = Counter(label: "flockwork_python_batches_total", dimensions: labels)
        items = Counter(label: "flockwork_python_items_total", dimensions: labels)
        busy = FloatingPointCounter(label: "flockwork_python_busy_seconds_total", dimensions: labels)
        exceptions = Counter(label: "flockwork_python_exceptions_total", dimensions: labels)
        restarts = Counter(label: "flockwork_python_restarts_total", dimensions: labels)
        droppedLines = Counter(label: "flockwork_python_dropped_lines_total", dimensions: labels)
        resident = Gauge(label: "flockwork_python_resident_bytes", dimensions: labels)
        workers = Gauge(label: "flockwork_python_workers", dimensions: labels)
    }

    func count(_ answer: WorkerAnswer, items count: Int) {
        batches.increment()
        items.increment(by: count)
        busy.increment(by: Double(answer.busyNanoseconds) / 1e9)
        if case .failed = answer.content { exceptions.increment() }
    }

    func restarted() { restarts.increment() }

    func dropped(_ lines: Int) { droppedLines.increment(by: lines) }

    func set(_ children: [ChildStatus]) {
        resident.record(children.reduce(0) { $0 + $1.residentBytes })
        workers.record(children.count { $0.state == "serving" })
    }
}
