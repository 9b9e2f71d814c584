// Flockwork · Apache-2.0 · see LICENSE

import Distributed
import FlockCluster
import FlockTestKit
import InMemoryTracing
import Metrics
import MetricsTestKit
import Testing
import Tracing

@testable import Flockwork

@Suite("Metrics", .timeLimit(.minutes(1)), .logsOnFailure)
struct MetricsTests {
    private func count(_ metrics: TestMetrics, _ label: String, _ labels: (String, String)...) -> Int64 {
        metrics.counterTotal(label: "flockwork_\(label)", dimensions: labels)
    }

    /// The gauge's newest value.
    private func gauge(_ metrics: TestMetrics, _ label: String, _ labels: (String, String)...) -> Double? {
        metrics.recorders(label: "flockwork_\(label)", dimensions: labels).first?.lastValue
    }

    @Test("requests and outcomes of each kind are counted, batches are measured")
    func outcomes() async throws {
        let metrics = TestMetrics()
        let pipeline = Pipeline("mixed", of: Int.self).filter { $0 % 2 == 1 }.stage(Superstitious.init)
        try await withMetricsFactory(metrics) {
            try await testCluster(pipeline) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                let tickets = try await inbox.post(Array(0..<20))
                var left = tickets.count
                for await _ in inbox.outbox() {
                    left -= 1
                    if left == 0 { break }
                }
            }
        }
        let place = [("node", "node-0"), ("pipeline", "mixed")]
        #expect(metrics.counterTotal(label: "flockwork_requests_total", dimensions: place) == 20)
        #expect(count(metrics, "outcomes_total", place[1], ("outcome", "value")) == 9)
        #expect(count(metrics, "outcomes_total", place[1], ("outcome", "filtered")) == 10)
        #expect(count(metrics, "outcomes_total", place[1], ("outcome", "stageFailed")) == 1)
        #expect(count(metrics, "outcomes_total") == 20)
        #expect(count(metrics, "refused_total") == 0 && count(metrics, "limit_reached_total") == 0)

        let stage = place + [("stage", "Superstitious")]
        let sizes = try #require(metrics.recorders(label: "flockwork_stage_batch_size").first)
        #expect(sizes.values.reduce(0, +) == 20)
        let queue = try #require(metrics.timers(label: "flockwork_stage_queue_duration_seconds").first)
        let compute = try #require(metrics.timers(label: "flockwork_stage_compute_duration_seconds").first)
        for values in [queue.values, compute.values] {
            // One value a batch, in this process's time.
            #expect(values.count == sizes.values.count && values.allSatisfy { $0 > 0 && $0 < 60_000_000_000 })
        }
        for (key, value) in stage.dropLast() {
            #expect(compute.dimensions.contains { $0 == (key, value) }, "\(compute.dimensions)")
        }
        #expect(compute.dimensions.map(\.0) == ["node", "pipeline", "stage"] && compute.displayUnit == .seconds)
    }

    @Test("gauges follow what is open, what waits and what credit is left")
    func gauges() async throws {
        let metrics = TestMetrics()
        let gate = Gate()
        let pipeline = Pipeline("gated", of: Int.self).stage(batch: .upTo(4), instances: .perNode(1)) {
            Gated(gate, actorSystem: $0)
        }
        var options = LocalCluster.Options()
        options.limits.creditItems = 16
        try await withMetricsFactory(metrics) {
            try await testCluster(pipeline, options: options) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                let tickets = try await inbox.post(Array(0..<20))
                await gate.arrived(1)
                try await eventually { gauge(metrics, "open_requests") == 20 && gauge(metrics, "credits") == 0 }
                // 16 were sent: a batch of at most 4 of them is with the stage.
                let taken = try #require(gate.sizes.first)
                try await eventually { gauge(metrics, "stage_queue_depth") == Double(16 - taken) }
                let openBytes = try await flock.nodes[0].status().openBytes
                #expect(openBytes > 20 * options.limits.reservedResultBytes)
                #expect(gauge(metrics, "open_bytes") == Double(openBytes))
                #expect(count(metrics, "limit_reached_total", ("limit", "creditItems")) > 0)
                gate.open()
                var left = tickets.count
                for await _ in inbox.outbox() {
                    left -= 1
                    if left == 0 { break }
                }
                try await eventually { gauge(metrics, "open_requests") == 0 && gauge(metrics, "credits") == 16 }
                try await eventually { gauge(metrics, "stage_queue_depth") == 0 }
            }
        }
    }

    @Test("a refusal is counted by its code and by the limit that was reached")
    func refusals() async throws {
        let metrics = TestMetrics()
        let pipeline = Pipeline("one", of: Review.self).stage(Measure.init)
        var options = LocalCluster.Options()
        options.limits.openBytes = 4096
        options.limits.partitions = 1
        options.limits.sessionsPerPartition = 1
        try await withMetricsFactory(metrics) {
            try await testCluster(pipeline, options: options) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                let large = Review(id: 1, text: String(repeating: "x", count: 5000))
                let tooLarge = await #expect(throws: FlockError.self) { try await inbox.post([large]) }
                #expect(tooLarge?.code == .tooLarge)
                #expect(count(metrics, "refused_total", ("code", "tooLarge")) == 1)
                #expect(count(metrics, "limit_reached_total", ("limit", "openBytes")) == 1)
                let full = await #expect(throws: FlockError.self) { _ = try await flock.client.inbox(of: pipeline) }
                #expect(full?.code == .overloaded)
                #expect(count(metrics, "refused_total", ("code", "overloaded")) == 1)
                #expect(count(metrics, "limit_reached_total", ("limit", "sessionsPerPartition")) == 1)
            }
        }
    }

    @Test("a result over its reserve is counted as a limit that was reached")
    func largeResult() async throws {
        let metrics = TestMetrics()
        let pipeline = Pipeline("text", of: Int.self).map { String(repeating: "x", count: $0) }
        try await withMetricsFactory(metrics) {
            try await testCluster(pipeline) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                let error = await #expect(throws: FlockError.self) { try await inbox.ask(5000) }
                #expect(error?.code == .resultTooLarge)
            }
        }
        #expect(count(metrics, "outcomes_total", ("outcome", "resultTooLarge")) == 1)
        #expect(count(metrics, "limit_reached_total", ("limit", "reservedResultBytes")) == 1)
    }

    /// A partition with one session, and what it answers to runs of that many items of 8 bytes.
    private func refusal(_ counts: [Int], window: Int = 64, _ change: (inout Limits) -> Void) throws -> FlockError {
        var limits = Limits()
        limits.reservedResultBytes = 8
        change(&limits)
        let secret = SessionSecret(1, 2)
        var replica = PartitionReplica(
            partition: PartitionID(0), epoch: 1, node: "a", inSync: ["a"], generation: 1, limits: limits)
        var budget = ByteBudget(limits: limits)
        var out: [PartitionDirective] = []
        replica.step(
            .open(pipeline: 0, secret: secret, window: window, reply: 1), now: .zero, budget: &budget, out: &out)
        guard case .opened(_, let session) = try #require(out.last) else { throw Bad() }
        var first: UInt64 = 0
        for count in counts {
            let items = ItemBuffer(Rows([Int64](repeating: 0, count: count), width: 1))
            let run = AcceptRun(sequences: SequenceRun(first: first, count: count), items: items)
            first += UInt64(count)
            replica.step(
                .submit(session: session, secret: secret, run: run, reply: 1), now: .zero, budget: &budget, out: &out)
        }
        guard case .refused(_, _, let error) = try #require(out.last) else { throw Bad() }
        return error
    }

    @Test("each limit of a partition is told apart by what it answers")
    func limits() throws {
        #expect(try refusal([60, 5]) { _ in }.limit == .sessionWindow)
        #expect(try refusal([65]) { _ in }.limit == .sessionWindow)
        #expect(try refusal([6, 6]) { $0.sessionResultBytes = 80 }.limit == .sessionResultBytes)
        #expect(try refusal([6, 6]) { $0.openBytes = 200 }.limit == .openBytes)
        #expect(try refusal([12]) { $0.openBytes = 200 }.limit == .openBytes)
        // The second of the refused runs is refused for its order only.
        #expect(try refusal([60, 5, 1]) { _ in }.limit == nil)
    }

    @Test("the label of a stage names no folders")
    func labels() {
        #expect(StageLabel.text("Normalize+linear /srv/models/a.json") == "Normalize+linear a.json")
        #expect(StageLabel.text("linear models/a.json+Sort") == "linear a.json+Sort")
        #expect(StageLabel.text("AddOne") == "AddOne" && StageLabel.text("a/b") == "b")
    }

    @Test("without a backend there is nothing to report to")
    func inactive() throws {
        #expect(NodeMetrics(node: "a", pipelines: [], instances: []) == nil)
        #expect(withMetricsFactory(TestMetrics()) { NodeMetrics(node: "a", pipelines: [], instances: []) } != nil)
    }
}

@Suite("Traces", .timeLimit(.minutes(1)), .logsOnFailure)
struct TraceTests {
    @Test("the span of a batch is a root, linked to the spans of its requests")
    func links() async throws {
        let tracer = TraceRecorder()
        let gate = Gate()
        let pipeline = gate.pipeline
        try await withTracer(tracer) {
            try await testCluster(pipeline) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                // An untraced request keeps the instance busy, so that the two others come as one batch.
                async let first = inbox.ask(1)
                await gate.arrived(1)
                let others = (2...3).map { item in
                    Task { try await withSpan("request \(item)") { _ in try await inbox.ask(item) } }
                }
                try await flock.wait { $0.openRequests == 3 && $0.stages[0].waiting == 2 }
                gate.open()
                #expect(try await first == 1)
                for (task, item) in zip(others, 2...3) { #expect(try await task.value == item) }
            }
        }
        let batch = try #require(tracer.batches.first)
        #expect(tracer.batches.count == 1 && batch.parentSpanID == nil && batch.kind == .consumer)
        let requests = tracer.finished.filter { $0.operationName.hasPrefix("request") }
        let linked = batch.links.compactMap(\.context.inMemorySpanContext)
        #expect(Set(linked.map(\.spanID)) == Set(requests.map(\.spanID)) && linked.count == 2)
        #expect(Set(linked.map(\.traceID)) == Set(requests.map(\.traceID)))
        #expect(!requests.map(\.traceID).contains(batch.traceID))
        #expect(batch.attributes.get("flockwork.batch.items") == .int64(2))
        #expect(batch.attributes.get("flockwork.pipeline") == .string("gated"))
        #expect(batch.attributes.get("flockwork.node") == .string("node-0"))
    }

    @Test("a trace goes along to the node that runs the stage")
    func otherNode() async throws {
        let tracer = TraceRecorder()
        let pipeline = Pipeline("one", of: Int.self)
            .stage(instances: .total(1), AddOne.init).stage(instances: .perNode(1), AddOne.init)
        try await withTracer(tracer) {
            try await testCluster(nodes: 2, pipeline) { flock in
                let host = try #require(try await flock.client.status().first { $0.stages.count == 2 }?.node)
                let lone = try #require(flock.nodes.first { $0.id != host })
                let inbox = try await lone.inbox(of: pipeline)
                try await flock.wait(for: lone.id == "node-0" ? 0 : 1) { $0.peers.contains(host) }
                let answer = try await withSpan("request") { _ in try await inbox.ask(1) }
                #expect(answer == 3)
                for batch in tracer.batches {
                    #expect(batch.attributes.get("flockwork.node") == .string(host.rawValue))
                }
            }
        }
        let request = try #require(tracer.finished.first { $0.operationName == "request" })
        #expect(tracer.batches.count == 2, "one for each lane")
        for batch in tracer.batches {
            #expect(batch.links.map(\.context.inMemorySpanContext?.spanID) == [request.spanID])
        }
    }

    @Test("in a cluster a trace outlives the node that accepted its request: who executes it again has it from a copy")
    func primaryDies() async throws {
        let tracer = TraceRecorder()
        let gate = Gate()
        try await withTracer(tracer) {
            try await OperatedFlock.run(3, gate.pipeline) { flock, nodes in
                let client = try await flock.client()
                let inbox = try await client.inbox(of: gate.pipeline)
                let answer = Task { try await withSpan("request") { _ in try await inbox.ask(7) } }
                await gate.arrived(1)
                // It is executed while it is being accepted.
                var held: Node?
                try await eventually {
                    for node in nodes where try await node.status().openRequests > 0 { held = node }
                    return held != nil
                }
                let primary = try #require(held)
                // It ends when its stage has, and its batch with it: that is no outcome of anything.
                let end = Task { await primary.abandon() }
                await gate.arrived(2)
                gate.open()
                #expect(try await answer.value == 7)
                await end.value
                await client.close()
                let request = try #require(tracer.finished.first { $0.operationName == "request" })
                let others = tracer.batches.filter {
                    $0.attributes.get("flockwork.node") != .string(primary.id.rawValue)
                }
                #expect(!others.isEmpty)
                for batch in others {
                    #expect(batch.links.map(\.context.inMemorySpanContext?.spanID) == [request.spanID])
                    #expect(batch.links.map(\.context.inMemorySpanContext?.traceID) == [request.traceID])
                }
            }
        }
    }

    @Test("a batch that fails says so in its span")
    func failure() async throws {
        let tracer = TraceRecorder()
        let pipeline = Pipeline("bad", of: Int.self).stage(Superstitious.init)
        try await withTracer(tracer) {
            try await testCluster(pipeline) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                _ = await #expect(throws: FlockError.self) {
                    try await withSpan("request") { _ in try await inbox.ask(13) }
                }
            }
        }
        let batch = try #require(tracer.batches.first)
        #expect(batch.status?.code == .error && batch.status?.message == "stageFailed" && batch.errors.count == 1)
    }

    @Test("without a traced request there is no span, and nothing is extracted")
    func untraced() async throws {
        let tracer = TraceRecorder()
        let pipeline = Pipeline("one", of: Int.self).stage(AddOne.init)
        try await withTracer(tracer) {
            try await testCluster(pipeline) { flock in
                let inbox = try await flock.client.inbox(of: pipeline)
                #expect(try await inbox.ask(1) == 2)
            }
        }
        #expect(tracer.finished.isEmpty && tracer.extractions == 0)
    }
}
