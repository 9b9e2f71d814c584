// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Metrics

// What a node reports through swift-metrics. All objects are made once, at the start, from names that are in the code:
// labels are bounded whatever clients send. Counters move once a run or a batch, never once an item. Without a metrics
// backend there is no `NodeMetrics` at all.

/// The counters and gauges of a node's inbox.
final class NodeMetrics: Sendable {
    /// By pipeline.
    private let requests: [Counter]
    private let outcomes: [OutcomeCounters]
    private let credits: [Gauge]
    /// By pipeline and lane; nil where no instance runs on this node.
    private let queueDepths: [[Gauge?]]
    private let refusals: CodeCounters
    private let limitsReached: [Limit: Counter]
    private let openBytes: Gauge
    private let openRequests: Gauge

    /// Whether there is somebody to report to. A backend must be set before the node starts.
    static var isActive: Bool { !(MetricsSystem.factory is NOOPMetricsHandler) }

    /// Makes the objects; nil without a backend.
    init?(node: NodeID, pipelines: [PipelineDefinition], instances: [[Int]]) {
        guard Self.isActive else { return nil }
        let own = [("node", node.rawValue)]
        let labels = pipelines.map { own + [("pipeline", $0.name)] }
        requests = labels.map { Counter(label: "flockwork_requests_total", dimensions: $0) }
        outcomes = labels.map { OutcomeCounters($0) }
        credits = labels.map { Gauge(label: "flockwork_credits", dimensions: $0) }
        queueDepths = zip(zip(pipelines, labels), instances).map { pipeline, counts in
            zip(pipeline.0.lanes, counts).map { lane, count in
                count == 0
                    ? nil
                    : Gauge(
                        label: "flockwork_stage_queue_depth",
                        dimensions: pipeline.1 + [("stage", StageLabel.text(lane.shape.name))])
            }
        }
        refusals = CodeCounters("flockwork_refused_total", key: "code", own, codes: CodeCounters.refusals)
        limitsReached = Dictionary(
            uniqueKeysWithValues: Limit.allCases.map { limit in
                let labels = own + [("limit", limit.rawValue)]
                return (limit, Counter(label: "flockwork_limit_reached_total", dimensions: labels))
            })
        openBytes = Gauge(label: "flockwork_open_bytes", dimensions: own)
        openRequests = Gauge(label: "flockwork_open_requests", dimensions: own)
    }

    /// A run was accepted.
    func accepted(_ count: Int, pipeline: Int) {
        requests[pipeline].increment(by: count)
    }

    /// A run, or a session, was not accepted.
    func refused(_ error: FlockError) {
        refusals.count(error.code, 1)
    }

    /// Outcomes that go to a client of a pipeline.
    func delivered(_ runs: [OutcomeRun], pipeline: Int?) {
        guard let pipeline else { return }
        for run in runs { outcomes[pipeline].count(run) }
    }

    /// A bound was met; on any thread.
    func reached(_ limit: Limit) {
        limitsReached[limit]?.increment()
    }

    // MARK: What is, now and then

    func set(openBytes: Int, openRequests: Int) {
        self.openBytes.record(openBytes)
        self.openRequests.record(openRequests)
    }

    func set(credits: Int, pipeline: Int) {
        self.credits[pipeline].record(credits)
    }

    func set(waiting: Int, pipeline: Int, lane: Int) {
        queueDepths[pipeline][lane]?.record(waiting)
    }
}

/// Outcomes of one pipeline by kind.
private struct OutcomeCounters: Sendable {
    private let values: Counter
    private let filtered: Counter
    private let failures: CodeCounters

    private static let name = "flockwork_outcomes_total"

    init(_ labels: [(String, String)]) {
        values = Counter(label: Self.name, dimensions: labels + [("outcome", "value")])
        filtered = Counter(label: Self.name, dimensions: labels + [("outcome", "filtered")])
        failures = CodeCounters(Self.name, key: "outcome", labels, codes: CodeCounters.failures)
    }

    func count(_ run: OutcomeRun) {
        switch run.outcome {
        case .values(_, nil): values.increment(by: run.sequences.count)
        case .values(_, let mask?):
            let count = (0..<mask.count).count { mask[$0] }
            values.increment(by: run.sequences.count - count)
            filtered.increment(by: count)
        case .filtered: filtered.increment(by: run.sequences.count)
        case .failed(let error): failures.count(error.code, run.sequences.count)
        }
    }
}

/// A counter for each of some error codes, and one for all others: a peer cannot invent labels.
private struct CodeCounters: Sendable {
    /// What an inbox answers instead of accepting.
    static let refusals: [FlockError.Code] = [
        .overloaded, .tooLarge, .invalidInput, .expired, .unavailable, .shuttingDown, .lost, .notFound,
        .deadlineExceeded, .suspended,
    ]
    /// What an accepted request ends with.
    static let failures: [FlockError.Code] = [
        .stageFailed, .badBatch, .deadlineExceeded, .cancelled, .resultTooLarge, .poison, .expired, .lost, .unavailable,
        .invalidInput, .tooLarge, .overloaded, .pythonFailed,
    ]

    private let counters: [FlockError.Code: Counter]
    private let other: Counter

    init(_ label: String, key: String, _ labels: [(String, String)], codes: [FlockError.Code]) {
        func counter(_ text: String) -> Counter { Counter(label: label, dimensions: labels + [(key, text)]) }
        counters = Dictionary(uniqueKeysWithValues: codes.map { ($0, counter($0.description)) })
        other = counter("other")
    }

    func count(_ code: FlockError.Code, _ count: Int) {
        (counters[code] ?? other).increment(by: count)
    }
}
