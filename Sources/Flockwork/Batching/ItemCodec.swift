// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// How items of a type lie in an `ItemBuffer`. Rows and plain numbers are used in place or copied as one block; every
// other type goes through the wire coder, item by item. Chosen once, when a pipeline is composed.

struct ItemCodec<Item: Codable & Sendable>: Sendable {
    let limits: Limits
    /// Elements of a `Row`, where the pipeline declared it.
    let rowWidth: Int?

    init(limits: Limits = Limits(), rowWidth: Int? = nil) {
        self.limits = limits
        self.rowWidth = rowWidth
    }

    /// What a buffer of such items must look like; nil = rows of any width.
    var layout: ItemBuffer.Layout? {
        if Item.self == Row.self { return rowWidth.map { .fixed(stride: $0 * MemoryLayout<Float>.stride) } }
        if let number = Item.self as? any RowElement.Type { return .fixed(stride: number.dataType.size) }
        return .variable
    }

    /// Refuses a buffer that these items cannot lie in.
    func check(_ buffer: ItemBuffer) throws(FlockError) {
        if let layout {
            guard buffer.layout == layout else {
                throw FlockError(
                    .invalidInput, "The pipeline takes \(Self.text(layout)), not \(Self.text(buffer.layout)).")
            }
        } else if case .fixed(let stride) = buffer.layout, stride % MemoryLayout<Float>.stride == 0 {
        } else {
            throw FlockError(.invalidInput, "The pipeline takes rows of floats, not \(Self.text(buffer.layout)).")
        }
    }

    static func text(_ layout: ItemBuffer.Layout) -> String {
        switch layout {
        case .fixed(let stride): "items of \(stride) bytes"
        case .variable: "encoded values"
        }
    }

    func decode(_ buffer: ItemBuffer) throws -> Batch<Item> {
        try check(buffer)
        if Item.self == Row.self, case .fixed(let stride) = buffer.layout {
            let rows = Rows<Float>(buffer.payload, count: buffer.count, width: stride / MemoryLayout<Float>.stride)
            return Batch(storage: .rows(rows), origins: nil, position: 0)
        }
        if let number = Item.self as? any RowElement.Type, let items = Self.numbers(buffer, as: number) {
            return Batch(items)
        }
        return Batch(
            try (0..<buffer.count).map { index in
                var reader = ByteReader(buffer[index])
                return try WireCoder.decode(Item.self, from: &reader, limits: limits)
            })
    }

    private static func numbers<Number: RowElement>(_ buffer: ItemBuffer, as type: Number.Type) -> [Item]? {
        Rows<Number>(buffer.payload, count: buffer.count, width: 1).elements as? [Item]
    }

    func encode(_ batch: Batch<Item>) throws -> ItemBuffer {
        if case .rows(let rows) = batch.storage { return ItemBuffer(rows) }
        let items = batch.items
        // By type, not by cast alone: an empty array can be cast to an array of anything.
        if Item.self == Row.self, let rows = items as? [Row] { return ItemBuffer(try Batch(rows).rows()) }
        if let number = Item.self as? any RowElement.Type, let buffer = Self.buffer(items, of: number) { return buffer }
        return try ItemBuffer(count: items.count) { index, writer in
            try WireCoder.encode(items[index], into: &writer, limits: limits)
        }
    }

    private static func buffer<Number: RowElement>(_ items: [Item], of type: Number.Type) -> ItemBuffer? {
        (items as? [Number]).map { ItemBuffer(Rows($0, width: 1)) }
    }

    /// Appends one item as it lies in a buffer of `layout`.
    func encode(_ item: Item, into writer: inout ByteWriter) throws {
        if let row = item as? Row {
            if let rowWidth, row.values.count != rowWidth {
                throw FlockError(
                    .invalidInput, "The pipeline takes rows of \(rowWidth) floats, not of \(row.values.count).")
            }
            row.values.withUnsafeBytes { writer.write($0) }
        } else if let number = item as? any RowElement {
            withUnsafeBytes(of: number) { writer.write($0) }
        } else {
            try WireCoder.encode(item, into: &writer, limits: limits)
        }
    }

    /// One item out of a buffer of outcomes.
    func decodeItem(_ index: Int, of buffer: ItemBuffer) throws -> Item {
        let batch = try decode(buffer.slice(from: index, count: 1))
        guard let item = batch.items.first else { throw FlockError(.invalidInput, "An empty result.") }
        return item
    }
}
