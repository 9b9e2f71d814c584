// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Tracing

// A batch belongs to many requests, so its span is a root of its own that is linked to theirs.

/// The span of a batch with traced requests.
enum BatchSpan {
    /// Where the batch is handled.
    struct Place: Sendable {
        var pipeline: String
        var stage: String
        var node: String
    }

    /// Links of one span; OpenTelemetry's own default bound.
    static let linksMaximum = 128

    /// Whether one of the requests is traced.
    static func isWanted(for runs: [WorkRun]) -> Bool {
        runs.contains { $0.trace != nil }
    }

    /// Runs `body` within a span if one of the requests is traced and somebody takes spans. What the stage traces
    /// itself are children of that span.
    static func run(
        _ runs: [WorkRun], at place: Place, _ body: () async -> BatchResult
    ) async -> BatchResult {
        guard isWanted(for: runs) else { return await body() }
        let tracer = InstrumentationSystem.tracer
        if tracer is NoOpTracer { return await body() }
        return await tracer.withAnySpan("flockwork.batch", context: .topLevel, ofKind: .consumer) { span in
            link(span, to: runs)
            span.attributes["flockwork.pipeline"] = place.pipeline
            span.attributes["flockwork.stage"] = place.stage
            span.attributes["flockwork.node"] = place.node
            span.attributes["flockwork.batch.items"] = runs.reduce(0) { $0 + $1.run.count }
            let result = await body()
            for case .failed(let error) in result.parts.lazy.map(\.ending) {
                // The first error stands for the batch; each request has its own in its outcome.
                span.recordError(error)
                span.setStatus(SpanStatus(code: .error, message: error.code.description))
                break
            }
            return result
        }
    }

    /// One link for each context, however many of the batch's requests have it.
    private static func link(_ span: any Span, to runs: [WorkRun]) {
        var known: Set<TraceContext> = []
        for run in runs {
            guard let trace = run.trace, known.count < linksMaximum, known.insert(trace).inserted else { continue }
            span.addLink(SpanLink(context: trace.context, attributes: [:]))
        }
    }
}

extension TraceContext {
    /// As the instrument of this process understands it.
    fileprivate var context: ServiceContext {
        var context = ServiceContext.topLevel
        InstrumentationSystem.instrument.extract(
            ["traceparent": traceparent], into: &context, using: DictionaryExtractor())
        return context
    }

    private struct DictionaryExtractor: Extractor {
        func extract(key: String, from carrier: [String: String]) -> String? { carrier[key.lowercased()] }
    }
}
