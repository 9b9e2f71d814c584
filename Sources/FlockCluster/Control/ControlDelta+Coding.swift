// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

extension ControlDelta {
    /// The difference in bytes.
    public func write(to writer: inout ByteWriter) {
        writer.writeVarint(base)
        writer.writeVarint(version &- base)
        writer.writeVarint(UInt64(members.count))
        for member in members { member.write(to: &writer) }
        writer.writeNumbers(gone)
        writer.writeVarint(UInt64(retired.count))
        for mark in retired { writer.write(mark) }
        writer.writeVarint(UInt64(nextMember))
        writer.writeVarint(UInt64(seats.count))
        for seat in seats {
            writer.writeVarint(UInt64(seat.partition.rawValue))
            seat.seats.write(to: &writer)
        }
        writer.write(UInt8(rest == nil ? 0 : 1))
        rest?.write(to: &writer)
    }

    /// Reads what `write` wrote. Throws `WireError` for anything else.
    public init(from reader: inout ByteReader) throws(WireError) {
        let base = try reader.readVarint()
        let step = try reader.readVarint()
        var members: [Member] = []
        for _
            in 0..<(try reader.readCount(
                of: "members", limit: ControlLimits.members, named: .codingElements, minimumSize: 16))
        {
            members.append(try Member(from: &reader))
        }
        let gone = try reader.readNumbers()
        var retired: [UInt64] = []
        let marks = try reader.readCount(
            of: "retired", limit: ControlState.retiredCount, named: .codingElements, minimumSize: 8)
        for _ in 0..<marks { retired.append(try reader.read()) }
        let nextMember = UInt32(try reader.readSmall(of: "member", limit: Int(UInt32.max)))
        var seats: [Seat] = []
        for _
            in 0..<(try reader.readCount(
                of: "seats", limit: ControlLimits.partitions, named: .codingElements, minimumSize: 7))
        {
            let partition = try reader.readSmall(of: "partition", limit: ControlLimits.partitions - 1)
            seats.append(Seat(partition: PartitionID(partition), seats: try PartitionSeats(from: &reader)))
        }
        let hasRest: UInt8 = try reader.read()
        let rest = hasRest == 0 ? nil : try Rest(from: &reader)
        self.init(
            base: base, version: base &+ step, members: members, gone: gone, retired: retired,
            nextMember: nextMember, seats: seats, rest: rest)
    }
}

extension ControlDelta.Rest {
    func write(to writer: inout ByteWriter) {
        writer.write(clusterID)
        writer.writeVarint(UInt64(minimumProtocol))
        writer.write(UInt8(replicationFactor))
        writer.write(UInt8(minimumInSync))
        let flags = (durablePartitions > 0 ? 1 : 0) | (isReplicationSet ? 2 : 0) | (nextVoters == nil ? 0 : 4)
        writer.write(UInt8(flags | (suspended.isEmpty ? 0 : 8)))
        if durablePartitions > 0 { writer.writeVarint(UInt64(durablePartitions)) }
        writer.writeNodes(voters)
        if let nextVoters { writer.writeNodes(nextVoters) }
        writer.writeNodes(formerVoters)
        writer.writeVarint(UInt64(exchange?.member.rawValue ?? 0))
        if let exchange {
            writer.writeText(exchange.leaving?.rawValue ?? "")
            writer.writeText(exchange.joining.rawValue)
        }
        writer.writeVarint(UInt64(commands.count))
        for command in commands { command.write(to: &writer) }
        guard !suspended.isEmpty else { return }
        writer.writeVarint(UInt64(suspended.count))
        for pipeline in suspended { writer.writeText(pipeline) }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        clusterID = try reader.read()
        minimumProtocol = UInt16(try reader.readSmall(of: "protocol", limit: 65_535))
        replicationFactor = Int(try reader.read(UInt8.self))
        minimumInSync = Int(try reader.read(UInt8.self))
        let flags: UInt8 = try reader.read()
        durablePartitions =
            flags & 1 != 0 ? try reader.readSmall(of: "durable partitions", limit: ControlLimits.partitions) : 0
        isReplicationSet = flags & 2 != 0
        voters = try reader.readNodes()
        nextVoters = flags & 4 != 0 ? try reader.readNodes() : nil
        formerVoters = try reader.readNodes()
        exchange = nil
        if let member = try reader.readNumber() {
            let leaving = try NodeID(from: &reader)
            exchange = VoterExchange(
                leaving: leaving.rawValue.isEmpty ? nil : leaving, joining: try NodeID(from: &reader), member: member)
        }
        commands = []
        let count = try reader.readCount(
            of: "commands", limit: ControlLimits.members, named: .codingElements, minimumSize: 2)
        for _ in 0..<count { commands.append(try CommandID(from: &reader)) }
        suspended = []
        guard flags & 8 != 0 else { return }
        let names = try reader.readCount(
            of: "pipelines", limit: ControlLimits.pipelines, named: .codingElements, minimumSize: 1)
        for _ in 0..<names { suspended.append(try reader.readPipeline()) }
    }
}
