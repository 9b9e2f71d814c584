// Flockwork · Apache-2.0 · see LICENSE

// Percentiles of millions of values in a fixed 30 KiB: buckets that grow with the value, 64 for each power of two, so a
// percentile is at most 1.6 % above the truth. The largest value is kept exactly.

/// Counts of values, for percentiles.
struct LatencyHistogram: Sendable {
    private static let precision = 6
    private var counts = [UInt64](repeating: 0, count: (64 - precision + 1) << precision)
    /// Values recorded.
    private(set) var count: UInt64 = 0
    /// The largest of them.
    private(set) var maximum: UInt64 = 0

    private static func bucket(of value: UInt64) -> Int {
        let shift = max(0, 63 - value.leadingZeroBitCount - precision)
        return shift << precision + Int(value >> UInt64(shift))
    }

    /// The largest value of a bucket.
    private static func upperBound(of bucket: Int) -> UInt64 {
        let shift = max(0, bucket >> precision - 1)
        let step = UInt64(bucket - shift << precision)
        return (step << UInt64(shift)) | ((1 << UInt64(shift)) - 1)
    }

    mutating func record(_ value: UInt64, times: Int = 1) {
        counts[Self.bucket(of: value)] += UInt64(times)
        count += UInt64(times)
        maximum = max(maximum, value)
    }

    /// The value that `percent` % of the values do not exceed; 0 without values.
    func percentile(_ percent: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = max(1, UInt64((percent / 100 * Double(count)).rounded(.up)))
        var seen: UInt64 = 0
        for (bucket, number) in counts.enumerated() where number > 0 {
            seen += number
            if seen >= rank { return min(Self.upperBound(of: bucket), maximum) }
        }
        return maximum
    }
}
