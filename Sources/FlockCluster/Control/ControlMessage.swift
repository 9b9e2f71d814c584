// Flockwork · Apache-2.0 · see LICENSE

/// What control sends between processes. Any message may be lost, doubled or late.
public enum ControlMessage: Sendable, Equatable {
    /// Admit me, in place of that member if my node has one: who knows of another, or of none, asks in vain, so that a
    /// late request of an earlier process never replaces a living one. To voters, repeated until a view has it; `have`
    /// is the version that the process has installed.
    indirect case join(Candidate, replaces: MemberNumber?, have: UInt64)
    /// Are you there? To the process of that number; voters tell other voters whom they suspect.
    case probe(sequence: UInt32, to: MemberNumber, version: UInt64, suspects: [MemberNumber])
    /// I am: the answer to the probe of that sequence.
    case alive(sequence: UInt32, from: MemberNumber, version: UInt64)
    /// A member's connection was reset: look at once.
    case look(MemberNumber)
    /// I leave; `isDrained` once nothing but seats is left.
    case leave(MemberNumber, isDrained: Bool)
    /// The record that makes me a voter is on my disk.
    case enrolled(MemberNumber)
    /// A replica's report, by the member that has the replica.
    case report(PartitionReport, by: MemberNumber)
    /// An operator's command, from the member that `id` names. To all voters, repeated until a view has it.
    indirect case command(OperatorCommand, id: CommandID)

    /// A bootstrap voter that does not vote yet: my first record has that mark. Repeated until all have answered.
    case founding(mark: UInt64)
    /// I know you by the mark that you said, and by no other from the moment on that I vote; mine is the second.
    case founded(yours: UInt64, mine: UInt64)

    /// Promise to refuse lower ballots. `known` is the ballot that the proposer has accepted itself.
    case prepare(Ballot, known: Ballot)
    /// Promised. The state that was accepted last, unless that is the one of `known`.
    indirect case promise(Ballot, accepted: Ballot, state: ControlState?)
    /// Accept this state.
    indirect case accept(Ballot, ControlState)
    /// Accept what you accepted under `base`, changed so.
    indirect case acceptDelta(Ballot, base: Ballot, ControlDelta)
    /// The base is another one here: send the whole state.
    case acceptWhole(Ballot)
    /// Accepted.
    case accepted(Ballot)
    /// A higher ballot was promised.
    case rejected(Ballot, promised: Ballot)

    /// An agreed state.
    indirect case view(ControlState)
    /// Agreed changes, each from one version to the next.
    case deltas([ControlDelta])
    /// Send me what is newer than that.
    case pull(have: UInt64)
}
