// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

/// Encodes and decodes with the wire coder.
func coded<T: Codable>(_ value: T, limits: Limits = Limits()) throws -> T {
    var reader = ByteReader(try encoded(value, limits: limits))
    let result = try WireCoder.decode(T.self, from: &reader, limits: limits)
    try reader.finish()
    return result
}

func encoded<T: Encodable>(_ value: T, limits: Limits = Limits()) throws -> Bytes {
    var writer = ByteWriter()
    try WireCoder.encode(value, into: &writer, limits: limits)
    return writer.finish()
}

func decoded<T: Decodable>(_ type: T.Type, _ bytes: Bytes, limits: Limits = Limits()) throws -> T {
    var reader = ByteReader(bytes)
    return try WireCoder.decode(type, from: &reader, limits: limits)
}

struct Everything: Codable, Equatable {
    var yes = true
    var text = "grüß dich, 🐦"
    var long = String(repeating: "x", count: 300)
    var double = -1.5
    var float = Float.pi
    var int = Int.min
    var i8 = Int8.min
    var i16 = Int16.max
    var i32 = Int32.min
    var i64 = Int64.max
    var uint = UInt.max
    var u8 = UInt8.max
    var u16 = UInt16.max
    var u32 = UInt32.max
    var u64 = UInt64.max
    var floats: [Float] = [1, -.infinity, 3]
    var doubles: [Double] = []
    var ints = [1, -2, .max]
    var bytes: [UInt8] = [0, 255]
    var shorts: [Int16] = [.min, 7]
    var words: [UInt] = [.max]
    var texts = ["", "a", "β"]
    var optionals: [Int?] = [nil, 1, nil]
    var table = ["one": 1, "two": 2]
    var numbered = [3: "c", -4: "d"]
    var pairs: [Float: [String]] = [1.5: ["x"]]
    var set: Set<UInt16> = [1, 2, 3]
    var none: Int?
    var noneText: String?
    var some: Float? = 4
    var inner = Inner(x: 1, y: nil)
    var noInner: Inner?
    var inners = [Inner(x: 1, y: 2), Inner(x: 3, y: nil)]
    var shapes: [Shape] = [.point, .circle(radius: 2), .box(3, 4), .named("n", inner: Inner(x: 9, y: 8))]
    var color = Color.green
    var row: Row = [1, 2, 3]
    var tensor = Tensor([Int32(1), 2, 3, 4, 5, 6], shape: [2, 3])
    var rows = Rows<Float>([1, 2, 3, 4], width: 2)
    var blob = Bytes([9, 8, 7])
    var last = "end"

    struct Inner: Codable, Equatable {
        var x: Int
        var y: Int?
    }
    enum Color: String, Codable { case red, green }
    enum Shape: Codable, Equatable {
        case point
        case circle(radius: Float)
        case box(Int, Int)
        case named(String, inner: Inner)
    }
}

@Suite("WireCoder")
struct WireCoderTests {
    @Test("every kind of value comes back")
    func everything() throws {
        #expect(try coded(Everything()) == Everything())
        #expect(try coded([Everything(), Everything()]).count == 2)
    }
}
