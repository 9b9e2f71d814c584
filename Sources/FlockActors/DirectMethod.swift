// Flockwork · Apache-2.0 · see LICENSE

public import Distributed
public import FlockWire

/// A distributed method that is called by hand-written frames: no task, no continuation, no codec.
public struct DirectMethod: Sendable, CustomStringConvertible {
    /// Its number in this process.
    let number: UInt32
    public let description: String

    /// Finds the method `name` of `type`, written as `submit` or, where that is ambiguous, as `submit(_:run:)`.
    ///
    /// The type must be a concrete actor, neither generic nor private, and declare the method itself.
    public init<A: DistributedActor>(_ type: A.Type, _ name: String) {
        let names = MethodNames.ofThisProgram
        let found = names.numbers(of: type).filter { names[$0].name == name || names[$0].baseName == name }
        precondition(
            found.count == 1,
            "\(type).\(name): \(found.count) distributed methods of this name; it has "
                + names.numbers(of: type).map { names[$0].name }.joined(separator: ", "))
        number = found[0]
        description = "\(type).\(name)"
    }
}

/// What a peer answers to a direct call. Payloads start at addresses divisible by 8.
public enum DirectReply: Sendable {
    /// More follows.
    case part(Bytes)
    /// The end, with the last or only payload.
    case done(Bytes)
    /// The end: the receiver's error, or `unavailable`, `deadlineExceeded`, `cancelled`.
    case failed(FlockError)
}
