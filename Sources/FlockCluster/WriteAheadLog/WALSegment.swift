// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// The head of a segment file. Positions count the bytes of records over all segments from the log's first day on, so
/// that a record names its place with one number.
public struct WALSegment: Sendable, Equatable {
    /// Bytes of the head.
    public static let headerBytes = 32
    static let magic: UInt64 = 0x4C41_574B_434F_4C46  // "FLOCKWAL", read as a little-endian number
    static let version: UInt32 = 2

    /// Whose log it is: drawn when the log was made. A replica on it is known by node and this number.
    public let log: UInt64
    /// Position of its first record.
    public let first: UInt64

    /// A segment of `log` that begins at `first`.
    public init(log: UInt64, first: UInt64) {
        self.log = log
        self.first = first
    }

    /// Appends magic (u64), version (u32), CRC32C of what follows (u32), log (u64), first position (u64).
    func write(to writer: inout ByteWriter) {
        let start = writer.count
        writer.write(Self.magic)
        writer.write(Self.version)
        writer.write(UInt32(0))
        writer.write(log)
        writer.write(first)
        let crc = writer.withWritten { CRC32C.checksum(of: UnsafeRawBufferPointer(rebasing: $0[(start + 16)...])) }
        writer.patch(crc, at: start + 12)
    }

    /// The head of a segment; nil if there is none, or it is damaged, or of another version.
    init?(_ bytes: Bytes) {
        do throws(WireError) {
            var reader = ByteReader(bytes)
            let magic: UInt64 = try reader.read()
            let version: UInt32 = try reader.read()
            let crc: UInt32 = try reader.read()
            let content = try reader.readBytes(16)
            guard magic == Self.magic, version == Self.version,
                content.withUnsafeBytes({ CRC32C.checksum(of: $0) }) == crc
            else { return nil }
            reader = ByteReader(content)
            self.init(log: try reader.read(), first: try reader.read())
        } catch {
            return nil
        }
    }

    /// Where in the file the record at `position` lies.
    func offset(of position: UInt64) -> Int { Self.headerBytes + Int(position - first) }
}
