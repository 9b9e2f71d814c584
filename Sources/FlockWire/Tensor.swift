// Flockwork · Apache-2.0 · see LICENSE

// A tensor carries its element type and shape beside one block of bytes. Like rows, it stays where it was read.

// Links the C library's mathematics, which `squareRoot` needs.
internal import Glibc

/// An array of numbers of any dimensions, row-major.
public struct Tensor: Sendable, Equatable {
    public let dataType: DataType
    /// Elements of each dimension; empty for a scalar.
    public let shape: [Int]
    /// The elements, little-endian, aligned to their size.
    public let bytes: Bytes

    /// Elements: the product of the shape.
    public var count: Int { bytes.count / dataType.size }

    /// A tensor on `bytes`, which are copied only if they are not aligned.
    ///
    /// Throws `invalidInput` if a dimension is negative, the shape is over `limits.tensorDimensions`, or `bytes.count`
    /// is not the product of the shape times the element's size.
    public init(_ dataType: DataType, shape: [Int], bytes: Bytes, limits: Limits = Limits()) throws(FlockError) {
        guard shape.count <= limits.tensorDimensions, Self.size(dataType, shape) == bytes.count else {
            throw FlockError(.invalidInput, "\(bytes.count) bytes are no \(dataType) tensor of shape \(shape)")
        }
        self.init(unchecked: dataType, shape: shape, bytes: bytes)
    }

    init(unchecked dataType: DataType, shape: [Int], bytes: Bytes) {
        self.dataType = dataType
        self.shape = shape
        self.bytes = bytes.isAligned(to: dataType.size) ? bytes : bytes.withUnsafeBytes { Bytes(copying: $0) }
    }

    /// Copies `elements`; their number must be the product of `shape`.
    public init<Element: RowElement>(_ elements: [Element], shape: [Int]) {
        precondition(
            Self.size(Element.dataType, shape) == elements.count * MemoryLayout<Element>.stride,
            "\(elements.count) elements are no tensor of shape \(shape)")
        self.init(unchecked: Element.dataType, shape: shape, bytes: elements.withUnsafeBytes { Bytes(copying: $0) })
    }

    /// The rows as a tensor of shape `[count, width]`, on the same memory.
    public init<Element>(_ rows: Rows<Element>) {
        self.init(unchecked: Element.dataType, shape: [rows.count, rows.width], bytes: rows.bytes)
    }

    /// Bytes of a tensor; nil if a dimension is negative or the product overflows.
    static func size(_ dataType: DataType, _ shape: [Int]) -> Int? {
        var size = dataType.size
        for dimension in shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
            guard dimension >= 0, !overflow else { return nil }
            size = product
        }
        return size
    }

    /// The elements, valid during the call only; nil (and no call) if they are of another type.
    public func withElements<Element: RowElement, Result, Failure: Error>(
        of type: Element.Type, _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        guard dataType == Element.dataType else { return nil }
        return try bytes.withUnsafeBytes { (raw) throws(Failure) -> Result in
            try body(raw.assumingMemoryBound(to: Element.self))
        }
    }

    /// A copy of the elements; nil if they are of another type.
    public func elements<Element: RowElement>(of type: Element.Type) -> [Element]? {
        withElements(of: type) { Array($0) }
    }

    /// The tensor as rows, on the same memory: the last dimension is the width, the others count the rows (a vector is
    /// one row). Nil for another element type, a scalar, or rows without elements.
    public func rows<Element: RowElement>(of type: Element.Type) -> Rows<Element>? {
        guard dataType == Element.dataType, let width = shape.last, width > 0 else { return nil }
        return Rows(bytes, count: count / width, width: width)
    }
}

extension Tensor {
    /// Feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009) of a text's
    /// words into a `Float` vector of `buckets` elements.
    ///
    /// Words are runs of letters and digits, lower-cased. The FNV-1a hash of a word's UTF-8 says its bucket (modulo
    /// `buckets`) and, by its top bit, whether 1 is added or subtracted there, so that collisions cancel out on
    /// average. The vector has length 1, unless it is all zero.
    public init(hashing text: String, into buckets: Int) {
        precondition(buckets > 0, "\(buckets) buckets")
        var vector = [Float](repeating: 0, count: buckets)
        for word in text.lowercased().split(whereSeparator: { !($0.isLetter || $0.isNumber) }) {
            let hash = FNV1a.hash(word.utf8)
            vector[Int(hash % UInt64(buckets))] += hash >> 63 == 0 ? 1 : -1
        }
        let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        if length > 0 { for index in vector.indices { vector[index] /= length } }
        self.init(vector, shape: [buckets])
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): a stable hash of names. Not for untrusted keys of a table.
public enum FNV1a {
    public static func hash<Text: Sequence>(_ utf8: Text) -> UInt64 where Text.Element == UInt8 {
        utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
