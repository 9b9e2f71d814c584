// Flockwork · Apache-2.0 · see LICENSE

import Foundation

/// One run of the program: how long, how often, and where the rows go.
final class Run {
    let seconds: Double
    let repeats: Int
    private let json: FileHandle?
    private(set) var rows = 0

    init(seconds: Double, repeats: Int, json path: String?) throws {
        self.seconds = seconds
        self.repeats = repeats
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

    func emit(_ row: ResultRow) throws {
        rows += 1
        print(row.tableLine)
        fflush(nil)
        try json?.write(contentsOf: Data((row.json + "\n").utf8))
    }

    /// A short run to warm up, then the best of the repeats by `better`.
    func best(
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

    func fastest(_ measure: (_ seconds: Double) async throws -> Measured) async throws -> Measured {
        try await best(by: { $0.itemsPerSecond > $1.itemsPerSecond }, measure)
    }

    func quickest(_ measure: (_ seconds: Double) async throws -> Measured) async throws -> Measured {
        func median(_ measured: Measured) -> Double {
            measured.latency?.microseconds(percentile: 50) ?? .infinity
        }
        return try await best(by: { median($0) < median($1) }, measure)
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
