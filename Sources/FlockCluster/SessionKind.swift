// Flockwork · Apache-2.0 · see LICENSE

package import FlockWire

/// What a session's requests have in common. A partition keeps it as a number, without knowing what it means; the
/// dispatcher's side reads its lane and priority from it, on whichever node that is.
package struct SessionKind: Sendable, Equatable {
    private static let shift = UInt32(24)

    /// The pipeline's number, the same on all nodes of a cluster.
    package var pipeline: Int
    package var priority: RequestPriority

    package init(pipeline: Int, priority: RequestPriority) {
        precondition(pipeline >= 0 && pipeline < 1 << Self.shift, "pipeline \(pipeline)")
        self.pipeline = pipeline
        self.priority = priority
    }

    /// Nil if it is no number that `number` gave.
    package init?(number: UInt32) {
        guard let priority = RequestPriority(rawValue: UInt8(number >> Self.shift)) else { return nil }
        self.init(pipeline: Int(number & (1 << Self.shift - 1)), priority: priority)
    }

    package var number: UInt32 { UInt32(pipeline) | UInt32(priority.rawValue) << Self.shift }
}
