// Flockwork · Apache-2.0 · see LICENSE

import CRawPingPong
import FlockPython
import Flockwork
import Foundation
import Glibc
import Logging
import Synchronization

/// Python functions behind the inbox of a node in this process.
enum PythonServed {
    static func measure(_ run: Run, _ python: BenchPython) async throws {
        let echo = Pipeline("echo", of: String.self)
            .model(python.model("handler:echo", spares: 1), instances: .perNode(1))
        try await lowLoad(run, python, echo)
        try await run.latency("python", "child-killed", must: "200 ms, no failure (aim 50 ms)") { seconds in
            try await withNode(echo) { try await killed($0, echo, seconds: seconds) }
        }
        try await run.latency("python", "start-warm", must: "500 ms (aim 300 ms)") {
            try await starts(echo, request: "x", answer: "reply-x", seconds: $0)
        }
        try await long(run, python)
        guard python.has("numpy, sklearn") else { return }
        try await logreg(run, python)
    }

    // MARK: Logistic regression

    private static func logreg(_ run: Run, _ python: BenchPython) async throws {
        let expected = try await python.bare("logreg", 1024, 0.1).expected ?? []
        let rows = PythonJob.rows(count: expected.count)
        let pipeline = Pipeline("logreg", rowsOf: 16)
            .model(python.model("logreg:predict"), instances: .perCore)
        // A batch costs its call: it pays to wait for more.
        try await run.rate("python", "logreg-inbox", must: "0.6 M/s (aim 3 M/s)") { seconds -> Measured in
            try await withNode(pipeline) { node in
                let inbox = try await node.inbox(of: pipeline, window: 65_536)
                return try await post(inbox, seconds: seconds, count: rows.count) {
                    try await inbox.post(rows, until: .buffered)
                } check: { batch, first in
                    batch.withScores { scores in
                        scores.indices.allSatisfy { scores[$0] == expected[(first + $0) % expected.count] }
                    }
                }
            }
        }
        let loaded = try await python.bare("logreg", 1, 0.01).loaded ?? 0
        let own = Measured(
            items: 1, wallSeconds: loaded, processorSeconds: loaded,
            latency: .init(of: [UInt64(loaded * 1e9)]))
        let single = Pipeline("logreg", rowsOf: 16)
            .model(python.model("logreg:predict"), instances: .perNode(1))
        try await run.latency("python", "start-warm-logreg", limit: own, must: "500 ms + limit, the model's imports") {
            try await starts(single, request: Row(Array(rows.elements.prefix(16))), answer: expected[0], seconds: $0)
        }
        try await cold(run, python, Row(Array(rows.elements.prefix(16))), answer: expected[0])
    }

    /// From the start of a node to its first answer, the virtual environment made on the way, with pip and with uv.
    private static func cold(_ run: Run, _ python: BenchPython, _ request: Row, answer: Float) async throws {
        guard let wheels = python.wheels, let requirements = python.requirements else {
            return run.skip("rows start-cold*", "there are no wheels; make libs-python, without FLOCKWORK_BENCH_PYTHON")
        }
        let files = FileManager.default
        let place = files.temporaryDirectory.appending(path: "flockbench-cold-\(getpid())")
        // It may not be there any more.
        defer { try? files.removeItem(at: place) }
        let folder = place.appending(path: "model")
        try files.createDirectory(
            at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try files.copyItem(
            atPath: BenchPython.folder + "/logreg.py", toPath: folder.appending(path: "handler.py").path)
        try files.copyItem(atPath: requirements, toPath: folder.appending(path: "requirements.txt").path)
        let search = ProcessInfo.processInfo.environment["PATH"] ?? ""
        defer { setenv("PATH", search, 1) }
        for (name, uv) in [("start-cold", ""), ("start-cold-uv", python.uvFolder)] {
            guard let uv else { return run.skip("row \(name)", "there is no uv; make libs-python") }
            setenv("PATH", "\(uv):/usr/bin:/bin", 1)
            try await run.latency("python", name, must: "4,000 ms (aim 1,500 ms)") { seconds in
                let meter = try Meter()
                let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
                var times: [UInt64] = []
                repeat {
                    var options = python.model("handler:predict").options
                    options.environment.wheelhouse = wheels
                    options.environment.cacheFolder = place.appending(path: UUID().uuidString).path
                    let pipeline = Pipeline("cold", rowsOf: 16)
                        .model(.python(folder.path, handler: "predict", options: options), instances: .perNode(1))
                    times.append(try await start(pipeline, request: request, answer: answer))
                } while monotonicNanoseconds() < end
                return try meter.stop(items: times.count, latency: .init(of: times))
            }
        }
    }

    // MARK: Long strings

    private static func long(_ run: Run, _ python: BenchPython) async throws {
        let pipeline = Pipeline("long", of: String.self)
            .model(python.model("handler:echo"), instances: .perNode(2))
        let text = String(repeating: "x", count: 8192)
        let items = Array(repeating: text, count: 64)
        // A result of this size must be announced; see Limits.reservedResultBytes.
        var limits = Limits()
        limits.reservedResultBytes = 16 << 10
        limits.unreadResultBytes = 4 << 30
        limits.openBytes = 2 << 30
        let bounds = limits
        try await run.rate("python", "strings-8k", must: "works: 100,000 strings of 8 KiB") { _ -> Measured in
            try await withNode(pipeline, limits: bounds) { node in
                let inbox = try await node.inbox(of: pipeline, window: 4096)
                return try await post(inbox, most: 100_032, count: items.count) {
                    try await inbox.post(items, until: .buffered)
                } check: { batch, _ in
                    batch.items.allSatisfy { $0.utf8.count == 6 + 8192 && $0.hasPrefix("reply-xx") }
                }
            }
        }
    }

    // MARK: Posting

    /// Posts in one task, takes and checks in another, until the time is up or enough was posted, and all is answered.
    private static func post<Input, Output>(
        _ inbox: Inbox<Input, Output>, seconds: Double = 600, most: Int = .max, count: Int,
        _ post: @escaping @Sendable () async throws -> Tickets,
        check: (Batch<Output>, _ first: Int) -> Bool
    ) async throws -> Measured {
        let state = Mutex((posted: 0, isOver: false))
        let meter = try Meter()
        let first = try await post().runs[0].sequences.first
        state.withLock { $0.posted = count }
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        async let producing: Void = {
            var isOver = false
            while !isOver {
                // Said before it is posted: whoever takes the last outcome then knows that it is the last.
                isOver = state.withLock { state in
                    state.posted += count
                    state.isOver = monotonicNanoseconds() >= end || state.posted >= most
                    return state.isOver
                }
                _ = try await post()
            }
        }()
        var taken = 0
        for await batch in inbox.outbox().batches {
            guard let values = try batch.values() else {
                throw BenchmarkError("an outcome is no value: \(batch.outcomes()[0])")
            }
            guard check(values, Int(batch.requests.sequences.first - first)) else {
                throw BenchmarkError("a wrong answer")
            }
            taken += batch.count
            if state.withLock({ $0.isOver && $0.posted == taken }) { break }
        }
        try await producing
        let measured = try meter.stop(items: taken)
        await inbox.close()
        return measured
    }

    // MARK: Latency

    private static func lowLoad(
        _ run: Run, _ python: BenchPython, _ echo: Pipeline<String, String>
    ) async throws {
        let names = ["socket", "grpc", "grpcio", "request", "plain"].map { "low-load-\($0)" } + ["low-load"]
        guard run.wants(names) else { return }
        var rows = [
            Run.Row(name: "low-load-socket", must: "a socketpair, nothing else") { seconds in
                try RawPingPong.measure(seconds: seconds, by: raw_socket_ping)
            },
            Run.Row(name: "low-load-grpc", must: "gRPC's C core over it") { seconds in
                try RawPingPong.measure(seconds: seconds, by: raw_grpc_ping)
            },
        ]
        let hasGRPC = python.has("grpc, google.protobuf")
        if hasGRPC {
            rows.append(
                Run.Row(name: "low-load-grpcio", must: "a pair of grpcio") { seconds in
                    let report = try await python.grpcio("low", 1, seconds)
                    var measured = report.measured
                    measured.latency = .init(of: [UInt64((report.p50 ?? 0) * 1e9)])
                    return measured
                })
        }
        rows.append(
            Run.Row(name: "low-load", must: "0.35 ms (aim 0.2 ms)") {
                try await lowLoad(echo, seconds: $0, timesBatches: true)
            })
        rows.append(
            Run.Row(name: "low-load-request", must: "- (all that its caller waits for)") {
                try await lowLoad(echo, seconds: $0)
            })
        if hasGRPC {
            let plain = Pipeline("plain", of: String.self)
                .model(python.model("handler:echo", worker: .grpcio), instances: .perNode(1))
            rows.append(
                Run.Row(name: "low-load-plain", must: "- (a request, the worker in plain Python)") {
                    try await lowLoad(plain, seconds: $0)
                })
        }
        try await run.latenciesByTurns("python", limit: "low-load-grpcio", rows)
    }

    /// One request at a time, 100 a second: from the call to the answer, or how long the stage's batch of it took, from
    /// the items to the results.
    private static func lowLoad(
        _ echo: Pipeline<String, String>, seconds: Double, timesBatches: Bool = false
    ) async throws -> Measured {
        try await withNode(echo) { node in
            let inbox = try await node.inbox(of: echo)
            let meter = try Meter()
            let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
            var times: [UInt64] = []
            var busy: UInt64 = 0
            while monotonicNanoseconds() < end {
                try await Task.sleep(for: .milliseconds(10))
                let start = monotonicNanoseconds()
                guard try await inbox.ask("x") == "reply-x" else { throw BenchmarkError("a wrong answer") }
                var time = monotonicNanoseconds() - start
                if timesBatches {
                    let stage = try await node.status().stages[0]
                    guard stage.batches == UInt64(times.count + 1) else { throw BenchmarkError("not a batch each") }
                    (time, busy) = (stage.busyNanoseconds - busy, stage.busyNanoseconds)
                }
                times.append(time)
            }
            return try meter.stop(items: times.count, latency: .init(of: times))
        }
    }

    /// From the start of a node to its first answer.
    private static func starts<Input: Codable, Output: Codable & Equatable>(
        _ pipeline: Pipeline<Input, Output>, request: Input, answer: Output, seconds: Double
    ) async throws -> Measured {
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        var times: [UInt64] = []
        repeat {
            times.append(try await start(pipeline, request: request, answer: answer))
        } while monotonicNanoseconds() < end
        return try meter.stop(items: times.count, latency: .init(of: times))
    }

    private static func start<Input: Codable, Output: Codable & Equatable>(
        _ pipeline: Pipeline<Input, Output>, request: Input, answer: Output
    ) async throws -> UInt64 {
        let start = monotonicNanoseconds()
        return try await withNode(pipeline) { node in
            let inbox = try await node.inbox(of: pipeline)
            guard try await inbox.ask(request) == answer else { throw BenchmarkError("a wrong answer") }
            return monotonicNanoseconds() - start
        }
    }

    /// Longest times without an answer when the one worker is killed under load, five times.
    private static func killed(
        _ node: Node, _ pipeline: Pipeline<String, String>, seconds: Double
    ) async throws -> Measured {
        let inbox = try await node.inbox(of: pipeline)
        let gap = Gap()
        let meter = try Meter()
        var gaps: [UInt64] = []
        let items = try await withThrowingTaskGroup(of: Int.self) { group in
            for task in 0..<32 {
                group.addTask {
                    var number = 0
                    while !gap.isOver.load(ordering: .relaxed) {
                        number += 1
                        let text = "\(task)/\(number)"
                        // A failure of any of them ends the benchmark.
                        guard try await inbox.ask(text) == "reply-" + text else {
                            throw BenchmarkError("a wrong answer")
                        }
                        gap.answered()
                    }
                    return number
                }
            }
            for _ in 0..<5 {
                // Until there is a spare again.
                try await Task.sleep(for: .seconds(max(seconds / 5, 0.3)))
                let children = try await node.status().children
                guard let victim = children.first(where: { $0.state == "serving" })?.process, victim > 0 else {
                    throw BenchmarkError("nobody serves")
                }
                _ = gap.take()
                kill(victim, SIGKILL)
                try await Task.sleep(for: .milliseconds(250))
                gaps.append(gap.take())
            }
            gap.isOver.store(true, ordering: .relaxed)
            return try await group.reduce(0, +)
        }
        return try meter.stop(items: items, latency: .init(of: gaps))
    }

    private static func withNode<Result>(
        _ pipeline: any ServablePipeline, limits: Limits = Limits(), _ body: (Node) async throws -> Result
    ) async throws -> Result {
        var logger = Logger.quiet
        // Those that are killed are errors for a node.
        logger.logLevel = .critical
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, limits: limits, logger: logger))
        try await node.start()
        do {
            let result = try await body(node)
            await node.shutDown()
            return result
        } catch {
            await node.shutDown()
            throw error
        }
    }
}

extension Latency {
    init(of nanoseconds: [UInt64]) {
        self.init()
        for one in nanoseconds { record(one) }
    }
}

/// The longest time between two answers.
private final class Gap: Sendable {
    /// Nobody asks any more.
    let isOver = Atomic(false)
    private let state = Mutex((at: monotonicNanoseconds(), longest: UInt64(0)))

    func answered() {
        state.withLock { state in
            let now = monotonicNanoseconds()
            state = (now, max(state.longest, now - state.at))
        }
    }

    /// And begins anew. An open gap counts, too.
    func take() -> UInt64 {
        state.withLock { state in
            defer { state.longest = 0 }
            return max(state.longest, monotonicNanoseconds() - state.at)
        }
    }
}
