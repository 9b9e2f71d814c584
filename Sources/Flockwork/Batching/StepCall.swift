// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// What a step may want to know of the call that it is in, beyond its items. Steps of Swift code do not ask; those that
// hand the batch to another process do. A class, because a task-local value of a function type crashes in optimised
// code (Swift 6.3.1).

/// The call of a lane's step that the current task is in.
package final class StepCall: Sendable {
    /// Nil outside of lanes.
    @TaskLocal package static var current: StepCall?

    /// The items are part of a batch that was held by processes that died: they are to be tried where their death
    /// harms no other batch.
    package let isSuspect: Bool
    /// Says that the batch is still worked on, so that the call does not count as hung (`Limits.attemptTime`). Asked
    /// now and then by whoever has a deadline of its own. False: nobody waits for the result any more.
    package let goesOn: @Sendable () -> Bool

    init(isSuspect: Bool = false, goesOn: @escaping @Sendable () -> Bool) {
        self.isSuspect = isSuspect
        self.goesOn = goesOn
    }

    /// Whether another division of the items may help. It does not where the error says that nobody is there for any.
    static func maySucceedInParts(after error: any Error) -> Bool {
        guard let code = (error as? FlockError)?.code else { return true }
        return code != .unavailable && code != .shuttingDown
    }

    /// Calls a step with a part of a batch that failed with `error`.
    static func again<Result: Sendable>(
        after error: any Error, _ body: () async throws -> Result
    ) async throws -> Result {
        let call = current
        let wasSuspect = call?.isSuspect ?? false
        guard let failure = error as? FlockError, failure.code == .poison, !wasSuspect else {
            return try await body()
        }
        let suspect = StepCall(isSuspect: true) { call?.goesOn() ?? true }
        return try await $current.withValue(suspect) { try await body() }
    }
}
