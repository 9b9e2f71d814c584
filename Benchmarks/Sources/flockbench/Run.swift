// Flockwork · Apache-2.0 · see LICENSE

import Foundation

/// One run of the program: how long, how often, and where the rows go.
final class Run {
    let seconds: Double
    let repeats: Int
    private let json: FileHandle?
    /// Names of the rows to run; nil: all.
    private let only: Set<String>?
    private(set) var rows = 0
    private(set) var skipped = 0

    init(seconds: Double, repeats: Int, json path: String?, only: [String] = []) throws {
        self.seconds = seconds
        self.repeats = repeats
        self.only = only.isEmpty ? nil : Set(only)
        if let path {
            if !FileManager.default.fileExists(atPath: path) {
                guard FileManager.default.createFile(atPath: path, contents: nil) else {
                    throw BenchmarkError("cannot write \(path)")
                }
            }
            guard let file = FileHandle(forWritingAtPath: path) else { throw BenchmarkError("cannot write \(path)") }
            try file.seekToEnd()
            json = file
        } else {
            json = nil
        }
        print(ResultRow.tableHead)
    }

    private func emit(_ row: ResultRow) throws {
        rows += 1
        print(row.tableLine)
        fflush(nil)
        try json?.write(contentsOf: Data((row.json + "\n").utf8))
    }

    /// A short run to warm up, then the best of the repeats by `better`.
    private func best(
        by better: (Measured, Measured) -> Bool, _ measure: (_ seconds: Double) async throws -> Measured
    ) async throws -> Measured {
        _ = try await measure(min(0.2, seconds / 2))
        var best: Measured?
        for _ in 0..<repeats {
            let next = try await measure(seconds)
            if next.items == 0 { throw BenchmarkError("nothing was done in \(seconds) s") }
            if let kept = best, !better(next, kept) { continue }
            best = next
        }
        guard let best else { throw BenchmarkError("no repeats") }
        return best
    }

    /// Says loudly that rows cannot be measured here, and what to do; on the standard error too, for who keeps a log.
    func skip(_ suite: String, _ names: [String], because reason: String) {
        let names = names.filter { only?.contains($0) ?? true }
        guard !names.isEmpty else { return }
        skipped += names.count
        let text = "*** \(suite): \(names.joined(separator: ", ")) SKIPPED: \(reason)"
        print(text)
        fflush(nil)
        FileHandle.standardError.write(Data((text + "\n").utf8))
    }

    /// Something to measure: its name, what it has to reach, and how.
    struct Row {
        var name: String
        var must: String
        var measure: (_ seconds: Double) async throws -> Measured
    }

    /// Measures rows about throughput by turns, so that all meet the same machine; the first is the others' limit.
    func ratesByTurns(_ suite: String, _ all: [Row]) async throws {
        guard let limit = all.first, all.dropFirst().contains(where: { only?.contains($0.name) ?? true }) else {
            return
        }
        let wanted = all.filter { $0.name == limit.name || only?.contains($0.name) ?? true }
        for row in wanted { _ = try await row.measure(min(0.2, seconds / 2)) }
        var best: [String: Measured] = [:]
        for _ in 0..<repeats {
            for row in wanted {
                let next = try await row.measure(seconds)
                if next.items == 0 { throw BenchmarkError("nothing was done in \(seconds) s") }
                if next.itemsPerSecond > best[row.name]?.itemsPerSecond ?? 0 { best[row.name] = next }
            }
        }
        for row in wanted {
            guard let measured = best[row.name] else { continue }
            let bound = row.name == limit.name ? nil : best[limit.name]?.itemsPerSecond
            try emit(.rate(suite, row.name, measured, limit: bound, must: row.must))
        }
    }

    /// Measures and emits a row about throughput; nil if it was not asked for.
    @discardableResult
    func rate(
        _ suite: String, _ name: String, limit: Measured? = nil, must: String,
        _ measure: (_ seconds: Double) async throws -> Measured
    ) async throws -> Measured? {
        guard only?.contains(name) ?? true else { return nil }
        let best = try await best(by: { $0.itemsPerSecond > $1.itemsPerSecond }, measure)
        try emit(.rate(suite, name, best, limit: limit?.itemsPerSecond, must: must))
        return best
    }

    /// Measures rows in turn, round after round, so that what else the machine does meets all of them alike. Each is
    /// items per second of CPU of the process at work, the best round; the first is the limit of the others.
    func interleaved(
        _ suite: String, _ rows: [(name: String, must: String, measure: (_ seconds: Double) async throws -> Measured)]
    ) async throws {
        guard rows.contains(where: { only?.contains($0.name) ?? true }) else { return }
        var best: [Measured?] = Array(repeating: nil, count: rows.count)
        for _ in 0..<repeats {
            for (index, row) in rows.enumerated() {
                let next = try await row.measure(seconds)
                guard next.items > 0, next.processorSeconds > 0 else { throw BenchmarkError("\(row.name): nothing") }
                if let kept = best[index], kept.itemsPerProcessorSecond >= next.itemsPerProcessorSecond { continue }
                best[index] = next
            }
        }
        let limit = best.first??.itemsPerProcessorSecond
        for (index, row) in rows.enumerated() {
            guard let best = best[index] else { continue }
            try emit(.processor(suite, row.name, best, limit: index == 0 ? nil : limit, must: row.must))
        }
    }

    /// Says that rows are not measured.
    func skip(_ rows: String, _ why: String) { print("SKIPPED: \(rows): \(why)") }

    /// Whether any of these rows was asked for.
    func wants(_ names: [String]) -> Bool { names.contains { only?.contains($0) ?? true } }

    /// Measures and emits a row that is one number, of which the least counts.
    func figure(
        _ suite: String, _ name: String, unit: String, must: String,
        _ measure: (_ seconds: Double) async throws -> Double
    ) async throws {
        guard wants([name]) else { return }
        var least = Double.infinity
        for _ in 0..<repeats { least = min(least, try await measure(seconds)) }
        try emit(ResultRow(suite: suite, name: name, unit: unit, value: least, load: loadAverage(), must: must))
    }

    /// Measures rows about latency by turns, so that all meet the same machine; the best median of each counts, and the
    /// row called `limit` is that of the others after it. A repeat is a round of all of them.
    func latenciesByTurns(_ suite: String, limit: String, _ rows: [Row]) async throws {
        let wanted = rows.filter { only?.contains($0.name) ?? true }
        for row in wanted { _ = try await row.measure(min(0.2, seconds / 2)) }
        var best: [String: Measured] = [:]
        for _ in 0..<repeats {
            for row in wanted {
                let next = try await row.measure(seconds)
                if next.items == 0 { throw BenchmarkError("nothing was done in \(seconds) s") }
                if next.medianMilliseconds < best[row.name]?.medianMilliseconds ?? .infinity { best[row.name] = next }
            }
        }
        var bound: Double?
        for row in wanted {
            guard let measured = best[row.name] else { continue }
            try emit(.latency(suite, row.name, measured, limit: bound, must: row.must))
            if row.name == limit { bound = measured.medianMilliseconds }
        }
    }

    /// Measures and emits a row about latency; nil if it was not asked for.
    @discardableResult
    func latency(
        _ suite: String, _ name: String, limit: Measured? = nil, must: String,
        _ measure: (_ seconds: Double) async throws -> Measured
    ) async throws -> Measured? {
        guard only?.contains(name) ?? true else { return nil }
        let best = try await best(by: { $0.medianMilliseconds < $1.medianMilliseconds }, measure)
        try emit(.latency(suite, name, best, limit: limit?.medianMilliseconds, must: must))
        return best
    }
}

/// Threads that start together and are joined: what a bare loop runs on.
func onThreads(_ count: Int, _ body: @escaping @Sendable (_ index: Int) -> Void) {
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        let thread = Thread {
            body(index)
            group.leave()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }
    group.wait()
}
