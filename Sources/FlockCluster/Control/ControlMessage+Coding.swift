// Flockwork · Apache-2.0 · see LICENSE

// One byte for the kind, then the fields. Probes are most of what control says at rest, so they are the smallest.

public import FlockWire

extension ControlMessage {
    private enum Kind: UInt8 {
        case join = 1
        case probe, alive, look, leave, enrolled, report, command
        case prepare, promise, accept, acceptDelta, acceptWhole, accepted, rejected
        case view, deltas, pull, founding, founded
    }

    /// Bytes that it takes on the wire, without the frame around it.
    public var encodedSize: Int {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.count
    }

    /// The message in bytes.
    public func write(to writer: inout ByteWriter) {
        switch self {
        case .join(let candidate, let replaced, let have):
            writer.write(Kind.join.rawValue)
            candidate.write(to: &writer)
            writer.writeVarint(UInt64(replaced?.rawValue ?? 0))
            writer.writeVarint(have)
        case .probe(let sequence, let to, let version, let suspects):
            writer.write(Kind.probe.rawValue)
            writer.write(sequence)
            writer.write(to)
            writer.writeVarint(version)
            writer.writeNumbers(suspects)
        case .alive(let sequence, let from, let version):
            writer.write(Kind.alive.rawValue)
            writer.write(sequence)
            writer.write(from)
            writer.writeVarint(version)
        case .look(let number):
            writer.write(Kind.look.rawValue)
            writer.write(number)
        case .leave(let number, let isDrained):
            writer.write(Kind.leave.rawValue)
            writer.write(number)
            writer.write(UInt8(isDrained ? 1 : 0))
        case .enrolled(let number):
            writer.write(Kind.enrolled.rawValue)
            writer.write(number)
        case .report(let report, let by):
            writer.write(Kind.report.rawValue)
            report.write(to: &writer)
            writer.write(by)
        case .command(let command, let id):
            writer.write(Kind.command.rawValue)
            command.write(to: &writer)
            id.write(to: &writer)
        case .view(let state):
            writer.write(Kind.view.rawValue)
            state.write(to: &writer)
        case .deltas(let deltas):
            writer.write(Kind.deltas.rawValue)
            writer.writeVarint(UInt64(deltas.count))
            for delta in deltas { delta.write(to: &writer) }
        case .pull(let have):
            writer.write(Kind.pull.rawValue)
            writer.writeVarint(have)
        case .founding(let mark):
            writer.write(Kind.founding.rawValue)
            writer.write(mark)
        case .founded(let yours, let mine):
            writer.write(Kind.founded.rawValue)
            writer.write(yours)
            writer.write(mine)
        default: writeTurn(to: &writer)
        }
    }

    private func writeTurn(to writer: inout ByteWriter) {
        switch self {
        case .prepare(let ballot, let known):
            writer.write(Kind.prepare.rawValue)
            writer.write(ballot)
            writer.write(known)
        case .promise(let ballot, let accepted, let state):
            writer.write(Kind.promise.rawValue)
            writer.write(ballot)
            writer.write(accepted)
            writer.write(UInt8(state == nil ? 0 : 1))
            state?.write(to: &writer)
        case .accept(let ballot, let state):
            writer.write(Kind.accept.rawValue)
            writer.write(ballot)
            state.write(to: &writer)
        case .acceptDelta(let ballot, let base, let delta):
            writer.write(Kind.acceptDelta.rawValue)
            writer.write(ballot)
            writer.write(base)
            delta.write(to: &writer)
        case .acceptWhole(let ballot):
            writer.write(Kind.acceptWhole.rawValue)
            writer.write(ballot)
        case .accepted(let ballot):
            writer.write(Kind.accepted.rawValue)
            writer.write(ballot)
        case .rejected(let ballot, let promised):
            writer.write(Kind.rejected.rawValue)
            writer.write(ballot)
            writer.write(promised)
        default: preconditionFailure("\(self) is no turn's")
        }
    }

    /// Reads one message. Throws `WireError` for bytes that are none.
    public init(from reader: inout ByteReader) throws(WireError) {
        let raw: UInt8 = try reader.read()
        guard let kind = Kind(rawValue: raw) else { throw .malformed("control message \(raw)") }
        switch kind {
        case .join:
            self = .join(
                try Candidate(from: &reader), replaces: try reader.readNumber(), have: try reader.readVarint())
        case .probe:
            self = .probe(
                sequence: try reader.read(), to: try MemberNumber(from: &reader), version: try reader.readVarint(),
                suspects: try reader.readNumbers())
        case .alive:
            self = .alive(
                sequence: try reader.read(), from: try MemberNumber(from: &reader), version: try reader.readVarint())
        case .look: self = .look(try MemberNumber(from: &reader))
        case .leave:
            self = .leave(try MemberNumber(from: &reader), isDrained: try reader.read(UInt8.self) != 0)
        case .enrolled: self = .enrolled(try MemberNumber(from: &reader))
        case .report: self = .report(try PartitionReport(from: &reader), by: try MemberNumber(from: &reader))
        case .command: self = .command(try OperatorCommand(from: &reader), id: try CommandID(from: &reader))
        case .view: self = .view(try ControlState(from: &reader))
        case .deltas:
            var deltas: [ControlDelta] = []
            for _
                in 0..<(try reader.readCount(
                    of: "deltas", limit: ControlLimits.deltas, named: .codingElements, minimumSize: 6))
            {
                deltas.append(try ControlDelta(from: &reader))
            }
            self = .deltas(deltas)
        case .founding: self = .founding(mark: try reader.read())
        case .founded: self = .founded(yours: try reader.read(), mine: try reader.read())
        case .pull: self = .pull(have: try reader.readVarint())
        default: self = try Self.readTurn(kind, &reader)
        }
    }

    private static func readTurn(_ kind: Kind, _ reader: inout ByteReader) throws(WireError) -> ControlMessage {
        let ballot = try Ballot(from: &reader)
        switch kind {
        case .prepare:
            return .prepare(ballot, known: try Ballot(from: &reader))
        case .promise:
            let accepted = try Ballot(from: &reader)
            let hasState: UInt8 = try reader.read()
            return .promise(
                ballot, accepted: accepted, state: hasState == 0 ? nil : try ControlState(from: &reader))
        case .accept:
            return .accept(ballot, try ControlState(from: &reader))
        case .acceptDelta:
            return .acceptDelta(
                ballot, base: try Ballot(from: &reader), try ControlDelta(from: &reader))
        case .acceptWhole: return .acceptWhole(ballot)
        case .accepted: return .accepted(ballot)
        case .rejected: return .rejected(ballot, promised: try Ballot(from: &reader))
        default: throw .malformed("control message \(kind.rawValue)")
        }
    }
}

extension ByteWriter {
    mutating func write(_ ballot: Ballot) {
        writeVarint(ballot.round)
        write(ballot.proposer)
    }

    mutating func write(_ number: MemberNumber) { writeVarint(UInt64(number.rawValue)) }
}

extension Ballot {
    init(from reader: inout ByteReader) throws(WireError) {
        self.init(round: try reader.readVarint(), proposer: try reader.read())
    }
}

extension PartitionReport {
    func write(to writer: inout ByteWriter) {
        writer.writeVarint(UInt64(partition.rawValue))
        switch self {
        case .caughtUp(_, let epoch, let member): Self.write(0, epoch, member, to: &writer)
        case .lagging(_, let epoch, let member): Self.write(1, epoch, member, to: &writer)
        case .failed(_, let epoch, let member): Self.write(2, epoch, member, to: &writer)
        case .rejoined(_, let member, let epoch, let index):
            Self.write(3, epoch, member, to: &writer)
            writer.writeVarint(index)
        }
    }

    private static func write(_ kind: UInt8, _ epoch: UInt64, _ member: MemberNumber, to writer: inout ByteWriter) {
        writer.write(kind)
        writer.writeVarint(epoch)
        writer.write(member)
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let partition = PartitionID(try reader.readSmall(of: "partition", limit: ControlLimits.partitions - 1))
        let kind: UInt8 = try reader.read()
        let epoch = try reader.readVarint()
        let member = try MemberNumber(from: &reader)
        switch kind {
        case 0: self = .caughtUp(partition, epoch: epoch, member)
        case 1: self = .lagging(partition, epoch: epoch, member)
        case 2: self = .failed(partition, epoch: epoch, member)
        case 3: self = .rejoined(partition, member, lastEpoch: epoch, lastIndex: try reader.readVarint())
        default: throw .malformed("report \(kind)")
        }
    }
}

extension OperatorCommand {
    private static func write(_ kind: UInt8, _ name: String, to writer: inout ByteWriter) {
        writer.write(kind)
        writer.writeText(name)
    }

    func write(to writer: inout ByteWriter) {
        switch self {
        case .acceptLoss(let partition):
            writer.write(UInt8(0))
            writer.writeVarint(UInt64(partition.rawValue))
        case .replication(let factor, let minimum):
            writer.write(UInt8(1))
            writer.writeVarint(UInt64(clamping: factor))
            writer.writeVarint(UInt64(clamping: minimum))
        case .replaceVoter(let old, let new):
            writer.write(UInt8(2))
            writer.writeText(old.rawValue)
            writer.writeText(new.rawValue)
        case .forceNewControl: writer.write(UInt8(3))
        case .addVoter(let node): Self.write(4, node.rawValue, to: &writer)
        case .drain(let node): Self.write(5, node.rawValue, to: &writer)
        case .undrain(let node): Self.write(6, node.rawValue, to: &writer)
        case .suspend(let pipeline): Self.write(7, pipeline, to: &writer)
        case .resume(let pipeline): Self.write(8, pipeline, to: &writer)
        case .removeVoter(let node): Self.write(9, node.rawValue, to: &writer)
        }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let kind: UInt8 = try reader.read()
        switch kind {
        case 0:
            self = .acceptLoss(
                PartitionID(try reader.readSmall(of: "partition", limit: ControlLimits.partitions - 1)))
        case 1:
            self = .replication(
                factor: try reader.readSmall(of: "copies", limit: 255),
                minimumInSync: try reader.readSmall(of: "copies", limit: 255))
        case 2: self = .replaceVoter(try NodeID(from: &reader), by: try NodeID(from: &reader))
        case 3: self = .forceNewControl
        case 4: self = .addVoter(try NodeID(from: &reader))
        case 5: self = .drain(try NodeID(from: &reader))
        case 6: self = .undrain(try NodeID(from: &reader))
        case 7: self = .suspend(pipeline: try reader.readPipeline())
        case 8: self = .resume(pipeline: try reader.readPipeline())
        case 9: self = .removeVoter(try NodeID(from: &reader))
        default: throw .malformed("command \(kind)")
        }
    }
}
