// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

/// SplitMix64: the same bytes for the same seed, on every machine.
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// Something that was encoded, and how it is read.
struct Sample: Sendable {
    let name: String
    let bytes: Bytes
    /// Reads the bytes to their end; a trap is the failure that the tests look for.
    let read: @Sendable (Bytes) throws -> Void

    static func value<T: Codable & Sendable>(_ value: T) throws -> Sample {
        Sample(name: "\(T.self)", bytes: try encoded(value)) { bytes in
            var reader = ByteReader(bytes)
            _ = try WireCoder.decode(T.self, from: &reader, limits: Limits())
            try reader.finish()
        }
    }

    static func all() throws -> [Sample] {
        let limits = Limits()
        let texts = try ItemBuffer(count: 5) { index, writer in writer.writeText(String(repeating: "t", count: index)) }
        let rows = ItemBuffer(Rows<Float>([1, 2, 3, 4, 5, 6], width: 2))
        var mask = ItemMask(count: 3)
        mask[1] = true
        let error = FlockError(.overloaded, "full", stage: "s", node: "n", retryAfter: .milliseconds(5))
        let outcomes: [RunOutcome] = [
            .values(rows, filtered: nil), .values(rows, filtered: mask), .filtered, .failed(error),
        ]
        var samples = [
            try value(Everything()), try value(Tensor([Double(1), 2], shape: [2])),
            try value([Rows<Int32>([1], width: 1)]),
            try value(Deep.nested(8)), try value([1: ["a": [1.5]]]), try value(SequenceRun(first: 3, count: 4)),
        ]
        for buffer in [texts, rows, .empty] {
            var writer = ByteWriter()
            buffer.write(to: &writer)
            samples.append(
                Sample(name: "ItemBuffer \(buffer.layout)", bytes: writer.finish()) { bytes in
                    var reader = ByteReader(bytes)
                    let items = try ItemBuffer(from: &reader, limits: limits)
                    for index in 0..<items.count { _ = items[index].array }
                    _ = items.rows(of: Float.self, width: 2)
                    _ = ItemBuffer.joined([items, items]).payload
                    try reader.finish()
                })
        }
        for outcome in outcomes {
            var writer = ByteWriter()
            OutcomeRun(sequences: SequenceRun(first: 7, count: 3), outcome: outcome).write(to: &writer, limits: limits)
            samples.append(
                Sample(name: "OutcomeRun", bytes: writer.finish()) { bytes in
                    var reader = ByteReader(bytes)
                    let run = try OutcomeRun(from: &reader, limits: limits)
                    _ = run.outcome.slice(from: 0, count: run.sequences.count).byteCount
                    try reader.finish()
                })
        }
        var writer = ByteWriter()
        TraceContext(traceHigh: 1, traceLow: 2, spanID: 3, flags: 1)?.write(to: &writer)
        samples.append(
            Sample(name: "TraceContext", bytes: writer.finish()) { bytes in
                var reader = ByteReader(bytes)
                _ = try TraceContext(from: &reader)
                try reader.finish()
            })
        return samples
    }
}

@Suite("Hostile bytes")
struct HostileBytesTests {
    @Test("every sample is readable, and no truncation of it is")
    func truncation() throws {
        for sample in try Sample.all() {
            try sample.read(sample.bytes)
            for count in 0..<sample.bytes.count {
                #expect(throws: (any Error).self, "\(sample.name) cut to \(count)") {
                    try sample.read(Bytes(Array(sample.bytes.array[..<count])))
                }
            }
        }
    }

    @Test("mutated bytes give a value or an error, never a trap")
    func mutation() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("HostileBytesTests.mutation seed \(seed)")
        var random = SeededRandom(seed)
        let samples = try Sample.all()
        var refused = 0
        for round in 0..<20_000 {
            let sample = samples[round % samples.count]
            var bytes = sample.bytes.array
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<5, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes.insert(UInt8.random(in: 0...20, using: &random), at: at)
                case 3: bytes[at] = [0, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
                default: if bytes.count > 1 { bytes.remove(at: at) }
                }
            }
            do { try sample.read(Bytes(bytes)) } catch { refused += 1 }
        }
        #expect(refused > 5_000, "seed \(seed)")
    }

    @Test("random bytes give an error, never a trap")
    func noise() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("HostileBytesTests.noise seed \(seed)")
        var random = SeededRandom(seed)
        let samples = try Sample.all()
        for round in 0..<20_000 {
            var bytes = (0..<Int.random(in: 1..<60, using: &random)).map { _ in
                UInt8.random(in: 0...(round % 2 == 0 ? 31 : 255), using: &random)
            }
            // Half of them begin as a keyed container, so that more than the first byte is looked at.
            if round % 4 < 2 { bytes[0] = WireFormat.keyed }
            do { try samples[round % samples.count].read(Bytes(bytes)) } catch { continue }
        }
    }

    @Test("random values come back", arguments: [UInt64(1), 2, 3])
    func properties(seed: UInt64) throws {
        var random = SeededRandom(seed)
        func text() -> String {
            String((0..<Int.random(in: 0..<20, using: &random)).map { _ in "aé🐦z".randomElement() ?? "a" })
        }
        for _ in 0..<300 {
            var value = Everything()
            value.text = text()
            value.int = Int(truncatingIfNeeded: random.next() >> UInt64.random(in: 0..<64, using: &random))
            value.i64 = -Int64(random.next() >> UInt64.random(in: 1..<64, using: &random))
            value.float = Float.random(in: -1e9...1e9, using: &random)
            value.floats = (0..<Int.random(in: 0..<40, using: &random)).map { Float($0) }
            value.none = Bool.random(using: &random) ? Int(random.next() >> 40) : nil
            value.texts = (0..<Int.random(in: 0..<5, using: &random)).map { _ in text() }
            value.shapes = [.box(Int(random.next() >> 10), 0), .named(text(), inner: .init(x: 1, y: nil))]
            value.table = Dictionary(uniqueKeysWithValues: (0..<Int(random.next() % 6)).map { ("key\($0)", $0) })
            value.blob = Bytes((0..<Int(random.next() % 50)).map { UInt8($0) })
            #expect(try coded(value) == value, "seed \(seed)")
        }
    }
}
