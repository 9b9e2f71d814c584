// Flockwork · Apache-2.0 · see LICENSE

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
