// Flockwork · Apache-2.0 · see LICENSE

/// Collects items that come one at a time into a buffer.
public struct ItemBuilder: ~Copyable {
    public let layout: ItemBuffer.Layout
    /// Items appended since the last `take`.
    public private(set) var count = 0
    private var data: ByteWriter
    private var offsets: ByteWriter

    public init(layout: ItemBuffer.Layout) {
        self.layout = layout
        data = ByteWriter()
        offsets = ByteWriter(capacity: 16)
    }

    /// Bytes appended since the last `take`.
    public var byteCount: Int { data.count }

    /// Appends what `encode` writes as one item; nothing if it throws.
    public mutating func append(_ encode: (inout ByteWriter) throws -> Void) throws {
        let start = data.count
        do {
            try encode(&data)
        } catch {
            data.truncate(to: start)
            throw error
        }
        switch layout {
        case .fixed(let stride):
            guard data.count - start == stride else {
                let size = data.count - start
                data.truncate(to: start)
                throw FlockError(.invalidInput, "An item of \(size) bytes where all have \(stride).")
            }
        case .variable:
            guard let end = UInt32(exactly: data.count) else {
                data.truncate(to: start)
                throw FlockError(.tooLarge, "A batch over 4 GiB.", limit: .frameBytes)
            }
            if count == 0 { offsets.write(UInt32(0)) }
            offsets.write(end)
        }
        count += 1
    }

    /// Appends one item that is encoded already.
    public mutating func append(_ item: UnsafeRawBufferPointer) throws {
        if case .fixed(let stride) = layout, item.count == stride {
            data.write(item)
            count += 1
        } else {
            try append { (writer: inout ByteWriter) in writer.write(item) }
        }
    }

    /// Appends a copy of items of the same layout.
    public mutating func append(_ items: ItemBuffer) {
        precondition(items.layout == layout, "\(items.layout) appended to \(layout)")
        if layout == .variable {
            if count == 0 { offsets.write(UInt32(0)) }
            for index in 0..<items.count {
                data.write(items[index])
                precondition(data.count <= Int(UInt32.max), "a batch over 4 GiB")
                offsets.write(UInt32(data.count))
            }
        } else {
            data.write(items.payload)
        }
        count += items.count
    }

    /// The items since the last call.
    public mutating func take() -> ItemBuffer {
        guard count > 0 else { return .empty }
        let capacity = min(data.count, 1 << 16)
        defer { count = 0 }
        switch layout {
        case .fixed(let stride): return ItemBuffer(fixed: data.take(next: capacity), stride: stride, count: count)
        case .variable:
            return ItemBuffer(variable: data.take(next: capacity), offsets: offsets.take(), count: count)
        }
    }
}
