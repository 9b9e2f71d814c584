// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

/// The reader that cuts a stream into frames.
///
/// Input: how the stream is cut into reads (a byte), flags (a byte), the stream. The checksum of a header lets hardly
/// any mutation through, so with flag 1 the fixed fields of each header are made right.
enum FrameTarget {
    private static let reads = [1, 3, 7, 16, 17, 64, 1000, 70_000]

    static func run(_ input: [UInt8]) {
        guard input.count >= 2 else { return }
        let read = reads[Int(input[0]) % reads.count]
        var stream = Array(input[2...])
        if input[1] & 1 != 0 { repair(&stream) }
        let limit = input[1] & 2 != 0 ? 64 << 10 : 4096
        var reader = FrameReader(bufferBytes: input[1] & 4 != 0 ? 256 << 10 : 256, bodyLimit: limit)
        // Kept for a while, as the layers above do: the reader must not write over a body that somebody holds.
        var kept: [(Bytes, [UInt8])] = []
        var place = 0
        while place < stream.count {
            let memory = reader.prepare()
            precondition(!memory.isEmpty, "no room for a read")
            let count = min(read, memory.count, stream.count - place)
            memory.copyBytes(from: stream[place..<place + count])
            place += count
            reader.commit(count)
            do {
                while let frame = try reader.next() {
                    precondition(frame.body.count <= limit, "a body over the limit")
                    frame.body.withUnsafeBytes { bytes in
                        precondition(bytes.isEmpty || Int(bitPattern: bytes.baseAddress) % 8 == 0, "misaligned body")
                    }
                    kept.append((frame.body, frame.body.array))
                    if kept.count > 4 { kept.removeFirst() }
                }
            } catch { break }
        }
        for (body, copy) in kept { precondition(body.array == copy, "a body was written over") }
    }

    private static func repair(_ stream: inout [UInt8]) {
        var place = 0
        while place + FrameHeader.size <= stream.count {
            stream[place + 6] = 0
            stream[place + 7] = 0
            stream[place + 10] = 0
            stream[place + 11] = 0
            let length = Int(stream[place + 8]) | Int(stream[place + 9]) << 8
            let type = FrameType(rawValue: stream[place + 3]) ?? .call
            stream[place..<place + FrameHeader.size].withUnsafeMutableBytes {
                FrameHeader(type: type, length: length).write(to: $0)
            }
            place += FrameHeader(type: type, length: length).frameSize
        }
    }

    static func frame(_ type: FrameType, _ body: [UInt8]) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: FrameHeader.size)
        header.withUnsafeMutableBytes { FrameHeader(type: type, length: body.count).write(to: $0) }
        return header + body + [UInt8](repeating: 0, count: FrameHeader.padding(after: body.count))
    }

    static func seeds() -> [[UInt8]] {
        let bodies = [0, 1, 8, 31, 300].map { [UInt8](repeating: 7, count: $0) }
        let all = bodies.flatMap { frame(.call, $0) + frame(.reply, $0) }
        return (0..<8).map { [UInt8($0), UInt8($0)] + all } + [[0, 1] + frame(.hello, [1, 2, 3])]
    }
}
