// Flockwork · Apache-2.0 · see LICENSE

import InMemoryTracing
import Tracing

/// The in-memory tracer with W3C's header, as backends have it.
struct TraceRecorder: Tracer {
    private let memory: InMemoryTracer

    init() {
        let ids = InMemoryTracer.IDGenerator.incrementing
        memory = InMemoryTracer(
            idGenerator: .init(
                nextTraceID: { Self.hex(ids.nextTraceID(), digits: 32) },
                nextSpanID: { Self.hex(ids.nextSpanID(), digits: 16) }))
    }

    /// The number at the end of `span-12`, as an id.
    private static func hex(_ id: String, digits: Int) -> String {
        let number = String(Int(id.split(separator: "-").last ?? "") ?? 0, radix: 16)
        return String(repeating: "0", count: digits - number.count) + number
    }

    var finished: [FinishedInMemorySpan] { memory.finishedSpans }
    var batches: [FinishedInMemorySpan] { finished.filter { $0.operationName == "flockwork.batch" } }
    var extractions: Int { memory.performedContextExtractions.count }

    func startSpan<Instant: TracerInstant>(
        _ operationName: String, context: @autoclosure () -> ServiceContext, ofKind kind: SpanKind,
        at instant: @autoclosure () -> Instant, function: String, file fileID: String, line: UInt
    ) -> InMemorySpan {
        memory.startSpan(
            operationName, context: context(), ofKind: kind, at: instant(), function: function, file: fileID,
            line: line)
    }

    func forceFlush() {}

    func inject<Carrier, Inject: Injector>(
        _ context: ServiceContext, into carrier: inout Carrier, using injector: Inject
    ) where Inject.Carrier == Carrier {
        guard let span = context.inMemorySpanContext else { return }
        injector.inject("00-\(span.traceID)-\(span.spanID)-01", forKey: "traceparent", into: &carrier)
    }

    func extract<Carrier, Extract: Extractor>(
        _ carrier: Carrier, into context: inout ServiceContext, using extractor: Extract
    ) where Extract.Carrier == Carrier {
        memory.extract(carrier, into: &context, using: extractor)
        guard let parts = extractor.extract(key: "traceparent", from: carrier)?.split(separator: "-"), parts.count == 4
        else { return }
        context.inMemorySpanContext = InMemorySpanContext(
            traceID: String(parts[1]), spanID: String(parts[2]), parentSpanID: nil)
    }
}
