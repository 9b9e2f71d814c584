// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

/// The decoder of `Codable` values. Input: which type (a byte), then its bytes.
enum ValueTarget {
    struct Everything: Codable, Equatable {
        struct Inner: Codable, Equatable {
            var x = 1
            var y: Int?
        }
        enum Shape: Codable, Equatable {
            case point
            case circle(radius: Double)
            case named(String, inner: Inner)
        }
        final class Box: Codable, Equatable {
            var below: Box?
            init(_ below: Box?) { self.below = below }
            static func == (left: Box, right: Box) -> Bool { left.below == right.below }
        }
        var yes = true
        var text = "grüß dich"
        var double = -1.5
        var i8 = Int8.min
        var int = Int.max
        var u64 = UInt64.max
        var floats: [Float] = [1, 2, 3]
        var ints = [1, -2]
        var texts = ["", "a"]
        var optionals: [Int?] = [nil, 1]
        var table = ["one": 1]
        var numbered = [3: "c"]
        var set: Set<UInt16> = [1, 2]
        var none: Int?
        var inners = [Inner(), Inner(x: 2, y: 3)]
        var shapes: [Shape] = [.point, .circle(radius: 1), .named("n", inner: Inner())]
        var row: Row = [1, 2]
        var blob = Bytes([1, 2, 3])
        var box = Box(Box(Box(nil)))
    }

    static let readers: [@Sendable (Bytes) throws -> Void] = [
        reader(of: Everything.self, same: ==), reader(of: [[Everything]].self, same: ==),
        reader(of: [String: [Float]].self, same: { $0.count == $1.count }),
        reader(of: Tensor.self, same: { $0.shape == $1.shape }),
        reader(of: [Tensor].self, same: { $0.count == $1.count }),
        reader(of: Rows<Float>.self, same: { $0.count == $1.count }),
        reader(of: [Rows<Int32>].self, same: { $0.count == $1.count }),
        reader(of: String.self, same: ==), reader(of: [UInt8].self, same: ==), reader(of: [Int?].self, same: ==),
        reader(of: Everything.Box.self, same: ==), reader(of: TraceContext.self, same: ==),
        reader(of: Double.self, same: { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) }),
    ]

    /// What was read can be written, and reads the same again.
    private static func reader<Value: Codable & SendableMetatype>(
        of type: Value.Type, same: @escaping @Sendable (Value, Value) -> Bool
    ) -> @Sendable (Bytes) throws -> Void {
        { bytes in
            var reader = ByteReader(bytes)
            let value = try WireCoder.decode(Value.self, from: &reader, limits: fuzzLimits)
            var writer = ByteWriter()
            try WireCoder.encode(value, into: &writer, limits: fuzzLimits)
            var again = ByteReader(writer.finish())
            let copy = try WireCoder.decode(Value.self, from: &again, limits: fuzzLimits)
            // NaN is not equal to itself.
            precondition(same(value, copy) || !same(value, value), "\(Value.self) changed on its way")
        }
    }

    static func run(_ input: [UInt8]) {
        guard let first = input.first else { return }
        do { try readers[Int(first) % readers.count](Bytes(Array(input[1...]))) } catch {
            // Its text is made too: it goes to the peer.
            precondition("\(error)".utf8.count < 100_000)
        }
    }

    static func seeds() throws -> [[UInt8]] {
        let values: [any Encodable] = [
            Everything(), [[Everything()]], ["a": [1 as Float, 2]], Tensor([Float(1), 2], shape: [2]),
            [Tensor([Int64(1)], shape: [1, 1])], Rows<Float>([1, 2, 3, 4], width: 2), [Rows<Int32>([1], width: 1)],
            "text", [1, 2, 3] as [UInt8], [1, nil] as [Int?], Everything.Box(Everything.Box(nil)),
            TraceContext(traceHigh: 1, traceLow: 2, spanID: 3, flags: 1), 1.5,
        ]
        return try values.enumerated().map { index, value in
            var writer = ByteWriter()
            try WireCoder.encode(value, into: &writer, limits: Limits())
            return [UInt8(index)] + writer.finish().array
        }
    }
}
