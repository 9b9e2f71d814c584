// Flockwork · Apache-2.0 · see LICENSE

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), table-driven.
public enum CRC32C {
    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }

    /// The checksum of `bytes`, continuing from `previous`.
    public static func checksum(of bytes: UnsafeRawBufferPointer, from previous: UInt32 = 0) -> UInt32 {
        table.withUnsafeBufferPointer { table in
            var crc = ~previous
            for byte in bytes { crc = crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
            return ~crc
        }
    }
}
