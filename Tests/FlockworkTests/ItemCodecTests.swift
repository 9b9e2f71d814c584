// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import Flockwork

@Suite("How items lie in a buffer")
struct ItemCodecTests {
    private func roundTrip<Item: Codable & Sendable & Equatable>(
        _ items: [Item], layout: ItemBuffer.Layout?, rowWidth: Int? = nil
    ) throws {
        let codec = ItemCodec<Item>(rowWidth: rowWidth)
        #expect(codec.layout == layout)
        let buffer = try codec.encode(Batch(items))
        #expect(buffer.count == items.count)
        if let layout, !items.isEmpty { #expect(buffer.layout == layout) }
        #expect(try codec.decode(buffer).items == items)
        for (index, item) in items.enumerated() {
            #expect(try codec.decodeItem(buffer, index) == item)
            // One item alone lies as it does in a batch.
            var writer = ByteWriter()
            try codec.encodeItem(item).write(to: &writer)
            #expect(writer.finish() == buffer[index])
        }
        // As values, if they are small.
        var small: [SmallItem] = []
        let isSmall = buffer.forEachSmall { _, item in small.append(item) }
        if case .fixed(let stride) = buffer.layout { #expect(isSmall == (stride <= 8)) } else { #expect(!isSmall) }
        let decoded = try small.map { try codec.decode($0) }
        if isSmall { #expect(decoded == items) }
        // Over the wire and back.
        var writer = ByteWriter()
        buffer.write(to: &writer)
        var reader = ByteReader(writer.finish())
        let again = try ItemBuffer(from: &reader, limits: Limits())
        #expect(try codec.decode(again).items == items)
    }

    @Test("numbers of a fixed size lie one after another")
    func numbers() throws {
        try roundTrip([1.5, -0.25, .infinity] as [Float], layout: .fixed(stride: 4))
        try roundTrip([1.5, -0.25, .greatestFiniteMagnitude] as [Double], layout: .fixed(stride: 8))
        try roundTrip([1, -2, .min] as [Int32], layout: .fixed(stride: 4))
        try roundTrip([1, -2, .max] as [Int64], layout: .fixed(stride: 8))
        try roundTrip([0, 255] as [UInt8], layout: .fixed(stride: 1))
    }

    @Test("other values are encoded each by itself")
    func coded() throws {
        try roundTrip([1, -2, .max] as [Int], layout: .variable)
        try roundTrip(["", "a", String(repeating: "ü", count: 1000)], layout: .variable)
        try roundTrip([Review(id: 1, text: "x"), Review(id: -1, text: "")], layout: .variable)
        try roundTrip([[1, 2], [], [3]] as [[Float]], layout: .variable)
        try roundTrip([nil, 3] as [Int?], layout: .variable)
    }

    @Test("plain records are their bytes, one after another")
    func records() throws {
        var random = SeededRandom(seed: 11)
        let points = (0..<100).map { _ in
            Point3(x: .random(in: -1...1, using: &random), y: .infinity, id: .random(in: .min ... .max, using: &random))
        }
        try roundTrip(points, layout: .fixed(stride: 16))
        try roundTrip([] as [Point3], layout: .fixed(stride: 16))
        let codec = ItemCodec<Point3>()
        // Any bytes of the right size are values; no others are taken.
        let noise = Bytes((0..<160).map { _ in UInt8.random(in: 0...255, using: &random) })
        #expect(try codec.decode(ItemBuffer(fixed: noise, stride: 16, count: 10)).items.count == 10)
        for stride in 1..<40 where stride != 16 {
            let other = ItemBuffer(fixed: noise.slice(from: 0, count: stride), stride: stride, count: 1)
            #expect(throws: FlockError.self) { try codec.decode(other) }
            #expect(throws: FlockError.self) { try codec.decodeItem(other, 0) }
        }
        #expect(throws: FlockError.self) { try codec.decode(ItemCodec<String>().encode(Batch(["a"]))) }
    }

    @Test("a type that is no plain record is refused in every use")
    func noRecord() throws {
        let codec = ItemCodec<Padded>()
        let item = Padded(a: 1, b: 2)
        let buffer = ItemBuffer(fixed: Bytes([UInt8](repeating: 1, count: 16)), stride: 16, count: 1)
        func check(_ use: () throws -> Void) {
            let error = #expect(throws: FlockError.self, performing: use)
            #expect(error?.message.contains("Padded is no plain record: it has 7 bytes of padding") == true)
        }
        check { _ = try codec.encodeItem(item) }
        check { _ = try codec.decodeItem(buffer, 0) }
        check { _ = try codec.encode(Batch([item])) }
        check { _ = try codec.decode(buffer) }
        check { try codec.check(buffer) }
    }

    @Test("pipelines whose records differ in their numbers have different fingerprints")
    func fingerprints() {
        struct One { struct Point: PlainRecord { var x: Float, y: Float } }
        func fingerprint<Item: PlainRecord>(_ type: Item.Type) -> UInt64 { Pipeline("p", of: type).fingerprint }
        #expect(fingerprint(One.Point.self) == fingerprint(One.Point.self))
        #expect(RecordLayout.name(of: One.Point.self).hasSuffix("(x:Float,y:Float)"))
        #expect(fingerprint(One.Point.self) != fingerprint(Point3.self))
    }

    @Test("rows lie in place, of a declared width or of any")
    func rows() throws {
        try roundTrip([[1, 2, 3], [4, 5, 6]] as [Row], layout: .fixed(stride: 12), rowWidth: 3)
        try roundTrip([[1, 2, 3, 4]] as [Row], layout: nil)
    }

    @Test("no items are no items")
    func empty() throws {
        try roundTrip([] as [Int], layout: .variable)
        try roundTrip([] as [String], layout: .variable)
        try roundTrip([] as [Float], layout: .fixed(stride: 4))
        let codec = ItemCodec<Row>(rowWidth: 3)
        #expect(try codec.encode(Batch([])).count == 0)
    }

    @Test("a buffer of another layout is refused with what the pipeline takes")
    func otherLayout() throws {
        let texts = try ItemCodec<String>().encode(Batch(["a"]))
        let floats = try ItemCodec<Float>().encode(Batch([1]))
        let triples = try ItemCodec<Row>().encode(Batch([[1, 2, 3]]))
        func refused<Item>(_ codec: ItemCodec<Item>, _ buffer: ItemBuffer) -> String? {
            #expect(throws: FlockError.self) { try codec.decode(buffer) }
            let error = #expect(throws: FlockError.self) { try codec.check(buffer) }
            #expect(error?.code == .invalidInput)
            return error?.message
        }
        #expect(refused(ItemCodec<Float>(), texts)?.contains("items of 4 bytes, not encoded values") == true)
        #expect(refused(ItemCodec<Double>(), floats)?.contains("items of 8 bytes, not items of 4 bytes") == true)
        #expect(refused(ItemCodec<String>(), floats)?.contains("encoded values, not items of 4 bytes") == true)
        #expect(refused(ItemCodec<Row>(rowWidth: 4), triples) != nil)
        #expect(refused(ItemCodec<Row>(), texts)?.contains("rows of floats") == true)
        let odd = ItemBuffer(fixed: Bytes([1, 2, 3]), stride: 3, count: 1)
        #expect(refused(ItemCodec<Row>(), odd) != nil)
    }

    @Test("a single result of another size is refused, not read past its end")
    func otherSize() throws {
        let floats = try ItemCodec<Float>().encode(Batch([1]))
        #expect(throws: FlockError.self) { try ItemCodec<Double>().decodeItem(floats, 0) }
        #expect(throws: (any Error).self) { try ItemCodec<Review>().decodeItem(floats, 0) }
        let error = #expect(throws: FlockError.self) { _ = try ItemCodec<Row>(rowWidth: 2).encodeItem([1, 2, 3]) }
        #expect(error?.code == .invalidInput)
    }

    @Test("an item over the limit of payload bytes is refused with tooLarge")
    func tooLarge() {
        var limits = Limits()
        limits.payloadBytes = 100
        let codec = ItemCodec<String>(limits: limits)
        let error = #expect(throws: FlockError.self) { _ = try codec.encodeItem(String(repeating: "x", count: 101)) }
        #expect(error?.code == .tooLarge)
        #expect(throws: Never.self) { _ = try codec.encodeItem(String(repeating: "x", count: 90)) }
    }
}

private struct Point3: PlainRecord, Equatable {
    var x: Float, y: Float
    var id: UInt64
}

private struct Padded: PlainRecord {
    var a: Double, b: UInt8
}
