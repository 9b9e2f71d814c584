// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

/// What a session's requests have in common. A partition keeps it for us as a number, without knowing what it means.
struct SessionKind: Sendable, Equatable {
    private static let shift = UInt32(24)

    /// The pipeline's number on this node.
    var pipeline: Int
    var priority: RequestPriority

    init(pipeline: Int, priority: RequestPriority) {
        precondition(pipeline >= 0 && pipeline < 1 << Self.shift, "pipeline \(pipeline)")
        self.pipeline = pipeline
        self.priority = priority
    }

    /// Nil if it is no number that `number` gave.
    init?(number: UInt32) {
        guard let priority = RequestPriority(rawValue: UInt8(number >> Self.shift)) else { return nil }
        self.init(pipeline: Int(number & (1 << Self.shift - 1)), priority: priority)
    }

    var number: UInt32 { UInt32(pipeline) | UInt32(priority.rawValue) << Self.shift }
}
