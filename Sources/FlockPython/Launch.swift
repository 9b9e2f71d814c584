// Flockwork · Apache-2.0 · see LICENSE

/// What a child process may use. The kernel holds it to that.
public struct ProcessLimits: Sendable, Hashable {
    /// Bytes of address space; nil for no limit, which accelerator libraries need, since they reserve far more than
    /// they use.
    public var addressSpaceBytes: Int? = nil
    /// Bytes of a file that it writes.
    public var fileBytes = 4 << 30
    /// Open descriptors.
    public var descriptors = 1024
    /// Processes and threads of its user; does not hold the superuser.
    public var processes = 4096

    /// The defaults.
    public init() {}
}

/// A program to be started.
struct Launch: Sendable {
    var executable: String
    var arguments: [String]
    /// All of it: nothing is inherited.
    var environment: [(name: String, value: String)]
    var folder: String
    var limits: ProcessLimits
}

/// How a child ended.
public enum ProcessExit: Sendable, Hashable, CustomStringConvertible {
    /// By itself, with a code.
    case exited(Int32)
    /// By a signal.
    case killed(signal: Int32)

    /// For a person.
    public var description: String {
        switch self {
        case .exited(let code): "exited with code \(code)"
        case .killed(6): "aborted (signal 6)"
        case .killed(9): "was killed (signal 9)"
        case .killed(11): "crashed (segmentation fault, signal 11)"
        case .killed(let signal): "was ended by signal \(signal)"
        }
    }
}

/// What a child answers to a ping while its interpreter may be busy.
struct Pong: Sendable, Equatable {
    /// That of the ping.
    var number: UInt64
    /// The batch in work.
    var busyWith: UInt64?
    /// For how long, in nanoseconds.
    var busyNanoseconds: UInt64
}

/// What a child does, told on the process thread, in order.
enum ProcessEvent: Sendable {
    /// A line that it printed, without its end; cut when longer than 8 KiB.
    case line(String, isError: Bool)
    /// So many lines came too fast to be told.
    case dropped(lines: Int)
    case pong(Pong)
    /// It has ended, and so has everything that it started in its group. The last event.
    case exited(ProcessExit)
}
