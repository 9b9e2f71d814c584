// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Foundation

/// The verdict of the lab, and its figures.
struct LabReport: RunReport, Sendable {
    var summary: Summary
    var faults: [FaultTimes]
    var rate: Int

    /// Each request has its one answer.
    var isRight: Bool { summary.isSuccess && faults.allSatisfy { $0.lost == 0 && $0.doubled == 0 } }
    var isSuccess: Bool { isRight && faults.allSatisfy(\.isInTime) }

    /// One line; the longest times of each kind of fault, null for what was not measured.
    var json: String {
        let checker = summary.checker
        func milliseconds(_ times: [UInt64]) -> String {
            times.max().map { String(format: "%.1f", Double($0) / 1e6) } ?? "null"
        }
        var fields = [
            ("suite", "\"lab\""), ("lost", "\(checker.lost + checker.strays)"), ("doubled", "\(checker.doubled)"),
            ("wrong", "\(checker.wrong)"), ("failed", "\(checker.failureCount + checker.filtered)"),
            ("faults", "\(faults.count)"),
        ]
        let cuts = faults.filter(\.fault.cutsOff)
        fields.append(("detect_ms", milliseconds(cuts.compactMap(\.detected))))
        fields.append(("serve_ms", milliseconds(cuts.compactMap(\.served))))
        for fault in LabFault.allCases {
            let times = faults.filter { $0.fault == fault }
            guard !times.isEmpty else { continue }
            fields.append(("\(fault.rawValue)_detect_ms", milliseconds(times.compactMap(\.detected))))
            fields.append(("\(fault.rawValue)_serve_ms", milliseconds(times.compactMap(\.served))))
            fields.append(("\(fault.rawValue)_healed_gap_ms", milliseconds(times.compactMap(\.healed))))
            fields.append(("\(fault.rawValue)_whole_ms", milliseconds(times.map(\.whole))))
        }
        fields += [
            ("accepted", "\(checker.acceptedCount)"), ("offered_per_second", "\(rate)"), ("ok", "\(isSuccess)"),
        ]
        return "{" + fields.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ") + "}"
    }
}
