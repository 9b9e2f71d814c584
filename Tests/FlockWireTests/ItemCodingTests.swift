// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

/// Sixteen fields of one kind, as features are.
private struct Sixteen: Codable, Equatable {
    var a: Float, b: Float, c: Float, d: Float, e: Float, f: Float, g: Float, h: Float
    var i: Float, j: Float, k: Float, l: Float, m: Float, n: Float, o: Float, p: Float
}

/// Encodes itself as another value does, without a container of its own.
private struct Wrapped: Codable, Equatable {
    var inner: Inner
    init(inner: Inner) { self.inner = inner }
    init(from decoder: any Decoder) throws { inner = try decoder.singleValueContainer().decode(Inner.self) }
    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(inner)
    }
}

/// One key type or another, by its value.
private enum Either: Codable, Equatable {
    case one(Double, Int8), two(text: String), neither
}

private struct Named: Codable, Equatable {
    var first: Double
    var second: Bool?
    var third: [Inner]
    var fourth: [String: Int16]
    var long: Int

    enum CodingKeys: String, CodingKey {
        case first, second, third, fourth
        case long = """
            a name of more than one hundred and twenty-seven letters, longer than those that are kept, which is \
            therefore written in the ordinary way each time it is needed
            """
    }
}

private typealias Inner = Everything.Inner

@Suite("Runs of encoded values")
struct ItemCodingTests {
    private func check<T: Codable & Equatable>(_ values: [T], padded: Bool = false) throws {
        let run = try ItemBuffer(encoding: values, limits: Limits())
        #expect(run.count == values.count)
        for (index, value) in values.enumerated() where !padded { #expect(run[index] == (try encoded(value))) }
        #expect(try run.decode(T.self, limits: Limits()) == values)
        let part = run.slice(from: values.count / 3, count: values.count / 3)
        #expect(
            try part.decode(T.self, limits: Limits()) == Array(values.dropFirst(values.count / 3).prefix(part.count)))
    }

    @Test("a run has the bytes of its values one by one, and gives them back", arguments: [UInt64(1), 2, 3])
    func sameBytes(seed: UInt64) throws {
        var random = SeededRandom(seed)
        func float() -> Float { Float.random(in: -1e6...1e6, using: &random) }
        func inner() -> Inner {
            Inner(x: .random(in: -9...9, using: &random), y: Bool.random(using: &random) ? 1 : nil)
        }
        func text() -> String { String(repeating: "ü", count: .random(in: 0...200, using: &random)) }
        func many<T>(_ make: () -> T) -> [T] { (0..<Int.random(in: 0...40, using: &random)).map { _ in make() } }
        try check(
            many {
                Sixteen(
                    a: float(), b: float(), c: float(), d: float(), e: float(), f: float(), g: float(), h: float(),
                    i: float(), j: float(), k: float(), l: float(), m: float(), n: float(), o: float(), p: float())
            })
        try check(many(inner))
        try check(many { Wrapped(inner: inner()) })
        try check(many { Bool.random(using: &random) ? Either.one(Double(float()), -3) : .two(text: text()) })
        try check(many { Either.neither })
        try check(many(text))
        try check(many { many(float) })
        try check(many { many(inner) })
        try check(many { Bool.random(using: &random) ? inner() : nil })
        try check(
            many {
                Named(
                    first: Double(float()), second: Bool.random(using: &random) ? true : nil, third: many(inner),
                    fourth: [text(): 5],
                    long: 7)
            })
        // Tensors in it are padded by where they lie in the run.
        try check(many { Everything() }, padded: true)
    }

    @Test("an item that ends too early is an error wherever it ends, and its neighbour is not read")
    func truncation() throws {
        let values = (0..<3).map { Inner(x: $0, y: 7) }
        let whole = try ItemBuffer(encoding: values, limits: Limits())
        let length = whole[1].count
        for cut in 0..<length {
            let ends = [0, whole[0].count, whole[0].count + cut, whole.payload.count].map(UInt32.init)
            let table = ends.withUnsafeBytes { Bytes(copying: $0) }
            let run = ItemBuffer(variable: whole.payload, offsets: table, count: 3)
            let error = #expect(throws: FlockError.self, "cut at \(cut)") {
                try run.decode(Inner.self, limits: Limits())
            }
            #expect(error?.code == .invalidInput)
        }
    }

    @Test("a first field with a damaged head is malformed, however it is looked for")
    func damagedHead() throws {
        let bytes = try encoded(Inner(x: 1, y: 2)).array
        #expect(try decoded(Inner.self, Bytes(bytes)) == Inner(x: 1, y: 2))
        for bit in 4..<8 {
            var damaged = bytes
            damaged[1] ^= 1 << UInt8(bit)
            #expect(throws: FlockError.self, "bit \(bit)") { try decoded(Inner.self, Bytes(damaged)) }
        }
    }

    @Test("mutated runs give values or an error, never a trap")
    func mutation() throws {
        var random = SeededRandom(77)
        let whole = try ItemBuffer(encoding: (0..<4).map { _ in Everything() }, limits: Limits())
        var writer = ByteWriter()
        whole.write(to: &writer)
        let bytes = writer.finish().array
        var read = 0
        for _ in 0..<3000 {
            var mutated = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                mutated[Int.random(in: 0..<mutated.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            do {
                var reader = ByteReader(Bytes(mutated))
                let run = try ItemBuffer(from: &reader, limits: Limits())
                read += try run.decode(Everything.self, limits: Limits()).count
            } catch is FlockError {} catch is WireError {}
        }
        #expect(read > 0)
    }

    @Test("an error names the type and the place, and limits hold for each value by itself")
    func errors() throws {
        struct Bad: Encodable {
            var value: Int
            func encode(to encoder: any Encoder) throws {
                guard value < 2 else {
                    throw EncodingError.invalidValue(value, .init(codingPath: [], debugDescription: "two"))
                }
                try value.encode(to: encoder)
            }
        }
        let error = #expect(throws: FlockError.self) {
            try ItemBuffer(encoding: [0, 1, 2].map(Bad.init), limits: Limits())
        }
        #expect(error?.message.contains("Bad: two") == true)
        var limits = Limits()
        limits.codingElements = 3
        let texts = [["a", "b", "c"], ["d", "e", "f"]]
        let run = try ItemBuffer(encoding: texts, limits: limits)
        #expect(try run.decode([String].self, limits: limits) == texts)
        limits.codingElements = 2
        #expect(throws: FlockError.self) { try run.decode([String].self, limits: limits) }
        #expect(throws: FlockError.self) { try ItemBuffer(encoding: texts, limits: limits) }
        let rows = ItemBuffer(fixed: Bytes([1, 2, 3, 4]), stride: 4, count: 1)
        #expect(throws: FlockError.self) { try rows.decode(Int.self, limits: limits) }
    }

    @Test("what a container put aside points to stays, and nothing else does")
    func stays() throws {
        struct Keeper: Codable {
            nonisolated(unsafe) static weak var state: DecodingState?
            nonisolated(unsafe) static var seen: Set<ObjectIdentifier> = []
            nonisolated(unsafe) static var keeps = false
            nonisolated(unsafe) static var kept: KeyedDecodingContainer<CodingKeys>?
            var x: Int
            enum CodingKeys: CodingKey { case x }
            init(x: Int) { self.x = x }
            init(from decoder: any Decoder) throws {
                Self.state = (decoder as? WireDecoder)?.state
                if let state = Self.state { Self.seen.insert(ObjectIdentifier(state)) }
                let container = try decoder.container(keyedBy: CodingKeys.self)
                x = try container.decode(Int.self, forKey: .x)
                if Self.keeps { Self.kept = container }
            }
        }
        let list = try encoded([Keeper(x: 1), Keeper(x: 2)])
        let run = try ItemBuffer(encoding: [[Keeper(x: 1)]], limits: Limits())
        // One object serves a whole run.
        let many = try ItemBuffer(encoding: (0..<10).map(Keeper.init), limits: Limits())
        #expect(try many.decode(Keeper.self, limits: Limits()).count == 10)
        #expect(Keeper.seen.count == 1)
        for keeps in [false, true] {
            Keeper.keeps = keeps
            #expect(try decoded([Keeper].self, list).map(\.x) == [1, 2])
            #expect((Keeper.state != nil) == keeps)
            #expect(try run.decode([Keeper].self, limits: Limits()).map { $0.map(\.x) } == [[1]])
            #expect((Keeper.state != nil) == keeps)
        }
        #expect(Keeper.kept?.contains(.x) == false)
    }

    @Test("a container that a value put aside reaches into no other value")
    func putAside() throws {
        enum Keys: String, CodingKey { case number, more }
        final class Hoard {
            var writers: [KeyedEncodingContainer<Keys>] = []
            var readers: [KeyedDecodingContainer<Keys>] = []
            var refused = 0
        }
        struct Hoarder: Codable {
            nonisolated(unsafe) static var hoard = Hoard()
            var number: Int
            init(number: Int) { self.number = number }
            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: Keys.self)
                try container.encode(number, forKey: .number)
                for index in Self.hoard.writers.indices {
                    do { try Self.hoard.writers[index].encode(true, forKey: .more) } catch { Self.hoard.refused += 1 }
                }
                Self.hoard.writers.append(container)
            }
            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Keys.self)
                number = try container.decode(Int.self, forKey: .number)
                for reader in Self.hoard.readers where reader.contains(.number) {
                    throw FlockError(.invalidInput, "another value's field was found")
                }
                Self.hoard.readers.append(container)
            }
        }
        let values = (0..<5).map(Hoarder.init)
        let run = try ItemBuffer(encoding: values, limits: Limits())
        #expect(Hoarder.hoard.refused == 0 + 1 + 2 + 3 + 4)
        #expect(try run.decode(Hoarder.self, limits: Limits()).map(\.number) == [0, 1, 2, 3, 4])
        // And none is left that could be used after its memory was freed.
        for reader in Hoarder.hoard.readers { #expect(!reader.contains(.number)) }
    }
}
