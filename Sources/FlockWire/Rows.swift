// Flockwork · Apache-2.0 · see LICENSE

// Arrays of numbers are the hot path of inference, so they have a batch type of their own: rows lie one after another
// in one buffer, and a batch is a view on it. Only plain numbers are allowed as elements: any bit pattern of theirs is
// a valid value, so rows may be read in place from bytes that a peer sent.

/// A number that rows may hold.
public protocol RowElement: BitwiseCopyable, Sendable, Codable {
    static var dataType: DataType { get }
}

/// What a tensor's or row's elements are. Raw values are part of the wire format.
public enum DataType: UInt8, Sendable, Codable, CaseIterable {
    case float32 = 1
    case float64 = 2
    case int32 = 3
    case int64 = 4
    case uint8 = 5

    /// Bytes of an element.
    public var size: Int {
        switch self {
        case .float32, .int32: 4
        case .float64, .int64: 8
        case .uint8: 1
        }
    }
}

extension Float: RowElement { public static var dataType: DataType { .float32 } }
extension Double: RowElement { public static var dataType: DataType { .float64 } }
extension Int32: RowElement { public static var dataType: DataType { .int32 } }
extension Int64: RowElement { public static var dataType: DataType { .int64 } }
extension UInt8: RowElement { public static var dataType: DataType { .uint8 } }

/// A batch of equally long rows: a view (owner, offset, count, width) on one buffer, row after row.
public struct Rows<Element: RowElement>: Sendable {
    /// The elements, native byte order (little-endian on every platform that Flockwork runs on).
    public let bytes: Bytes
    /// Rows.
    public let count: Int
    /// Elements of a row.
    public let width: Int

    /// Views `count × width` elements in `bytes`; copies them only if they are not aligned.
    ///
    /// `bytes.count` must be `count * width * MemoryLayout<Element>.stride`.
    public init(_ bytes: Bytes, count: Int, width: Int) {
        precondition(
            width > 0 && bytes.count == Tensor.size(Element.dataType, [count, width]),
            "\(bytes.count) bytes for \(count) rows of \(width) \(Element.self)")
        self.bytes =
            bytes.isAligned(to: MemoryLayout<Element>.alignment)
            ? bytes : bytes.withUnsafeBytes { Bytes(copying: $0) }
        self.count = count
        self.width = width
    }

    /// `count × width` elements, every one of which `fill` must write.
    public init<Failure: Error>(
        count: Int, width: Int, filledBy fill: (UnsafeMutableBufferPointer<Element>) throws(Failure) -> Void
    ) throws(Failure) {
        guard let size = Tensor.size(Element.dataType, [count, width]) else {
            preconditionFailure("\(count) rows of \(width) \(Element.self)")
        }
        let storage = ByteStorage(capacity: size)
        let elements = UnsafeMutableBufferPointer(
            start: storage.base.bindMemory(to: Element.self, capacity: count * width), count: count * width)
        try fill(elements)
        self.init(Bytes(storage: storage, start: 0, count: storage.capacity), count: count, width: width)
    }

    /// Copies rows that lie one after another in `elements`.
    public init(_ elements: [Element], width: Int) {
        precondition(
            width > 0 && elements.count % width == 0, "\(elements.count) elements are no rows of \(width)")
        self.init(count: elements.count / width, width: width) { target in
            _ = target.update(fromContentsOf: elements)
        }
    }

    /// All elements, row after row; valid during the call only.
    @inlinable @inline(__always)
    public func withElements<Result, Failure: Error>(
        _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try bytes.withUnsafeBytes { (raw) throws(Failure) -> Result in
            try body(raw.assumingMemoryBound(to: Element.self))
        }
    }

    /// A copy of one row.
    public subscript(row: Int) -> [Element] {
        precondition(row >= 0 && row < count, "row \(row) of \(count)")
        return withElements { Array($0[row * width..<(row + 1) * width]) }
    }

    /// The rows `first ..< first + count`, on the same buffer.
    public func slice(from first: Int, count: Int) -> Rows {
        let stride = width * MemoryLayout<Element>.stride
        return Rows(bytes.slice(from: first * stride, count: count * stride), count: count, width: width)
    }

    /// All elements.
    public var elements: [Element] { withElements { Array($0) } }
}

extension Rows: Equatable where Element: Equatable {
    public static func == (left: Rows, right: Rows) -> Bool {
        left.count == right.count && left.width == right.width && left.elements == right.elements
    }
}

/// One row of `Float`s, as a caller sees it. Batches of it travel as `Rows<Float>`.
public struct Row: Codable, Hashable, Sendable, ExpressibleByArrayLiteral {
    public var values: [Float]
    public init(_ values: [Float]) { self.values = values }
    public init(arrayLiteral elements: Float...) { values = elements }

    // A list of numbers, without a key.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(values)
    }

    public init(from decoder: any Decoder) throws {
        values = try decoder.singleValueContainer().decode([Float].self)
    }
}
