// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A stage host, by a number that the shell gives it: unique among hosts that a dispatcher ever knew, so that a late
/// answer of a lost host is never taken for one of its successor.
public struct HostID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The shell's number.
    public let rawValue: UInt64
    /// The host of that number.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// By number: choices are made in this order, so that a run is repeatable.
    public static func < (left: HostID, right: HostID) -> Bool { left.rawValue < right.rawValue }
    /// `h` and the number.
    public var description: String { "h\(rawValue)" }
}

/// What happens to a dispatcher. Only `tick` sends.
public enum DispatcherEvent: Sendable {
    /// A run to be executed. Its sequences must not be held already (a partition dispatches each once).
    case enqueue(OpenRun)
    /// A host takes work. For a host that is known, only its credits change.
    case hostUp(HostID, isLocal: Bool, creditItems: Int, creditBytes: Int)
    /// A host is lost: what it held is dispatched again with the next attempt, or given up.
    case hostDown(HostID)
    /// A host answered these, however; its credit returns. Runs may be parts of what was sent, or several at once.
    case finished(HostID, runs: [RequestRun])
    /// A host, or one behind it, began with these and gave no outcome: that is an attempt, as if it had gone down.
    case failed(HostID, runs: [RequestRun])
    /// The same in a cluster, where the log has to count an execution before the next one begins: what the host has of
    /// these as that attempt, or an earlier one, is not held any more.
    case counted(HostID, runs: [RequestRun], attempt: Int)
    /// A host hands back what it did not start; that is no attempt.
    case returned(HostID, runs: [RequestRun])
    /// Nobody waits for these any more.
    case revoke(RequestRun)
    /// A host's process is dead: what it held is handed back as `lost`, to be logged and enqueued again. Suspect runs
    /// that it did not say to have begun go back to the queue as they are.
    case hostLost(HostID)
    /// A host cannot be reached now and may be dead: what it held is handed back as `lost`, and goes to others as
    /// suspect. What it does finish counts. What was suspect already stays with it, until it answers or is dead.
    case hostAway(HostID)
    /// A host says that it begins with a suspect run: if it dies, this may be why.
    case begun(HostID, RequestRun)
    /// A host leaves: it finishes what it has and gets nothing new.
    case hostClosing(HostID)
    /// A host has the run already, from a dispatcher that is no more. Its sequences must not be held here.
    case adopt(OpenRun, HostID)
    /// Another node serves the partition from here on: its runs are nobody's business here.
    case forget(PartitionID)
    /// The end of a turn of the loop: what is queued is sent as far as credits go.
    case tick
}

/// What the shell does for a dispatcher, in order.
public enum DispatcherDirective: Sendable {
    /// Send these to a host in one frame, or hand them over locally. At most one per host and tick.
    case send(HostID, runs: [OpenRun])
    /// These will not be executed; the run is their outcome for the partition.
    case giveUp(PartitionID, SessionID, OutcomeRun)
    /// The run was with a host that died, or may have. It is not held any more.
    case lost(OpenRun)
    /// A host holds these and nobody waits for them: it may drop what it has not started. It answers (`finished`) all
    /// the same, since its credit is bound until then.
    case revoke(HostID, RequestRun)
}
