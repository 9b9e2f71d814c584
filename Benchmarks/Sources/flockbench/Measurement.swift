// Flockwork · Apache-2.0 · see LICENSE

// What a figure costs counts as much as the figure: every measured region gives its wall time and the CPU time of this
// process and of the child processes that take part.

import Foundation
import Glibc
import Histogram

/// Nanoseconds of the monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// The load average of the last minute.
func loadAverage() -> Double {
    var loads = [0.0]
    return getloadavg(&loads, 1) == 1 ? loads[0] : -1
}

/// CPU seconds, user and system, of this process so far.
func ownProcessorSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// CPU seconds of another process so far, in steps of the kernel's clock tick (10 ms).
func processorSeconds(of process: Int32) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
    // The name in parentheses may hold blanks; fields 14 and 15 are user and system time.
    guard let close = text.lastIndex(of: ")") else { throw BenchmarkError("no process \(process)") }
    let fields = text[text.index(after: close)...].split(separator: " ")
    guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
        throw BenchmarkError("unreadable /proc/\(process)/stat")
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
}

/// The processes that this one started and that still are there.
func childProcesses() -> [Int32] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { Int32($0) }.filter { process in
        // Gone meanwhile, if it cannot be read.
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let close = text.lastIndex(of: ")")
        else { return false }
        let fields = text[text.index(after: close)...].split(separator: " ")
        return fields.count > 1 && Int32(fields[1]) == getpid()
    }
}

/// Something that makes the run worthless: a wrong answer, a lost one, a process that did not start.
struct BenchmarkError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What a measured region took.
struct Measured {
    var items: Int
    var wallSeconds: Double
    var processorSeconds: Double
    var latency: Latency?

    var itemsPerSecond: Double { Double(items) / wallSeconds }
    var processorNanosecondsPerItem: Double { processorSeconds * 1e9 / Double(max(items, 1)) }
    var itemsPerProcessorSecond: Double { Double(items) / processorSeconds }
    var cores: Double { processorSeconds / wallSeconds }
    var medianMilliseconds: Double { latency.map { $0.microseconds(percentile: 50) / 1000 } ?? .infinity }
}

/// Runs from its creation to `stop`.
struct Meter {
    private let children: [Int32]
    private let start = monotonicNanoseconds()
    private let own = ownProcessorSeconds()
    private let others: Double

    init(children: [Int32] = []) throws {
        self.children = children
        others = try children.reduce(0) { try $0 + processorSeconds(of: $1) }
    }

    func stop(items: Int, latency: Latency? = nil) throws -> Measured {
        let wall = Double(monotonicNanoseconds() - start) / 1e9
        let childSeconds = try children.reduce(0) { try $0 + processorSeconds(of: $1) } - others
        return Measured(
            items: items, wallSeconds: wall, processorSeconds: ownProcessorSeconds() - own + childSeconds,
            latency: latency)
    }
}

/// Latencies in nanoseconds, up to 100 s.
struct Latency: Sendable {
    private var histogram = Histogram<UInt32>(
        lowestDiscernibleValue: 100, highestTrackableValue: 100_000_000_000, numberOfSignificantValueDigits: .two)

    mutating func record(_ nanoseconds: UInt64, count: Int = 1) {
        histogram.record(min(max(nanoseconds, 1), 99_999_999_999), count: UInt32(count))
    }

    var isEmpty: Bool { histogram.totalCount == 0 }
    func microseconds(percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }

    mutating func add(_ other: Latency) {
        for bucket in other.histogram.recordedValues() {
            histogram.record(bucket.value, count: bucket.count)
        }
    }
}
