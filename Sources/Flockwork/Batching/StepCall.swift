// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// What a step may want to know of the call that it is in, beyond its items. Steps of Swift code do not ask; those that
// hand the batch to another process do.

/// The call of a lane's step that the current task is in.
package enum StepCall {
    /// The items are part of a batch that was held by processes that died: they are to be tried where their death harms
    /// no other batch.
    @TaskLocal package static var isSuspect = false

    /// Says that the batch is still worked on, so that the call does not count as hung (`Limits.attemptTime`). Asked
    /// now and then by whoever has a deadline of its own. False: nobody waits for the result any more.
    @TaskLocal package static var goesOn: @Sendable () -> Bool = { true }

    /// Whether another division of the items may help. It does not where the error says that nobody is there for any.
    static func maySucceedInParts(after error: any Error) -> Bool {
        guard let code = (error as? FlockError)?.code else { return true }
        return code != .unavailable && code != .shuttingDown
    }

    /// Calls a step with a part of a batch that failed with `error`.
    static func again<Result: Sendable>(
        after error: any Error, _ body: () async throws -> Result
    ) async throws -> Result {
        guard (error as? FlockError)?.code == .poison, !isSuspect else { return try await body() }
        return try await $isSuspect.withValue(true) { try await body() }
    }
}
