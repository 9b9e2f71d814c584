// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// How items of a type lie in an `ItemBuffer`. Rows are used in place, plain numbers and plain records are copied as one
// block; every other type goes through the wire coder. What a type is, is found out once, when a pipeline is composed.

struct ItemCodec<Item: Codable & Sendable>: Sendable {
    private enum Kind: Sendable {
        /// `Row`, of that many floats where the pipeline declared it.
        case row(width: Int?)
        case number(any RowElement.Type)
        case record(any PlainRecord.Type)
        case coded
        /// The type is no plain record, though it says so.
        case refused(FlockError)
    }

    let limits: Limits
    private let kind: Kind
    /// One item as it lies in a buffer of this layout.
    let encodeItem: @Sendable (Item) throws -> EncodedItem
    /// Item `index` of a buffer. For `Row`s of any width, the buffer's stride says the width.
    let decodeItem: @Sendable (_ buffer: ItemBuffer, _ index: Int) throws -> Item

    init(limits: Limits = Limits(), rowWidth: Int? = nil) {
        self.limits = limits
        if Item.self == Row.self {
            kind = .row(width: rowWidth)
            encodeItem = { try RowCoding.encode(unsafeBitCast($0, to: Row.self), width: rowWidth) }
            decodeItem = { unsafeBitCast(try RowCoding.decode($0, $1, width: rowWidth), to: Item.self) }
        } else if let number = Item.self as? any RowElement.Type {
            kind = .number(number)
            (encodeItem, decodeItem) = Self.coding(of: number)
        } else if let record = Item.self as? any PlainRecord.Type {
            do {
                _ = try RecordLayout(of: record)
                kind = .record(record)
                (encodeItem, decodeItem) = Self.coding(of: record)
            } catch {
                kind = .refused(error)
                encodeItem = { _ in throw error }
                decodeItem = { _, _ in throw error }
            }
        } else {
            kind = .coded
            encodeItem = { item in
                var writer = ByteWriter()
                try WireCoder.encode(item, into: &writer, limits: limits)
                guard writer.count <= limits.payloadBytes else {
                    throw FlockError(
                        .tooLarge, "A request of \(writer.count) bytes; at most \(limits.payloadBytes) are allowed.",
                        limit: .payloadBytes)
                }
                return .bytes(writer.finish())
            }
            decodeItem = { buffer, index in
                var reader = ByteReader(buffer[index])
                return try WireCoder.decode(Item.self, from: &reader, limits: limits)
            }
        }
    }

    /// For numbers and records. `Item` is `Plain`: the casts only tell the compiler so.
    private static func coding<Plain: BitwiseCopyable & Sendable>(
        of type: Plain.Type
    ) -> (@Sendable (Item) throws -> EncodedItem, @Sendable (ItemBuffer, Int) throws -> Item) {
        (
            { item in .bytes(withUnsafeBytes(of: item) { Bytes(copying: $0) }) },
            { buffer, index in
                guard case .fixed(stride: MemoryLayout<Plain>.size) = buffer.layout else {
                    throw FlockError(.invalidInput, "A result of another type than \(Plain.self).")
                }
                let item = buffer[index].withUnsafeBytes { $0.loadUnaligned(as: Plain.self) }
                return unsafeBitCast(item, to: Item.self)
            }
        )
    }

    /// What a buffer of such items must look like; nil = rows of any width.
    var layout: ItemBuffer.Layout? {
        switch kind {
        case .row(let width): width.map { .fixed(stride: $0 * MemoryLayout<Float>.stride) }
        case .number, .record: .fixed(stride: MemoryLayout<Item>.stride)
        case .coded, .refused: .variable
        }
    }

    /// Refuses a buffer that these items cannot lie in.
    func check(_ buffer: ItemBuffer) throws(FlockError) {
        if case .refused(let error) = kind { throw error }
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

    private static func text(_ layout: ItemBuffer.Layout) -> String {
        switch layout {
        case .fixed(let stride): "items of \(stride) bytes"
        case .variable: "encoded values"
        }
    }

    /// An item of at most eight bytes.
    func decode(_ item: SmallItem) throws -> Item {
        // What models mostly give, without generic code: that looks types up, once for every answer.
        if Item.self == Float.self, item.stride == 4 { return unsafeBitCast(item.float, to: Item.self) }
        return try decodeItem(item.buffer, 0)
    }

    // MARK: Batches

    func decode(_ buffer: ItemBuffer) throws -> Batch<Item> {
        try check(buffer)
        switch (kind, buffer.layout) {
        case (.row, .fixed(let stride)):
            let rows = Rows<Float>(buffer.payload, count: buffer.count, width: stride / MemoryLayout<Float>.stride)
            return Batch(storage: .rows(rows), origins: nil, position: 0)
        case (.number(let number), _):
            return Batch(Self.numbers(buffer, as: number))
        case (.record(let record), _):
            return Batch(Self.records(buffer, as: record))
        case (.coded, .variable):
            return Batch(try buffer.decode(Item.self, limits: limits))
        default:
            return Batch(try (0..<buffer.count).map { try decodeItem(buffer, $0) })
        }
    }

    private static func numbers<Number: RowElement>(_ buffer: ItemBuffer, as type: Number.Type) -> [Item] {
        let elements = Rows<Number>(buffer.payload, count: buffer.count, width: 1).elements
        return cast(elements, of: Number.self, to: Item.self)
    }

    /// `buffer` was checked: its stride is the record's size.
    private static func records<Record: PlainRecord>(_ buffer: ItemBuffer, as type: Record.Type) -> [Item] {
        let records = [Record](unsafeUninitializedCapacity: buffer.count) { target, count in
            buffer.payload.withUnsafeBytes { UnsafeMutableRawBufferPointer(target).copyMemory(from: $0) }
            count = buffer.count
        }
        return cast(records, of: Record.self, to: Item.self)
    }

    func encode(_ batch: Batch<Item>) throws -> ItemBuffer {
        if case .rows(let rows) = batch.storage { return ItemBuffer(rows) }
        let items = batch.items
        switch kind {
        case .row:
            guard let rows = items as? [Row] else { preconditionFailure("rows of \(Item.self)") }
            return ItemBuffer(try Batch(rows).rows())
        case .number(let number): return Self.buffer(items, of: number)
        case .record:
            // The type was found to be no more than its bytes.
            return ItemBuffer(
                fixed: items.withUnsafeBytes { Bytes(copying: $0) }, stride: MemoryLayout<Item>.stride,
                count: items.count)
        case .coded: return try ItemBuffer(encoding: items, limits: limits)
        case .refused(let error): throw error
        }
    }

    private static func buffer<Number: RowElement>(_ items: [Item], of type: Number.Type) -> ItemBuffer {
        ItemBuffer(Rows(cast(items, of: Item.self, to: Number.self), width: 1))
    }

    /// Both are the same type, which the compiler does not know. (`as?` would cast one element after another.)
    private static func cast<From, To>(_ items: [From], of: From.Type, to: To.Type) -> [To] {
        precondition(From.self == To.self, "\(From.self) for \(To.self)")
        return unsafeBitCast(items, to: [To].self)
    }
}

extension ItemCodec where Item == Row {
    /// One row's values.
    func encode(_ row: [Float]) throws -> EncodedItem {
        guard case .row(let width?) = kind, row.count == width else { return try encodeItem(Row(row)) }
        return .row(row)
    }
}

/// One item, encoded before any lock is taken: the copy into the session's buffer is all that happens inside.
enum EncodedItem: Sendable {
    case row([Float])
    case bytes(Bytes)

    func write(to writer: inout ByteWriter) {
        switch self {
        case .row(let values): values.withUnsafeBytes { writer.write($0) }
        case .bytes(let bytes): writer.write(bytes)
        }
    }
}

/// Rows one by one.
private enum RowCoding {
    static func encode(_ row: Row, width: Int?) throws -> EncodedItem {
        if let width, row.values.count != width {
            throw FlockError(
                .invalidInput, "The pipeline takes rows of \(width) floats, not of \(row.values.count).")
        }
        return .row(row.values)
    }

    static func decode(_ buffer: ItemBuffer, _ index: Int, width: Int?) throws -> Row {
        let bytes = buffer[index]
        let count = bytes.count / MemoryLayout<Float>.stride
        guard case .fixed = buffer.layout, bytes.count % MemoryLayout<Float>.stride == 0, count > 0,
            count == width ?? count
        else { throw FlockError(.invalidInput, "A result that is no row of floats.") }
        return Row(Rows<Float>(bytes, count: 1, width: count).elements)
    }
}
