// Flockwork · Apache-2.0 · see LICENSE

// What a voter must never forget. It answers only after the record is on its disk; a voter that comes back without it
// could promise twice, and so never votes again under its name.

public import FlockWire

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
    /// What the bootstrap voters' first records are called, this one's among them; empty for a voter that came by an
    /// exchange. While one of them is missing, this voter does not vote.
    var founders: [Founder] = []
    /// Whether it heard from all other bootstrap voters that they know its record: only then it votes.
    var isFounded = true

    /// A bootstrap voter's first record.
    struct Founder: Sendable, Equatable {
        var node: NodeID
        /// Drawn when the record was begun. A disk that was wiped begins another.
        var mark: UInt64
    }

    /// The record of a voter that never voted.
    public init(promised: Ballot = .zero, accepted: Ballot = .zero, state: ControlState? = nil) {
        self.promised = promised
        self.accepted = accepted
        self.state = state
    }
}

extension VoterRecord {
    /// First bytes of a record: its format and version.
    private static let mark: UInt32 = 0x3252_5646

    /// The record for the disk: mark, length, checksum (CRC-32C of what follows), content.
    public func encoded() -> Bytes {
        var content = ByteWriter()
        content.write(promised)
        content.write(accepted)
        content.write(UInt8(isFounded ? 1 : 0))
        content.writeVarint(UInt64(founders.count))
        for founder in founders {
            content.writeText(founder.node.rawValue)
            content.write(founder.mark)
        }
        content.write(UInt8(state == nil ? 0 : 1))
        state?.write(to: &content)
        let body = content.finish()
        var writer = ByteWriter(capacity: body.count + 12)
        writer.write(Self.mark)
        writer.write(UInt32(body.count))
        writer.write(body.withUnsafeBytes { CRC32C.checksum(of: $0) })
        writer.write(body)
        return writer.finish()
    }

    /// Reads what `encoded` wrote. Throws `WireError` for anything else, were it one wrong bit: such a voter must never
    /// vote again under its name.
    public init(decoding bytes: Bytes) throws(WireError) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt32.self) == Self.mark else { throw .malformed("no voter's record") }
        let length: UInt32 = try reader.read()
        let checksum: UInt32 = try reader.read()
        guard Int(length) == reader.remaining else { throw .malformed("a voter's record of another length") }
        let body = try reader.readBytes(reader.remaining)
        guard body.withUnsafeBytes({ CRC32C.checksum(of: $0) }) == checksum else {
            throw .malformed("a voter's record with a wrong checksum")
        }
        var content = ByteReader(body)
        promised = try Ballot(from: &content)
        accepted = try Ballot(from: &content)
        isFounded = try content.read(UInt8.self) != 0
        let count = try content.readCount(
            of: "founders", limit: ControlLimits.voters, named: .codingElements, minimumSize: 9)
        for _ in 0..<count {
            founders.append(Founder(node: try NodeID(from: &content), mark: try content.read()))
        }
        let hasState: UInt8 = try content.read()
        state = hasState == 0 ? nil : try ControlState(from: &content)
        try content.finish()
    }
}
