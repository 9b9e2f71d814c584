// Flockwork · Apache-2.0 · see LICENSE

// A batch of encoded items, as it lies in a frame, in the partition's log and in front of a stage. Rows have a fixed
// stride and need no table; encoded values carry one 32-bit offset each. Slicing copies nothing.

/// Encoded items, one after another.
public struct ItemBuffer: Sendable {
    public enum Layout: Hashable, Sendable {
        /// Every item has `stride` bytes.
        case fixed(stride: Int)
        /// A table of 32-bit offsets says where each item ends.
        case variable
    }

    public let layout: Layout
    /// Items.
    public let count: Int
    /// For `.variable`: `count + 1` little-endian UInt32, relative to `data`; else empty.
    let offsets: Bytes
    /// For `.fixed`: exactly these items. For `.variable`: at least these items.
    let data: Bytes

    /// No items.
    public static let empty = ItemBuffer(fixed: .empty, stride: 1, count: 0)

    /// `count` items of `stride` bytes; `data.count` must be their product.
    public init(fixed data: Bytes, stride: Int, count: Int) {
        precondition(stride > 0 && data.count == stride * count, "\(data.count) bytes for \(count) items of \(stride)")
        layout = .fixed(stride: stride)
        self.count = count
        offsets = .empty
        self.data = data
    }

    init(variable data: Bytes, offsets: Bytes, count: Int) {
        layout = .variable
        self.count = count
        self.offsets = offsets
        self.data = data
    }

    /// A batch of rows, in place.
    public init<Element>(_ rows: Rows<Element>) {
        self.init(fixed: rows.bytes, stride: rows.width * MemoryLayout<Element>.stride, count: rows.count)
    }

    /// Encodes `count` items one by one; `encode` appends item `index` to the writer.
    ///
    /// Throws `overLimit` when the items exceed 4 GiB together, and what `encode` throws.
    public init(
        count: Int, sizeHint: Int = 64, encode: (_ index: Int, _ writer: inout ByteWriter) throws -> Void
    ) throws {
        var writer = ByteWriter(capacity: count * sizeHint)
        let table = ByteStorage(capacity: (count + 1) * 4)
        table.base.storeBytes(of: 0, as: UInt32.self)
        for index in 0..<count {
            try encode(index, &writer)
            guard let end = UInt32(exactly: writer.count) else {
                throw WireError.overLimit(.frameBytes, "batch over 4 GiB")
            }
            table.base.storeBytes(of: end.littleEndian, toByteOffset: (index + 1) * 4, as: UInt32.self)
        }
        self.init(
            variable: writer.finish(), offsets: Bytes(storage: table, start: 0, count: table.capacity), count: count)
    }

    @inline(__always)
    func offset(_ index: Int) -> Int {
        offsets.withUnsafeBytes {
            Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
        }
    }

    private var start: Int { layout == .variable ? offset(0) : 0 }
    private var end: Int { layout == .variable ? offset(count) : data.count }

    /// Bytes of the items themselves.
    public var byteCount: Int { end - start }

    /// The encoded items without their table.
    public var payload: Bytes { data.slice(from: start, count: byteCount) }

    /// Item `index`.
    public subscript(index: Int) -> Bytes {
        precondition(index >= 0 && index < count, "item \(index) of \(count)")
        switch layout {
        case .fixed(let stride): return data.slice(from: index * stride, count: stride)
        case .variable: return data.slice(from: offset(index), count: offset(index + 1) - offset(index))
        }
    }

    /// Items of at most eight bytes as values: calls `body` with each of them, in order. False if they are not such.
    public func forEachSmall(_ body: (_ index: Int, SmallItem) -> Void) -> Bool {
        guard case .fixed(let stride) = layout, stride <= 8 else { return false }
        data.withUnsafeBytes { raw in
            for index in 0..<count {
                var bits: UInt64 = 0
                withUnsafeMutableBytes(of: &bits) {
                    $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: raw[index * stride..<(index + 1) * stride]))
                }
                body(index, SmallItem(bits: bits, stride: UInt8(stride)))
            }
        }
        return true
    }

    /// The items `first ..< first + count`, on the same storage.
    public func slice(from first: Int, count: Int) -> ItemBuffer {
        precondition(
            first >= 0 && count >= 0 && first <= self.count - count, "items \(first)+\(count) of \(self.count)")
        if count == self.count { return self }
        switch layout {
        case .fixed(let stride):
            return ItemBuffer(
                fixed: data.slice(from: first * stride, count: count * stride), stride: stride, count: count)
        case .variable:
            return ItemBuffer(
                variable: data, offsets: offsets.slice(from: first * 4, count: (count + 1) * 4), count: count)
        }
    }

    /// The rows, in place; nil if the items are no rows of `width` such elements.
    public func rows<Element: RowElement>(of type: Element.Type, width: Int) -> Rows<Element>? {
        guard case .fixed(stride: width * MemoryLayout<Element>.stride) = layout else { return nil }
        return Rows(data, count: count, width: width)
    }

    /// The items in a storage of their own if they pin one more than four times their size.
    public func unpinned() -> ItemBuffer {
        switch layout {
        case .fixed(let stride): return ItemBuffer(fixed: data.unpinned(), stride: stride, count: count)
        case .variable:
            guard data.storage.capacity > 4 * (byteCount + 4 * count) else { return self }
            return Self.joined([self])
        }
    }

    /// The items of several buffers in one. All must have the same layout; a single one is returned as it is
    /// (unless its table has to be rebuilt).
    public static func joined(_ buffers: [ItemBuffer]) -> ItemBuffer {
        guard let first = buffers.first else { return .empty }
        let count = buffers.reduce(0) { $0 + $1.count }
        let size = buffers.reduce(0) { $0 + $1.byteCount }
        let storage = ByteStorage(capacity: size)
        let table = first.layout == .variable ? ByteStorage(capacity: (count + 1) * 4) : ByteStorage(capacity: 0)
        if first.layout == .variable { table.base.storeBytes(of: 0, as: UInt32.self) }
        var at = 0
        var item = 0
        for buffer in buffers {
            precondition(buffer.layout == first.layout, "\(buffer.layout) joined to \(first.layout)")
            buffer.payload.withUnsafeBytes { source in
                if let from = source.baseAddress { (storage.base + at).copyMemory(from: from, byteCount: source.count) }
            }
            if first.layout == .variable {
                let shift = at - buffer.start
                for index in 1..<buffer.count + 1 {
                    item += 1
                    table.base.storeBytes(
                        of: UInt32(buffer.offset(index) + shift).littleEndian, toByteOffset: item * 4, as: UInt32.self)
                }
            }
            at += buffer.byteCount
        }
        let data = Bytes(storage: storage, start: 0, count: size)
        switch first.layout {
        case .fixed(let stride): return ItemBuffer(fixed: data, stride: stride, count: count)
        case .variable:
            return ItemBuffer(
                variable: data, offsets: Bytes(storage: table, start: 0, count: table.capacity), count: count)
        }
    }
}

/// An item of at most eight bytes.
public struct SmallItem: Sendable {
    let bits: UInt64
    /// Bytes.
    public let stride: UInt8

    /// The first four bytes as a number.
    public var float: Float { Float(bitPattern: UInt32(truncatingIfNeeded: bits)) }

    /// A buffer that holds only this item.
    public var buffer: ItemBuffer {
        let bytes = withUnsafeBytes(of: bits) {
            Bytes(copying: UnsafeRawBufferPointer(rebasing: $0[..<Int(stride)]))
        }
        return ItemBuffer(fixed: bytes, stride: Int(stride), count: 1)
    }
}

extension ItemBuffer {
    /// Appends: count (u32), stride (u32, 0 = variable), byte count (u32), zero (u32), then the table, then the items,
    /// each aligned to 8 bytes from the writer's start.
    public func write(to writer: inout ByteWriter) {
        let stride = if case .fixed(let stride) = layout { UInt32(stride) } else { UInt32(0) }
        writer.align(to: 8)
        writer.write(UInt32(count))
        writer.write(stride)
        writer.write(UInt32(byteCount))
        writer.write(UInt32(0))
        if layout == .variable {
            let base = UInt32(start)
            for index in 0..<count + 1 { writer.write(UInt32(offset(index)) - base) }
            writer.align(to: 8)
        }
        writer.write(payload)
        writer.align(to: 8)
    }

    /// Reads what `write(to:)` wrote; the items stay in the reader's storage.
    public init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        try reader.align(to: 8)
        let count = Int(try reader.read(UInt32.self))
        let stride = Int(try reader.read(UInt32.self))
        let size = Int(try reader.read(UInt32.self))
        guard try reader.read(UInt32.self) == 0 else { throw .malformed("item buffer header") }
        guard count <= limits.itemsPerRun else {
            throw .overLimit(.itemsPerRun, "items of a run: \(count) of at most \(limits.itemsPerRun)")
        }
        if stride > 0 {
            let (product, overflow) = stride.multipliedReportingOverflow(by: count)
            guard stride <= limits.payloadBytes else { throw .overLimit(.payloadBytes, "an item of \(stride) bytes") }
            guard !overflow, size == product else { throw .malformed("item buffer size") }
            self.init(fixed: try reader.readBytes(size), stride: stride, count: count)
        } else {
            let table = try reader.readBytes((count + 1) * 4)
            try reader.align(to: 8)
            self.init(variable: try reader.readBytes(size), offsets: table, count: count)
            guard offset(0) == 0, offset(count) == size else { throw .malformed("item offsets") }
            for index in 0..<count {
                let length = offset(index + 1) - offset(index)
                guard length >= 0 else { throw .malformed("item offsets") }
                guard length <= limits.payloadBytes else {
                    throw .overLimit(.payloadBytes, "an item of \(length) bytes")
                }
            }
        }
        try reader.align(to: 8)
    }

    /// A bound on what `write(to:)` appends.
    public var encodedSize: Int { byteCount + (layout == .variable ? (count + 1) * 4 : 0) + 40 }
}
