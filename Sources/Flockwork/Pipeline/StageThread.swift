// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire

// Swift's pool has one thread a core, and a thread that blocks is missed by everything else in the process. So what
// blocks runs elsewhere: each instance of such a lane has a thread, on which its whole task runs, from the mailbox to
// the outcome. The steps beside the blocking one come along, since two changes of thread cost more than they do.

/// The threads that the instances of a lane run on.
public enum StageThread: Sendable, Hashable {
    /// Those of Swift's pool, of which there is one a core. Nothing may wait there without `await`.
    case pool
    /// One for each instance: for calls that block or that take long in code that is not Swift.
    ///
    /// All steps of the lane run on it, and the child tasks that they start.
    case own
}

extension OwnThread {
    /// The thread of an instance: `top -H` shows the name of the step that asked for it, and the instance's number.
    convenience init(instance: Int, of step: String) throws(FlockError) {
        let number = "-\(instance)"
        var step = step
        while step.utf8.count + number.utf8.count > 15 { step.removeLast() }
        try self.init(name: step + number)
    }
}
