// Flockwork · Apache-2.0 · see LICENSE

// The bodies of methods, call, reply and cancel frames. All integers are little-endian; every fixed part is a multiple
// of 8 bytes, so that what follows it can be read in place. Docs/WIRE.md has the byte tables.

internal import FlockWire

/// The fixed part of a call.
struct CallHeader: Equatable {
    static let size = 32
    /// "Arguments" of a direct call: bytes of the method's own format.
    static let raw: UInt16 = .max
    static let oneWay: UInt16 = 1

    /// The caller's number for this call, zero when it wants no reply.
    var number: UInt64
    /// The receiver's key.
    var actor: UInt64
    /// The method's number in the receiving process's table.
    var method: UInt32
    var argumentCount: UInt16
    var flags: UInt16
    /// Nanoseconds left, zero when the caller set none.
    var deadline: UInt64

    func write(to writer: inout ByteWriter) {
        writer.write(number)
        writer.write(actor)
        writer.write(method)
        writer.write(argumentCount)
        writer.write(flags)
        writer.write(deadline)
    }

    @inline(__always)
    init(number: UInt64, actor: UInt64, method: UInt32, argumentCount: UInt16, flags: UInt16, deadline: UInt64) {
        self.number = number
        self.actor = actor
        self.method = method
        self.argumentCount = argumentCount
        self.flags = flags
        self.deadline = deadline
    }

    /// Reads the fixed part; the arguments are the rest of the body.
    init(from body: Bytes) throws(WireError) {
        guard body.count >= Self.size else { throw .truncated }
        self = body.withUnsafeBytes { raw in
            func load<Integer: FixedWidthInteger>(_ offset: Int) -> Integer {
                Integer(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: Integer.self))
            }
            return CallHeader(
                number: load(0), actor: load(8), method: load(16), argumentCount: load(20), flags: load(22),
                deadline: load(24))
        }
        guard flags & ~Self.oneWay == 0, (number == 0) == (flags & Self.oneWay != 0) else {
            throw .malformed("flags of a call")
        }
    }

    static func arguments(of body: Bytes) -> Bytes { body.slice(from: size, count: body.count - size) }
}

/// The fixed part of a reply.
struct ReplyHeader: Equatable {
    static let size = 16
    static let kindOffset = 8

    enum Kind: UInt32 {
        /// One of several parts; more follows.
        case part = 1
        /// The last part, or the whole.
        case done = 2
        /// A `FlockError` follows.
        case failed = 3
    }

    var number: UInt64
    var kind: Kind

    init(number: UInt64, kind: Kind) {
        self.number = number
        self.kind = kind
    }

    func write(to writer: inout ByteWriter) {
        writer.write(number)
        writer.write(kind.rawValue)
        writer.write(UInt32(0))
    }

    init(from body: Bytes) throws(WireError) {
        guard body.count >= Self.size else { throw .truncated }
        let (number, kind) = body.withUnsafeBytes { raw in
            (
                UInt64(littleEndian: raw.loadUnaligned(as: UInt64.self)),
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: Self.kindOffset, as: UInt32.self))
            )
        }
        guard let kind = Kind(rawValue: kind) else { throw .malformed("kind of a reply") }
        self.init(number: number, kind: kind)
    }

    static func payload(of body: Bytes) -> Bytes { body.slice(from: size, count: body.count - size) }
}

/// A table of methods: the sender's numbers and names, and in the first one of a connection the announcement.
struct MethodsFrame {
    var methods: [(number: UInt32, identifier: String)]
    var announcement: Bytes

    init(methods: [(number: UInt32, identifier: String)], announcement: Bytes) {
        self.methods = methods
        self.announcement = announcement
    }

    func write(to writer: inout ByteWriter) {
        writer.writeVarint(UInt64(methods.count))
        for method in methods {
            writer.write(method.number)
            writer.writeText(method.identifier)
        }
        writer.writeBlock(announcement)
    }

    init(from body: Bytes, limits: Limits) throws(WireError) {
        var reader = ByteReader(body)
        let count = try reader.readCount(of: "methods", limit: limits.methods, named: .methods, minimumSize: 5)
        methods = []
        methods.reserveCapacity(count)
        for _ in 0..<count {
            let number: UInt32 = try reader.read()
            methods.append(
                (number, try reader.readText(of: "method name", limit: limits.methodNameBytes, named: .methodNameBytes))
            )
        }
        announcement = try reader.readBlock(of: "announcement", limit: limits.frameBytes, named: .frameBytes).unpinned()
        try reader.finish()
    }
}
