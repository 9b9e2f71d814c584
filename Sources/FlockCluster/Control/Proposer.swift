// Flockwork · Apache-2.0 · see LICENSE

// The proposing half of the register, CASPaxos: read the newest accepted state from a majority, change it, have a
// majority accept the change. Who is a voter is part of the state, so a turn first reads with the voters that it knows,
// and reads again with those that it finds as well. As well, not instead: the state that it found may not be chosen
// yet, and its voters alone may not have it.

import FlockWire

/// Whose majority decides.
struct Electorate: Sendable, Equatable {
    var voters: [NodeID]
    /// While voters are exchanged: their majority is needed as well.
    var next: [NodeID]?

    init(voters: [NodeID]) { self.voters = voters }

    init(_ state: ControlState) {
        voters = state.voters
        next = state.nextVoters
    }

    /// All that may vote, each once.
    var all: [NodeID] {
        guard let next else { return voters }
        return voters + next.filter { !voters.contains($0) }
    }

    func contains(_ node: NodeID) -> Bool { voters.contains(node) || next?.contains(node) == true }

    /// Whether those decide.
    func isMajority(_ nodes: [NodeID]) -> Bool {
        guard Self.isMajority(nodes, of: voters) else { return false }
        return next.map { Self.isMajority(nodes, of: $0) } ?? true
    }

    private static func isMajority(_ nodes: [NodeID], of voters: [NodeID]) -> Bool {
        voters.count { nodes.contains($0) } * 2 > voters.count
    }
}

/// One turn of a proposer at a time.
struct Proposer: Sendable {
    /// Where a turn stands.
    enum Phase: Sendable { case idle, preparing, accepting }

    private(set) var phase = Phase.idle
    private(set) var ballot = Ballot.zero
    /// The voters that this process knew, then those that it found: a majority of each is needed.
    private(set) var electorates: [Electorate] = []
    /// The highest ballot that a voter of this turn had accepted, and its state.
    private(set) var base = Ballot.zero
    private(set) var read: ControlState?
    private(set) var proposal: ControlState?
    /// When the turn is given up.
    private(set) var deadline = Tick.never
    /// Turns that failed in a row.
    private(set) var failures = 0
    private var highestRound: UInt64 = 0
    private(set) var promised: [NodeID] = []
    private var accepted: [NodeID] = []
    private let identity: UInt64

    init(identity: UInt64) { self.identity = identity }

    /// All that may vote in this turn, those of the proposal too; each once.
    var voters: [NodeID] {
        var voters: [NodeID] = []
        for electorate in electorates + (proposal.map { [Electorate($0)] } ?? []) {
            for node in electorate.all where !voters.contains(node) { voters.append(node) }
        }
        return voters
    }

    /// Begins a turn above all ballots that were seen. Returns what to send, to all of the electorate.
    mutating func begin(_ electorates: [Electorate], own record: VoterRecord, until deadline: Tick) -> ControlMessage {
        highestRound = max(highestRound, record.promised.round) + 1
        ballot = Ballot(round: highestRound, proposer: identity)
        phase = .preparing
        self.electorates = electorates
        // What this process accepted itself is not read from it: it answers its own prepare like any voter.
        base = .zero
        read = nil
        proposal = nil
        promised = []
        accepted = []
        self.deadline = deadline
        return .prepare(ballot, known: record.accepted)
    }

    /// A voter promised. True once a majority has, for the first time.
    mutating func promise(
        from node: NodeID, _ ballot: Ballot, accepted: Ballot, state: ControlState?, known record: VoterRecord
    ) -> Bool {
        guard phase == .preparing, ballot == self.ballot, voters.contains(node), !promised.contains(node) else {
            return false
        }
        if accepted > base {
            // Without a state it is the one that this process had accepted when it asked. It may have accepted another
            // since, under a higher ballot; then this turn is lost anyway.
            guard let found = state ?? (record.accepted == accepted ? record.state : nil) else { return false }
            base = accepted
            read = found
        }
        promised.append(node)
        return electorates.allSatisfy { $0.isMajority(promised) }
    }

    /// Asks all to accept `state`, made from what was read.
    mutating func propose(_ state: ControlState) {
        precondition(phase == .preparing, "a proposal in \(phase)")
        phase = .accepting
        proposal = state
    }

    /// A voter accepted. The state once it is chosen, for the first time: by the voters of what was read and by those
    /// of the proposal.
    mutating func accept(from node: NodeID, _ ballot: Ballot) -> ControlState? {
        guard phase == .accepting, ballot == self.ballot, let proposal, !accepted.contains(node) else { return nil }
        accepted.append(node)
        guard electorates.allSatisfy({ $0.isMajority(accepted) }), Electorate(proposal).isMajority(accepted) else {
            return nil
        }
        failures = 0
        end()
        return proposal
    }

    /// Nothing to change.
    mutating func end() {
        phase = .idle
        deadline = .never
    }

    /// The turn failed, by time or by a higher ballot.
    mutating func fail() {
        failures = min(failures + 1, 8)
        end()
    }

    /// Learns of a ballot.
    mutating func see(_ ballot: Ballot) { highestRound = max(highestRound, ballot.round) }
}
