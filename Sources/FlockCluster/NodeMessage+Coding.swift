// Flockwork · Apache-2.0 · see LICENSE

// What nodes say to each other, in bytes. Each message has a head that says its kind and length, begins at a multiple
// of 8 and ends where its head says, so that a frame may hold any number of them and items lie in place when they are
// read. Docs/PROTOCOL.md has the tables.

public import FlockWire

extension NodeMessage {
    private enum Kind: UInt8 {
        case control = 1
        case replication, work
    }

    /// Version of the bytes below.
    static let codingVersion: UInt8 = 1
    static let headBytes = 8

    /// A bound on the bytes that `write` appends.
    public var encodedSize: Int {
        switch self {
        case .control(let message): 15 + message.encodedSize
        case .replication(_, _, _, let message): 15 + 16 + message.encodedBound
        case .work(let frame): 15 + frame.messages.reduce(32) { $0 + $1.encodedSize }
        }
    }

    /// Appends kind (u8), version (u8), zero (u16) and length of the rest (u32), then the rest, padded before to 8.
    public func write(to writer: inout ByteWriter, limits: Limits) {
        writer.align(to: 8)
        let kind: Kind =
            switch self {
            case .control: .control
            case .replication: .replication
            case .work: .work
            }
        writer.write(kind.rawValue)
        writer.write(Self.codingVersion)
        writer.write(UInt16(0))
        let place = writer.count
        writer.write(UInt32(0))
        switch self {
        case .control(let message): message.write(to: &writer)
        case .replication(let from, let to, let partition, let message):
            writer.write(from.rawValue)
            writer.write(to.rawValue)
            writer.write(partition.rawValue)
            writer.write(UInt16(0))
            writer.write(UInt32(0))
            message.write(to: &writer, limits: limits)
        case .work(let frame): frame.write(to: &writer, limits: limits)
        }
        writer.patch(UInt32(writer.count - place - 4), at: place)
    }

    /// Reads one message; the next one follows at the next multiple of 8.
    ///
    /// Items stay in the reader's storage if the message fills a quarter of it, else they are copied, so that what is
    /// kept for long keeps at most four times its size. Throws `WireError` for bytes that are no message.
    public init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        try reader.align(to: 8)
        let raw: UInt8 = try reader.read()
        let version: UInt8 = try reader.read()
        guard version == Self.codingVersion else { throw .malformed("node message of version \(version)") }
        guard let kind = Kind(rawValue: raw) else { throw .malformed("node message \(raw)") }
        guard try reader.read(UInt16.self) == 0 else { throw .malformed("head of a node message") }
        let length = Int(try reader.read(UInt32.self))
        var body = ByteReader(try reader.readBytes(length))
        let inPlace = body.bytes.storage.capacity <= 4 * length
        switch kind {
        case .control: self = .control(try ControlMessage(from: &body))
        case .replication:
            let (from, to) = (try body.readMember(), try body.readMember())
            let partition = PartitionID(rawValue: try body.read())
            guard try body.read(UInt16.self) == 0, try body.read(UInt32.self) == 0 else {
                throw .malformed("head of a replication message")
            }
            let message = try ReplicationMessage(from: &body, limits: limits, inPlace: inPlace)
            self = .replication(from: from, to: to, partition, message)
        case .work: self = .work(try WorkFrame(from: &body, limits: limits, inPlace: inPlace))
        }
        try body.finish()
    }
}

extension ByteReader {
    /// A member's number (u32), which is not 0.
    mutating func readMember() throws(WireError) -> MemberNumber {
        let number: UInt32 = try read()
        guard number > 0 else { throw .malformed("member 0") }
        return MemberNumber(rawValue: number)
    }

    /// A u32 that counts things of at least `minimumSize` bytes each, all of which must still follow.
    mutating func readLength(
        of what: String, limit: Int, named name: Limit, minimumSize: Int
    ) throws(WireError) -> Int {
        let count = Int(try read(UInt32.self))
        guard count <= limit else { throw .overLimit(name, "\(what): \(count) of at most \(limit)") }
        guard count <= remaining / minimumSize else { throw .truncated }
        return count
    }
}
