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

struct Deep: Codable, Equatable {
    var inner: [Deep]
    static func nested(_ levels: Int) -> Deep {
        (0..<levels).reduce(Deep(inner: [])) { inner, _ in Deep(inner: [inner]) }
    }
}

@Suite("WireCoder")
struct WireCoderTests {
    @Test("every kind of value comes back")
    func everything() throws {
        #expect(try coded(Everything()) == Everything())
        #expect(try coded([Everything(), Everything()]) == [Everything(), Everything()])
    }

    @Test("numbers at the edges of their types come back")
    func edges() throws {
        for value in [Int64.min, -1, 0, 1, 127, 128, 255, 256, .max] { #expect(try coded(value) == value) }
        for value in [UInt64.max, 0, 1 << 63] { #expect(try coded(value) == value) }
        #expect(try coded(Float.nan).isNaN)
        #expect(try coded(-0.0).sign == .minus)
        #expect(try coded([Int?]([nil, 3])) == [nil, 3])
        #expect(try coded(String?.none) == nil)
        #expect(throws: FlockError.self) { try decoded(Int8.self, encoded(200)) }
        #expect(throws: FlockError.self) { try decoded(UInt.self, encoded(-1)) }
    }

    @Test("the bytes are those of Docs/WIRE.md")
    func bytes() throws {
        struct Point: Codable { var x: Float, y: Float }
        let hash = WireFormat.hash("y")
        var expected: [UInt8] = [9, 0x16, 1, 0x78, 0, 0, 0x80, 0x3F]
        expected += (0..<4).map { UInt8(truncatingIfNeeded: (hash | 6) >> ($0 * 8)) } + [0, 0, 0, 0x40, 0]
        #expect(try encoded(Point(x: 1, y: 2)).array == expected)
        #expect(try encoded(300).array == [4, 0xAC, 2])
        #expect(try encoded(-1).array == [5, 0])
        #expect(try encoded("ab").array == [8, 2, 0x61, 0x62])
        #expect(try encoded([UInt8(1), 2]).array == [11, 5, 2, 1, 2])
        #expect(try encoded([true, false]).array == [10, 3, 2, 0])
    }

    @Test("fields are found in another order, and unknown ones are skipped")
    func evolution() throws {
        struct Old: Codable { var a = 1, b = "b", c = [[1, 2], [3]], d = 2.5 }
        struct New: Codable, Equatable { var d: Double, b: String, e: Int?, a: Int }
        #expect(try decoded(New.self, encoded(Old())) == New(d: 2.5, b: "b", e: nil, a: 1))
        let list = try decoded([New].self, encoded([Old(), Old()]))
        #expect(list.count == 2)
    }

    @Test("an error names the type, the field and no bytes")
    func errors() throws {
        struct Outer<T: Codable>: Codable { var name = "n", items: [T] }
        struct A: Codable { var x = 1, secret = "hunter2" }
        struct B: Codable { var x = 1, secret: Int }
        let bytes = try encoded(Outer(items: [A(), A()]))
        let error = #expect(throws: FlockError.self) { try decoded(Outer<B>.self, bytes) }
        #expect(error == FlockError(.invalidInput, ""))
        #expect(error?.message.contains("items[0].secret") == true)
        #expect(error?.message.contains("Outer<B>") == true)
        #expect(error?.message.contains("hunter2") == false)
        let missing = #expect(throws: FlockError.self) { try decoded(Everything.self, encoded(A())) }
        #expect(missing?.message.contains("no value for yes") == true)
    }

    @Test("deep nesting is refused on both sides")
    func depth() throws {
        #expect(try coded(Deep.nested(20)) == Deep.nested(20))
        let error = #expect(throws: FlockError.self) { try encoded(Deep.nested(100)) }
        #expect(error == FlockError(.tooLarge, ""))
        var wide = Limits()
        wide.codingDepth = 1000
        let bytes = try encoded(Deep.nested(100), limits: wide)
        #expect(throws: FlockError.self) { try decoded(Deep.self, bytes) }
        // Bytes that only open lists, read by a type that does not look at them.
        struct Blind: Codable { var x: Int? }
        let lists = Bytes([9, 0x1A, 1, 0x7A] + [UInt8](repeating: 10, count: 100_000))
        #expect(throws: FlockError.self) { try decoded(Blind.self, lists) }
        #expect(throws: FlockError.self) { try decoded([[[Int]]].self, Bytes([UInt8](repeating: 10, count: 100_000))) }
    }

    @Test("counts over the limit are refused on both sides")
    func counts() throws {
        var small = Limits()
        small.codingElements = 10
        small.frameBytes = 100
        #expect(throws: FlockError.self) { try encoded([Int?](repeating: nil, count: 11), limits: small) }
        let many = try encoded([Int?](repeating: nil, count: 11))
        #expect(throws: FlockError.self) { try decoded([Int?].self, many, limits: small) }
        #expect(throws: FlockError.self) { try encoded(String(repeating: "x", count: 101), limits: small) }
        #expect(throws: FlockError.self) { try encoded([UInt8](repeating: 1, count: 101), limits: small) }
        var writer = ByteWriter()
        writer.write(UInt8(7))
        #expect(throws: FlockError.self) {
            try WireCoder.encode([UInt8](repeating: 1, count: 101), into: &writer, limits: small)
        }
        #expect(writer.count == 1)
    }

    @Test("a length that is not there is refused before anything is allocated")
    func hugeLengths() throws {
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
        let heads: [[UInt8]] = [[8], [14], [11, 1], [11, 2], [12, 1, 1], [13, 1, 1], [12, 1, 2, 1], [13, 2]]
        for head in heads {
            let bytes = Bytes(head + huge + [0, 0])
            #expect(throws: FlockError.self) { try decoded(String.self, bytes) }
            #expect(throws: FlockError.self) { try decoded(Bytes.self, bytes) }
            #expect(throws: FlockError.self) { try decoded([Float].self, bytes) }
            #expect(throws: FlockError.self) { try decoded(Set<Double>.self, bytes) }
            #expect(throws: FlockError.self) { try decoded(Tensor.self, bytes) }
            #expect(throws: FlockError.self) { try decoded(Rows<Float>.self, bytes) }
        }
    }

    @Test("a reader that swallows errors ends on malformed bytes")
    func lossy() throws {
        struct Lossy: Decodable {
            var count = 0
            init(from decoder: any Decoder) throws {
                var list = try decoder.unkeyedContainer()
                while !list.isAtEnd {
                    do { _ = try list.decode(String.self) } catch { _ = try? list.decode(Skipped.self) }
                    count += 1
                }
            }
        }
        struct Skipped: Decodable { init(from decoder: any Decoder) {} }
        #expect(try decoded(Lossy.self, encoded([[true], [true]])).count == 2)
        #expect(throws: FlockError.self) { try decoded(Lossy.self, Bytes([10, 8, 200, 1, 0])) }
        #expect(throws: FlockError.self) { try decoded(Lossy.self, Bytes([10, 99, 0])) }
        #expect(throws: FlockError.self) { try decoded(Lossy.self, Bytes([10, 2, 2])) }
    }

    @Test("nested containers, super encoders and late use of a closed container")
    func nested() throws {
        struct Manual: Codable, Equatable {
            var a = 1, b = [1.5, 2], c = "c", sup = 9
            enum Keys: String, CodingKey { case n, list, c }
            init() {}
            init(from decoder: any Decoder) throws {
                let top = try decoder.container(keyedBy: Keys.self)
                let inner = try top.nestedContainer(keyedBy: Keys.self, forKey: .n)
                c = try top.decode(String.self, forKey: .c)
                var list = try inner.nestedUnkeyedContainer(forKey: .list)
                var deep = try list.nestedUnkeyedContainer()
                a = try list.decode(Int.self)
                b = [try deep.decode(Double.self), try deep.decode(Double.self)]
                sup = try Int(from: top.superDecoder())
            }
            func encode(to encoder: any Encoder) throws {
                var top = encoder.container(keyedBy: Keys.self)
                var inner = top.nestedContainer(keyedBy: Keys.self, forKey: .n)
                var list = inner.nestedUnkeyedContainer(forKey: .list)
                var deep = list.nestedUnkeyedContainer()
                for number in b { try deep.encode(number) }
                try list.encode(a)
                try sup.encode(to: top.superEncoder())
                _ = top.superEncoder(forKey: .list)
                try top.encode(c, forKey: .c)
            }
        }
        #expect(try coded([Manual(), Manual()]) == [Manual(), Manual()])
        struct Late: Encodable {
            enum Keys: String, CodingKey { case a, b }
            func encode(to encoder: any Encoder) throws {
                var top = encoder.container(keyedBy: Keys.self)
                var inner = top.nestedContainer(keyedBy: Keys.self, forKey: .a)
                try top.encode(1, forKey: .b)
                try inner.encode(1, forKey: .a)
            }
        }
        #expect(throws: FlockError.self) { try encoded(Late()) }
    }
}
