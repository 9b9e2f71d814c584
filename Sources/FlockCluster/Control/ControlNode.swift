// Flockwork · Apache-2.0 · see LICENSE

// The control part of a process: one of a few voters, or a member that only follows. It is told what happens and says
// what to do; it has no clock, no socket and no disk.

public import FlockWire

/// Control in one process.
public struct ControlNode: Sendable {
    /// The newest agreed state that this process has; it never goes back (invariant C2).
    public private(set) var view: ControlState?
    /// What this process is called, once it is admitted.
    public private(set) var member: MemberNumber?
    let configuration: ControlConfiguration
    let rules: Rules

    /// A process that starts. `record` is what its disk has of it as a voter. The same seed, events and times make the
    /// same directives.
    public init(configuration: ControlConfiguration, record: VoterRecord?, seed: UInt64, now: Tick) {
        self.init(configuration: configuration, record: record, seed: seed, rules: .all, now: now)
    }

    init(configuration: ControlConfiguration, record: VoterRecord?, seed: UInt64, rules: Rules, now: Tick) {
        self.configuration = configuration
        self.rules = rules
    }

    /// When `tick` is due; `never` while nothing waits for time.
    public var nextDeadline: Tick { .never }

    /// Carries one event.
    public mutating func step(_ event: ControlEvent, now: Tick, out: inout [ControlDirective]) {
    }
}
