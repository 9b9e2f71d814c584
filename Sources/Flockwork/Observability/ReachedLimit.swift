// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// A bound that the inbox meets, by the name that it has in `Limits`: who sees the label knows what to turn.
enum ReachedLimit: String, CaseIterable, Sendable {
    case sessionWindow
    case sessionResultBytes
    case openBytes
    case sessionsPerPartition
    case reservedResultBytes
    case creditItems
    case attempts

    /// Which bound made the inbox refuse. Errors say it in their text only: `ObservabilityTests` reaches each bound, so
    /// that a text which changes is noticed.
    init?(refusal error: FlockError) {
        switch (error.code, error.message) {
        case (.overloaded, "the session's window is full: acknowledge outcomes"): self = .sessionWindow
        case (.overloaded, "the session has too many outcomes that were not acknowledged"): self = .sessionResultBytes
        case (.overloaded, "the node holds as much as it may"): self = .openBytes
        case (.overloaded, "the partition has no room for another session"): self = .sessionsPerPartition
        case (.tooLarge, let message) where message.hasPrefix("a run of "):
            self = message.contains(" in a window of ") ? .sessionWindow : .openBytes
        default: return nil
        }
    }

    /// Which bound made a request fail after it was accepted.
    init?(failure error: FlockError) {
        switch error.code {
        case .resultTooLarge: self = .reservedResultBytes
        case .poison: self = .attempts
        default: return nil
        }
    }
}
