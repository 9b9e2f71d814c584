// Flockwork · Apache-2.0 · see LICENSE

// The frame header: 16 bytes, little-endian. The checksum covers the header only: it catches a reader that lost its
// place before a wrong length is believed; TCP covers the body. Every frame is padded to 8 bytes, so that bodies start
// aligned and rows can be scored in the buffer that they were read into.
//
//   0  u16 magic 0x4B46 ("FK")   2  u8 version   3  u8 type   4  u16 flags   6  u16 zero
//   8  u32 body length (without padding)         12 u32 CRC-32C of bytes 0 ..< 12

/// What a frame is about. Raw values are part of the wire format.
public enum FrameType: UInt8, Sendable, CaseIterable {
    /// Handshake steps, in the order of `Docs/WIRE.md`.
    case hello = 1
    case challenge = 2
    case proof = 3
    case welcome = 4
    case refusal = 5
    /// Method tables and pipeline fingerprints, once after the handshake.
    case methods = 8
    /// Distributed calls.
    case call = 16
    case reply = 17
    case cancel = 18
    /// Liveness and shutdown.
    case ping = 32
    case pong = 33
    case goodbye = 34
}

/// Why a byte stream cannot be read on. The connection is closed.
public enum FrameError: Error, Equatable, Sendable {
    case badMagic
    case badVersion(UInt8)
    case badChecksum
    case unknownType(UInt8)
    case reservedBits
    case tooLong(Int, limit: Int)
}

/// The fixed start of every frame.
public struct FrameHeader: Equatable, Sendable {
    public static let size = 16
    static let magic: UInt16 = 0x4B46
    /// The version of the frame layout (the protocol's version is negotiated in the handshake).
    public static let version: UInt8 = 1

    public var type: FrameType
    public var flags: UInt16
    /// Body bytes, without padding.
    public var length: Int

    public init(type: FrameType, flags: UInt16 = 0, length: Int) {
        self.type = type
        self.flags = flags
        self.length = length
    }

    /// Zero bytes that follow a body of `length` bytes.
    public static func padding(after length: Int) -> Int { (8 - length % 8) % 8 }

    /// Bytes of the whole frame: header, body, padding.
    public var frameSize: Int { Self.size + length + Self.padding(after: length) }

    /// Writes the header's 16 bytes.
    public func write(to target: UnsafeMutableRawBufferPointer) {
        precondition(target.count >= Self.size && length <= Int(UInt32.max), "header of a frame of \(length) bytes")
        target.storeBytes(of: Self.magic.littleEndian, toByteOffset: 0, as: UInt16.self)
        target.storeBytes(of: Self.version, toByteOffset: 2, as: UInt8.self)
        target.storeBytes(of: type.rawValue, toByteOffset: 3, as: UInt8.self)
        target.storeBytes(of: flags.littleEndian, toByteOffset: 4, as: UInt16.self)
        target.storeBytes(of: 0, toByteOffset: 6, as: UInt16.self)
        target.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 8, as: UInt32.self)
        let checksum = CRC32C.checksum(of: UnsafeRawBufferPointer(rebasing: target[0..<12]))
        target.storeBytes(of: checksum.littleEndian, toByteOffset: 12, as: UInt32.self)
    }

    /// Reads 16 bytes; `limit` bounds the body.
    public init(from source: UnsafeRawBufferPointer, limit: Int) throws(FrameError) {
        precondition(source.count >= Self.size, "header in \(source.count) bytes")
        func load<Integer: FixedWidthInteger>(_ offset: Int, as type: Integer.Type) -> Integer {
            Integer(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: Integer.self))
        }
        guard load(0, as: UInt16.self) == Self.magic else { throw .badMagic }
        guard load(2, as: UInt8.self) == Self.version else { throw .badVersion(load(2, as: UInt8.self)) }
        let checksum = CRC32C.checksum(of: UnsafeRawBufferPointer(rebasing: source[0..<12]))
        guard load(12, as: UInt32.self) == checksum else { throw .badChecksum }
        guard let type = FrameType(rawValue: load(3, as: UInt8.self)) else {
            throw .unknownType(load(3, as: UInt8.self))
        }
        guard load(6, as: UInt16.self) == 0 else { throw .reservedBits }
        let length = Int(load(8, as: UInt32.self))
        guard length <= limit else { throw .tooLong(length, limit: limit) }
        self.init(type: type, flags: load(4, as: UInt16.self), length: length)
    }
}

/// A whole frame as it was read. The body lies in the read buffer, at an address divisible by 8.
public struct Frame: Sendable {
    public let type: FrameType
    public let flags: UInt16
    public let body: Bytes

    public init(type: FrameType, flags: UInt16 = 0, body: Bytes) {
        self.type = type
        self.flags = flags
        self.body = body
    }
}
