// Flockwork · Apache-2.0 · see LICENSE

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), table-driven, four bytes a step.
public enum CRC32C {
    /// Four tables of 256: the first is the plain one, each further one continues the one before by a zero byte.
    private static let tables: [UInt32] = {
        var tables: [UInt32] = []
        for byte in 0..<UInt32(256) {
            var crc = byte
            for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
            tables.append(crc)
        }
        for index in 256..<1024 {
            let before = tables[index - 256]
            tables.append((before >> 8) ^ tables[Int(before & 0xFF)])
        }
        return tables
    }()

    /// The checksum of `bytes`, continuing from `previous`.
    public static func checksum(of bytes: UnsafeRawBufferPointer, from previous: UInt32 = 0) -> UInt32 {
        tables.withUnsafeBufferPointer { tables in
            var crc = ~previous
            var at = 0
            while bytes.count - at >= 4 {
                crc ^= UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                let high = tables[768 + Int(crc & 0xFF)] ^ tables[512 + Int((crc >> 8) & 0xFF)]
                let low = tables[256 + Int((crc >> 16) & 0xFF)] ^ tables[Int(crc >> 24)]
                crc = high ^ low
                at += 4
            }
            while at < bytes.count {
                crc = (crc >> 8) ^ tables[Int(UInt8(truncatingIfNeeded: crc) ^ bytes[at])]
                at += 1
            }
            return ~crc
        }
    }
}
