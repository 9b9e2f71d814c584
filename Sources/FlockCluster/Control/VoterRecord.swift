// Flockwork · Apache-2.0 · see LICENSE

// What a voter must never forget. It answers only after the record is on its disk; a voter that comes back without it
// could promise twice, and so never votes again under its name.

/// A turn of the register: higher ones win, and no two proposers ever share one.
public struct Ballot: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Counts up.
    public var round: UInt64
    /// The proposing process: a hash of its node and incarnation, so that a restarted one never repeats a ballot.
    public var proposer: UInt64

    /// A turn.
    public init(round: UInt64, proposer: UInt64) {
        self.round = round
        self.proposer = proposer
    }

    /// Before any turn.
    public static let zero = Ballot(round: 0, proposer: 0)
    /// By round.
    public static func < (left: Ballot, right: Ballot) -> Bool {
        left.round == right.round ? left.proposer < right.proposer : left.round < right.round
    }
    /// Round and proposer.
    public var description: String { "\(round).\(String(proposer & 0xFFFF, radix: 16))" }
}

/// The durable part of a voter.
public struct VoterRecord: Sendable, Equatable {
    /// Ballots below it are refused.
    public var promised: Ballot
    /// The ballot under which `state` was accepted.
    public var accepted: Ballot
    /// Accepted, perhaps never agreed: not a view.
    public var state: ControlState?

    /// The record of a voter that never voted.
    public init(promised: Ballot = .zero, accepted: Ballot = .zero, state: ControlState? = nil) {
        self.promised = promised
        self.accepted = accepted
        self.state = state
    }
}
