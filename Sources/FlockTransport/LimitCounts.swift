// Flockwork · Apache-2.0 · see LICENSE

// How often each bound was reached, counted where it is noticed: on the loop of the connections, or on any thread of
// the stages. The metrics of the layer above listen here, so that this layer knows no metrics.

public import FlockWire
internal import Synchronization

/// Counts of reached limits, of one event loop and all that lives on it. From any thread.
public final class LimitCounts: Sendable {
    private struct State: Sendable {
        var counts: [Limit: Int] = [:]
        var listener: (@Sendable (Limit) -> Void)?
    }
    private let state = Mutex(State())

    init() {}

    /// How often `limit` was reached since the loop began.
    public func count(of limit: Limit) -> Int { state.withLock { $0.counts[limit] ?? 0 } }

    /// Counts one; nil counts nothing.
    public func reached(_ limit: Limit?) {
        guard let limit else { return }
        let listener = state.withLock { state in
            state.counts[limit, default: 0] += 1
            return state.listener
        }
        listener?(limit)
    }

    /// Counts the bound that an error met, if it met one.
    public func reached(by error: any Error) { reached(Limit(of: error)) }

    /// Calls `listener` for each count from now on, on the thread that counts; nil ends that.
    public func listen(_ listener: (@Sendable (Limit) -> Void)?) { state.withLock { $0.listener = listener } }
}
