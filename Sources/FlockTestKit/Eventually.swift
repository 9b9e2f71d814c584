// Flockwork · Apache-2.0 · see LICENSE

/// Returns once `isThere` says so. Asks a thousand times a second, so that a hundred waiting tests leave the cores to
/// the code that they wait for. It throws when the test is cancelled, by its time limit for one.
///
/// For what has no event to wait for: a count on another thread, the state of a node. It asserts nothing about time.
public func eventually(_ isThere: () async throws -> Bool) async throws {
    while try await !isThere() { try await Task.sleep(for: .milliseconds(1)) }
}
