// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

@Suite("FrameReader")
struct FrameReaderTests {
    /// A frame of `length` bytes, each of them `fill`.
    static func frame(_ length: Int, fill: UInt8, type: FrameType = .call) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: FrameHeader.size)
        frame.withUnsafeMutableBytes { FrameHeader(type: type, flags: 5, length: length).write(to: $0) }
        return frame + [UInt8](repeating: fill, count: length)
            + [UInt8](repeating: 0, count: FrameHeader.padding(after: length))
    }

    /// Feeds all bytes in chunks and returns the frames; `chunk` says how much to offer next.
    static func read(
        _ bytes: [UInt8], into reader: inout FrameReader, chunk: (Int) -> Int
    ) throws -> [Frame] {
        var frames: [Frame] = []
        var at = 0
        while at < bytes.count {
            let target = reader.prepare()
            let count = min(chunk(target.count), target.count, bytes.count - at)
            bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[at..<at + count])) }
            reader.commit(count)
            at += count
            while let frame = try reader.next() { frames.append(frame) }
        }
        return frames
    }

    static func check(_ frames: [Frame], _ lengths: [Int]) {
        #expect(frames.map(\.body.count) == lengths)
        for (index, frame) in frames.enumerated() {
            #expect(frame.body.array.allSatisfy { $0 == UInt8(truncatingIfNeeded: index) })
            #expect(frame.body.isAligned(to: 8))
            #expect(frame.flags == 5 && frame.type == .call)
        }
    }

    @Test("frames come whole when fed byte by byte, also those larger than the buffer")
    func byteByByte() throws {
        let lengths = [0, 1, 7, 8, 9, 100, 1000, 3, 0, 250]
        let bytes = lengths.enumerated().flatMap { Self.frame($1, fill: UInt8($0)) }
        var reader = FrameReader(bufferBytes: 256, bodyLimit: 1000)
        Self.check(try Self.read(bytes, into: &reader) { _ in 1 }, lengths)
        #expect(!reader.isMidFrame)
    }

    @Test("frames come whole for any chunking", arguments: [UInt64(11), 12, 13, 14])
    func chunks(seed: UInt64) throws {
        var random = SeededRandom(seed)
        let lengths = (0..<200).map { _ in Int.random(in: 0..<Int.random(in: 1..<700, using: &random), using: &random) }
        let bytes = lengths.enumerated().flatMap { Self.frame($1, fill: UInt8(truncatingIfNeeded: $0)) }
        var reader = FrameReader(bufferBytes: 256, bodyLimit: 1000)
        let frames = try Self.read(bytes, into: &reader) { Int.random(in: 1...$0, using: &random) }
        Self.check(frames, lengths)
    }

    @Test("a truncated frame waits for more")
    func truncated() throws {
        let bytes = Self.frame(20, fill: 0)
        for count in 1..<bytes.count {
            var reader = FrameReader(bufferBytes: 256, bodyLimit: 100)
            #expect(try Self.read(Array(bytes[..<count]), into: &reader) { $0 }.isEmpty)
            #expect(reader.isMidFrame)
        }
    }

    @Test("the buffer is used again when nobody keeps a frame, and not otherwise")
    func reuse() throws {
        var reader = FrameReader(bufferBytes: 256, bodyLimit: 100)
        let start = reader.prepare().baseAddress
        _ = try Self.read(Self.frame(40, fill: 0), into: &reader) { $0 }
        #expect(reader.prepare().baseAddress == start)
        let kept = try Self.read(Self.frame(40, fill: 7), into: &reader) { $0 }
        #expect(reader.prepare().baseAddress != start)
        _ = try Self.read((0..<20).flatMap { _ in Self.frame(40, fill: 9) }, into: &reader) { $0 }
        #expect(kept[0].body.array == [UInt8](repeating: 7, count: 40))
    }

    @Test("frames that were not taken yet are kept while more is read")
    func notTaken() throws {
        let lengths = (0..<100).map { $0 * 7 % 200 }
        let bytes = lengths.enumerated().flatMap { Self.frame($1, fill: UInt8(truncatingIfNeeded: $0)) }
        var reader = FrameReader(bufferBytes: 256, bodyLimit: 1000)
        var frames: [Frame] = []
        var at = 0
        while at < bytes.count {
            let target = reader.prepare()
            try #require(!target.isEmpty)
            let count = min(target.count, bytes.count - at)
            bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[at..<at + count])) }
            reader.commit(count)
            at += count
            // One frame in a while, as a paused connection would take them.
            if at % 3 == 0, let frame = try reader.next() { frames.append(frame) }
        }
        while let frame = try reader.next() { frames.append(frame) }
        Self.check(frames, lengths)
    }

    @Test("a frame over the limit is refused from its header alone")
    func tooLong() throws {
        var reader = FrameReader(bufferBytes: 256, bodyLimit: 4096)
        #expect(throws: FrameError.tooLong(4097, limit: 4096)) {
            try Self.read(Array(Self.frame(4097, fill: 0)[..<16]), into: &reader) { $0 }
        }
    }

    @Test("any changed bit of a header is refused")
    func headers() throws {
        let header = Array(Self.frame(16, fill: 0)[..<16])
        for bit in 0..<128 {
            var changed = header
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FrameError.self) {
                try changed.withUnsafeBytes { (raw) throws(FrameError) in try FrameHeader(from: raw, limit: .max) }
            }
        }
        let good = try header.withUnsafeBytes { (raw) throws(FrameError) in try FrameHeader(from: raw, limit: 16) }
        #expect(good == FrameHeader(type: .call, flags: 5, length: 16))
    }

    @Test("the checksum is that of RFC 3720")
    func checksum() {
        func crc(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.checksum(of: $0) } }
        #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(crc([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(crc(Array(0..<32)) == 0x46DD_794E)
        #expect(crc(Array("123456789".utf8)) == 0xE306_9283)
    }
}
