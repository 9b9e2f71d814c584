// Flockwork · Apache-2.0 · see LICENSE

// The agreed state in bytes, on the wire and on a voter's disk. Numbers are varints, since most are small; every count
// is checked against what is left before anything is made of it.

public import FlockWire

/// Bounds of what is read.
enum ControlLimits {
    static let members = 65_536
    static let partitions = 65_536
    static let seats = 64
    static let voters = 15
    static let formerVoters = 256
    /// Voters to which an operator may add.
    static let votersByCommand = 7
    static let pipelines = 4096
    static let labels = NodeLabels.count
    static let text = 255
    static let deltas = 1024
}

extension ControlState {
    /// The state in bytes.
    public func write(to writer: inout ByteWriter) {
        writer.writeVarint(version)
        writer.writeVarint(UInt64(nextMember))
        ControlDelta.Rest(self).write(to: &writer)
        writer.writeVarint(UInt64(members.count))
        for member in members { member.write(to: &writer) }
        writer.writeVarint(UInt64(retired.count))
        for mark in retired { writer.write(mark) }
        writer.writeVarint(UInt64(partitions.count))
        for seats in partitions { seats.write(to: &writer) }
    }

    /// Reads what `write` wrote. Throws `WireError` for anything else.
    public init(from reader: inout ByteReader) throws(WireError) {
        let version = try reader.readVarint()
        let nextMember = UInt32(try reader.readSmall(of: "member", limit: Int(UInt32.max)))
        let rest = try ControlDelta.Rest(from: &reader)
        var members: [Member] = []
        for _
            in 0..<(try reader.readCount(
                of: "members", limit: ControlLimits.members, named: .codingElements, minimumSize: 16))
        {
            let member = try Member(from: &reader)
            if let last = members.last, last.number >= member.number { throw .malformed("members out of order") }
            members.append(member)
        }
        var retired: [UInt64] = []
        for _
            in 0..<(try reader.readCount(
                of: "retired", limit: Self.retiredCount, named: .codingElements, minimumSize: 8))
        {
            retired.append(try reader.read())
        }
        var partitions: [PartitionSeats] = []
        for _
            in 0..<(try reader.readCount(
                of: "partitions", limit: ControlLimits.partitions, named: .codingElements, minimumSize: 6))
        {
            partitions.append(try PartitionSeats(from: &reader))
        }
        guard rest.durablePartitions <= partitions.count else { throw .malformed("durable partitions") }
        self.init(
            version: version, clusterID: rest.clusterID, minimumProtocol: rest.minimumProtocol,
            replicationFactor: rest.replicationFactor, minimumInSync: rest.minimumInSync,
            durablePartitions: rest.durablePartitions,
            voters: rest.voters, nextVoters: rest.nextVoters, exchange: rest.exchange,
            formerVoters: rest.formerVoters, members: members,
            nextMember: nextMember, retired: retired, partitions: partitions,
            isReplicationSet: rest.isReplicationSet, commands: rest.commands,
            suspended: rest.suspended)
    }
}

extension Member {
    func write(to writer: inout ByteWriter) {
        writer.writeVarint(UInt64(number.rawValue))
        Candidate(
            node: node, incarnation: incarnation, host: host, port: port, weight: weight, zone: zone, labels: labels,
            disk: disk, protocolVersion: protocolVersion
        ).write(to: &writer)
        writer.write(phase.rawValue | (isSuspected ? 0x80 : 0))
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let number = try MemberNumber(from: &reader)
        let candidate = try Candidate(from: &reader)
        let flags: UInt8 = try reader.read()
        guard let phase = Phase(rawValue: flags & 0x7F) else { throw .malformed("phase \(flags & 0x7F)") }
        self = candidate.admitted(as: number)
        self.phase = phase
        isSuspected = flags & 0x80 != 0
    }
}

extension Candidate {
    func write(to writer: inout ByteWriter) {
        writer.writeText(node.rawValue)
        writer.write(incarnation)
        writer.writeText(host)
        writer.writeVarint(UInt64(port))
        writer.write(UInt8(weight))
        writer.writeText(zone)
        writer.writeVarint(disk)
        writer.writeVarint(UInt64(protocolVersion))
        writer.writeVarint(UInt64(labels.count))
        for label in labels { writer.writeText(label) }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let node = try NodeID(from: &reader)
        let incarnation: UInt64 = try reader.read()
        let host = try reader.readText(of: "host", limit: ControlLimits.text, named: .nameBytes)
        let port = try reader.readSmall(of: "port", limit: 65_535)
        let weight: UInt8 = try reader.read()
        guard (1...64).contains(weight) else { throw .malformed("weight \(weight)") }
        let zone = try reader.readText(of: "zone", limit: ControlLimits.text, named: .nameBytes)
        let disk = try reader.readVarint()
        let version = UInt16(try reader.readSmall(of: "protocol", limit: 65_535))
        let labels = try reader.readLabels()
        self.init(
            node: node, incarnation: incarnation, host: host, port: port, weight: Int(weight), zone: zone,
            labels: labels, disk: disk, protocolVersion: version)
    }
}

extension PartitionSeats {
    func write(to writer: inout ByteWriter) {
        writer.writeVarint(epoch)
        writer.writeVarint(UInt64(primary?.rawValue ?? 0))
        writer.writeNumbers(inSync)
        writer.writeNumbers(learners)
        writer.writeNumbers(recovering)
        writer.writeVarint(UInt64(generation))
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let epoch = try reader.readVarint()
        let primary = try reader.readNumber()
        let inSync = try reader.readNumbers()
        let learners = try reader.readNumbers()
        let recovering = try reader.readNumbers()
        let generation = UInt16(try reader.readSmall(of: "generation", limit: 65_535))
        self.init(
            epoch: epoch, primary: primary, inSync: inSync, learners: learners, generation: generation,
            recovering: recovering)
    }
}

// MARK: Small things

extension CommandID {
    func write(to writer: inout ByteWriter) {
        writer.write(issuer)
        writer.writeVarint(number)
    }

    init(from reader: inout ByteReader) throws(WireError) {
        self.init(issuer: try MemberNumber(from: &reader), number: try reader.readVarint())
    }
}

extension NodeID {
    init(from reader: inout ByteReader) throws(WireError) {
        self.init(try reader.readText(of: "node", limit: ControlLimits.text, named: .nameBytes))
    }
}

extension MemberNumber {
    init(from reader: inout ByteReader) throws(WireError) {
        guard let number = try reader.readNumber() else { throw .malformed("member 0") }
        self = number
    }
}

extension ByteWriter {
    /// A count, then ascending numbers as differences.
    mutating func writeNumbers(_ numbers: [MemberNumber]) {
        writeVarint(UInt64(numbers.count))
        var last: UInt32 = 0
        for number in numbers {
            writeVarint(UInt64(number.rawValue &- last))
            last = number.rawValue
        }
    }

    mutating func writeNodes(_ nodes: [NodeID]) {
        writeVarint(UInt64(nodes.count))
        for node in nodes { writeText(node.rawValue) }
    }
}

extension ByteReader {
    mutating func readSmall(of what: String, limit: Int) throws(WireError) -> Int {
        let value = try readVarint()
        guard value <= UInt64(limit) else { throw .overLimit(.codingElements, "\(what): \(value) of at most \(limit)") }
        return Int(value)
    }

    /// A member; 0 is none.
    mutating func readNumber() throws(WireError) -> MemberNumber? {
        let value = try readSmall(of: "member", limit: Int(UInt32.max))
        return value == 0 ? nil : MemberNumber(rawValue: UInt32(value))
    }

    mutating func readNumbers(limit: Int = ControlLimits.members) throws(WireError) -> [MemberNumber] {
        let count = try readCount(of: "members", limit: limit, named: .codingElements)
        var numbers: [MemberNumber] = []
        numbers.reserveCapacity(count)
        var last: UInt64 = 0
        for _ in 0..<count {
            let step = try readSmall(of: "member", limit: Int(UInt32.max))
            last += UInt64(step)
            guard step > 0, last <= UInt64(UInt32.max) else { throw .malformed("members out of order") }
            numbers.append(MemberNumber(rawValue: UInt32(last)))
        }
        return numbers
    }

    mutating func readPipeline() throws(WireError) -> String {
        try readText(of: "pipeline", limit: ControlLimits.text, named: .nameBytes)
    }

    /// Ascending, each once.
    mutating func readLabels() throws(WireError) -> [String] {
        let count = try readCount(of: "labels", limit: ControlLimits.labels, named: .codingElements)
        var labels: [String] = []
        for _ in 0..<count {
            let label = try readText(of: "label", limit: ControlLimits.text, named: .nameBytes)
            if let last = labels.last, last >= label { throw .malformed("labels out of order") }
            labels.append(label)
        }
        return labels
    }

    mutating func readNodes() throws(WireError) -> [NodeID] {
        var nodes: [NodeID] = []
        let count = try readCount(of: "voters", limit: ControlLimits.formerVoters, named: .codingElements)
        for _ in 0..<count { nodes.append(try NodeID(from: &self)) }
        return nodes
    }
}
