// Flockwork · Apache-2.0 · see LICENSE

// Everything read from a peer goes through this cursor: each read checks its bounds, and no length is believed before
// it was compared with what is left.

/// Why bytes could not be understood. Never contains the bytes themselves.
public enum WireError: Error, Equatable, Sendable {
    /// Fewer bytes than the value needs.
    case truncated
    /// A length, count or depth over its limit, and what it is.
    case overLimit(Limit, String)
    /// Bytes that are not what the format allows.
    case malformed(String)
}

/// A bounds-checked cursor over `Bytes`.
public struct ByteReader: Sendable {
    public let bytes: Bytes
    /// Bytes read so far.
    public internal(set) var position: Int {
        @inlinable get { cursor }
        set { cursor = newValue }
    }
    @usableFromInline var cursor = 0

    /// A cursor at the first byte.
    public init(_ bytes: Bytes) {
        self.bytes = bytes
    }

    /// Bytes that are left.
    @inlinable public var remaining: Int { bytes.count - cursor }
    /// Nothing is left.
    public var isAtEnd: Bool { remaining == 0 }

    /// Reads a fixed-width integer, little-endian.
    @inlinable @inline(__always)
    public mutating func read<Integer: FixedWidthInteger>(
        _ type: Integer.Type = Integer.self
    ) throws(WireError) -> Integer {
        let width = MemoryLayout<Integer>.size
        guard remaining >= width else { throw .truncated }
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: cursor, as: Integer.self) }
        cursor += width
        return Integer(littleEndian: value)
    }

    /// Reads an unsigned LEB128 number.
    public mutating func readVarint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte: UInt8 = try read()
            if shift == 63 && byte > 1 { throw .malformed("varint over 64 bits") }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
            if shift > 63 { throw .malformed("varint over 64 bits") }
        }
    }

    /// A varint that counts things of at least `minimumSize` bytes each, all of which must still follow.
    public mutating func readCount(
        of what: String, limit: Int, named name: Limit, minimumSize: Int = 1
    ) throws(WireError) -> Int {
        let value = try readVarint()
        guard value <= UInt64(limit) else { throw .overLimit(name, "\(what): \(value) of at most \(limit)") }
        let count = Int(value)
        guard minimumSize == 0 || count <= remaining / minimumSize else { throw .truncated }
        return count
    }

    /// The next `count` bytes, on the same storage.
    public mutating func readBytes(_ count: Int) throws(WireError) -> Bytes {
        guard count >= 0, count <= remaining else { throw .truncated }
        defer { position += count }
        return bytes.slice(from: position, count: count)
    }

    /// A varint length, then that many bytes.
    public mutating func readBlock(of what: String, limit: Int, named name: Limit) throws(WireError) -> Bytes {
        try readBytes(readCount(of: what, limit: limit, named: name))
    }

    /// A varint length, then UTF-8.
    public mutating func readText(of what: String, limit: Int, named name: Limit) throws(WireError) -> String {
        let block = try readBlock(of: what, limit: limit, named: name)
        guard let text = block.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
            throw .malformed("\(what): not UTF-8")
        }
        return text
    }

    /// Goes on at `place`, up to which the coder has read.
    mutating func advance(to place: Int) {
        precondition(place >= position && place <= bytes.count, "reader from \(position) to \(place)")
        position = place
    }

    /// Skips the padding that `ByteWriter.align` wrote.
    public mutating func align(to alignment: Int) throws(WireError) {
        let padding = (alignment - position % alignment) % alignment
        guard padding <= remaining else { throw .truncated }
        position += padding
    }

    /// Refuses bytes after the last value.
    public func finish() throws(WireError) {
        guard isAtEnd else { throw .malformed("\(remaining) bytes left over") }
    }
}
