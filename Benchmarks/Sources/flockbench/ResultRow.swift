// Flockwork · Apache-2.0 · see LICENSE

import Foundation

/// One line of the table and of the JSON file.
struct ResultRow {
    var suite: String
    var name: String
    /// `items/s`, `items/CPU s` (more is better), `ms` or `% of a core` (less is better).
    var unit: String
    var value: Double
    /// The bare loop or bare protocol of the same run, in the same unit.
    var limit: Double?
    var processorNanosecondsPerItem: Double?
    var p50Microseconds: Double?
    var p99Microseconds: Double?
    var cores: Double?
    var load: Double
    /// What the row has to reach, for people.
    var must: String

    var ratio: Double? { limit.map { value / $0 } }

    /// A row about throughput.
    static func rate(_ suite: String, _ name: String, _ best: Measured, limit: Double?, must: String) -> ResultRow {
        ResultRow(
            suite: suite, name: name, unit: "items/s", value: best.itemsPerSecond, limit: limit,
            processorNanosecondsPerItem: best.processorNanosecondsPerItem,
            p50Microseconds: best.latency?.microseconds(percentile: 50),
            p99Microseconds: best.latency?.microseconds(percentile: 99), cores: best.cores, load: loadAverage(),
            must: must)
    }

    /// A row about what a second of CPU does.
    static func processor(_ suite: String, _ name: String, _ best: Measured, limit: Double?, must: String) -> ResultRow
    {
        var row = rate(suite, name, best, limit: limit, must: must)
        row.unit = "items/CPU s"
        row.value = best.itemsPerProcessorSecond
        return row
    }

    /// A row about latency: its value is the median.
    static func latency(_ suite: String, _ name: String, _ best: Measured, limit: Double?, must: String) -> ResultRow {
        var row = rate(suite, name, best, limit: limit, must: must)
        row.unit = "ms"
        row.value = best.medianMilliseconds
        return row
    }

    /// The keys that the issue fixes, in its order; absent where senseless.
    var json: String {
        func text(_ key: String, _ value: String) -> String { "\"\(key)\":\"\(value)\"" }
        func number(_ key: String, _ value: Double?) -> String? {
            guard let value, value.isFinite else { return nil }
            let isWhole = value == value.rounded() || abs(value) >= 10_000
            return "\"\(key)\":" + (isWhole ? String(format: "%.0f", value) : String(format: "%.6g", value))
        }
        let fields: [String?] = [
            text("suite", suite), text("name", name), text("unit", unit), number("value", value),
            number("limit", limit), number("ratio", ratio), number("cpu_per_item_ns", processorNanosecondsPerItem),
            number("p50_us", p50Microseconds), number("p99_us", p99Microseconds), number("cores", cores),
            number("load", load),
        ]
        return "{" + fields.compactMap(\.self).joined(separator: ",") + "}"
    }

    private static let columns = [8, 24, 12, 12, 7, 12, 10, 10, 6, 6]

    static let tableHead: String = {
        let titles = ["suite", "row", "value", "limit", "ratio", "CPU ns/item", "p50 us", "p99 us", "cores", "load"]
        return line(titles) + "  must"
    }()

    var tableLine: String {
        func plain(_ value: Double?, digits: Int) -> String {
            guard let value, value.isFinite else { return "-" }
            return String(format: "%.\(digits)f", value)
        }
        func figure(_ value: Double?) -> String {
            guard let value, value.isFinite else { return "-" }
            if unit == "% of a core" { return String(format: "%.3f %%", value) }
            if unit == "ms" { return String(format: "%.4f ms", value) }
            if value >= 1e6 { return String(format: "%.2f M/s", value / 1e6) }
            return String(format: "%.1f k/s", value / 1e3)
        }
        let cells = [
            suite, name, figure(value), figure(limit), plain(ratio, digits: 2),
            plain(processorNanosecondsPerItem, digits: 1), plain(p50Microseconds, digits: 1),
            plain(p99Microseconds, digits: 1), plain(cores, digits: 2), plain(load, digits: 1),
        ]
        return Self.line(cells) + "  " + must
    }

    private static func line(_ cells: [String]) -> String {
        zip(cells, columns).enumerated().map { index, cell in
            let blanks = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index < 2 ? cell.0 + blanks : blanks + cell.0
        }.joined(separator: " ")
    }
}
