// Flockwork · Apache-2.0 · see LICENSE

/// How requests share what they wait for with others of the same stage: by weight, so that none waits for ever.
public enum RequestPriority: UInt8, Sendable, Codable, CaseIterable {
    // Raw values are part of the wire format.
    /// Most requests.
    case normal = 0
    /// Four times the share of `normal`, for callers that wait.
    case high = 1
    /// A quarter of the share of `normal`, for what may take its time.
    case low = 2

    /// Its part of what is shared, among the priorities that wait.
    public var weight: Int {
        switch self {
        case .low: 1
        case .normal: 4
        case .high: 16
        }
    }

    /// The weights, by raw value.
    public static let weights = allCases.map(\.weight)
}
