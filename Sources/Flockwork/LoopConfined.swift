// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport

/// State that only one loop's thread touches, reachable from objects that other threads hold.
final class LoopConfined<State>: Sendable {
    private let loop: EventLoop
    // Every access goes through `with`, which checks that it runs on the loop's thread.
    nonisolated(unsafe) private var state: State

    init(_ state: sending State, on loop: EventLoop) {
        self.loop = loop
        self.state = state
    }

    @inline(__always)
    func with<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
        precondition(loop.isCurrent, "state of a loop touched from another thread")
        return try body(&state)
    }
}
