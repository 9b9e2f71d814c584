// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Foundation

/// The verdict of a soak, and its figures.
struct SoakReport: RunReport, Sendable {
    var summary: Summary
    var kills: [KillTimes]
    var load: OpenLoop?
    /// When the load ended, in nanoseconds.
    var end: UInt64
    var seed: UInt64

    var isSuccess: Bool { summary.isSuccess }

    /// With fewer kills a percentile says nothing, and the maximum stands for it.
    private static let killsForPercentile = 300
    private static let toMilliseconds = 1e-6

    private static func high(_ times: [UInt64]) -> Double? {
        guard let last = times.max() else { return nil }
        guard times.count >= killsForPercentile else { return Double(last) * toMilliseconds }
        let sorted = times.sorted()
        return Double(sorted[(sorted.count * 99 + 99) / 100 - 1]) * toMilliseconds
    }

    /// The least of the fourth seconds after kills that nothing else followed.
    private var afterThree: Double? {
        guard let load else { return nil }
        return kills.filter(\.isFollowedByRest).map { load.share(from: $0.at + 3_000_000_000) }.min()
    }

    private var worstSecond: Double? {
        guard let load, let first = kills.first else { return nil }
        return load.worstSecond(from: first.at, to: end)
    }

    /// One line; a figure that was not measured is null.
    var json: String {
        let checker = summary.checker
        func text(_ value: Double?, _ digits: Int) -> String {
            value.map { String(format: "%.\(digits)f", $0) } ?? "null"
        }
        let fields = [
            ("suite", "\"soak\""), ("lost", "\(checker.lost + checker.strays)"), ("doubled", "\(checker.doubled)"),
            ("wrong", "\(checker.wrong)"), ("failed", "\(checker.failureCount + checker.filtered)"),
            ("kills", "\(kills.count)"), ("detect_p99_ms", text(Self.high(kills.map(\.detected)), 1)),
            ("gap_p99_ms", text(Self.high(kills.compactMap(\.gap)), 1)),
            ("removed_p99_ms", text(Self.high(kills.map(\.removed)), 1)),
            ("whole_p99_ms", text(Self.high(kills.map(\.whole)), 1)), ("worst_second", text(worstSecond, 3)),
            ("after_3s", text(afterThree, 3)), ("accepted", "\(checker.acceptedCount)"),
            ("offered_per_second", text(load?.rate, 0)), ("seed", "\(seed)"), ("ok", "\(isSuccess)"),
        ]
        return "{" + fields.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ") + "}"
    }
}
