// Flockwork · Apache-2.0 · see LICENSE

// What goes into an ONNX graph and comes out of it in general. A stage's rows do not take this road: `ONNXModel` hands
// their memory to the library as it is.

/// What an ONNX tensor's elements are. Raw values are those of the ONNX format.
public struct ONNXElement: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let float32 = ONNXElement(rawValue: 1)
    public static let uint8 = ONNXElement(rawValue: 2)
    public static let int8 = ONNXElement(rawValue: 3)
    public static let uint16 = ONNXElement(rawValue: 4)
    public static let int16 = ONNXElement(rawValue: 5)
    public static let int32 = ONNXElement(rawValue: 6)
    public static let int64 = ONNXElement(rawValue: 7)
    public static let text = ONNXElement(rawValue: 8)
    public static let bool = ONNXElement(rawValue: 9)
    public static let float16 = ONNXElement(rawValue: 10)
    public static let float64 = ONNXElement(rawValue: 11)
    public static let uint32 = ONNXElement(rawValue: 12)
    public static let uint64 = ONNXElement(rawValue: 13)
    public static let complex64 = ONNXElement(rawValue: 14)
    public static let complex128 = ONNXElement(rawValue: 15)
    public static let bfloat16 = ONNXElement(rawValue: 16)

    // From 0 on, in the order of the format; 17 to 20 are the floats of 8 bits, 21 to 23 numbers of 4, 25 and 26 of 2.
    private static let bits = [
        0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4, 4, 8, 2, 2,
    ]
    private static let names = [
        "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
        "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
    ]

    /// Bits of an element in a tensor's bytes, where small ones lie side by side; 0 for texts and unknown types.
    public var bits: Int { Self.bits.indices.contains(Int(rawValue)) ? Self.bits[Int(rawValue)] : 0 }

    public var description: String {
        Self.names.indices.contains(Int(rawValue)) ? Self.names[Int(rawValue)] : "type \(rawValue)"
    }

    /// Bytes of a tensor of this shape; nil for texts, unknown types and shapes that no memory holds.
    func bytes(of shape: [Int]) -> Int? {
        guard bits > 0, let count = Self.elements(of: shape) else { return nil }
        let (product, overflow) = count.multipliedReportingOverflow(by: bits)
        guard !overflow, product < Int.max - 7 else { return nil }
        return (product + 7) / 8
    }

    /// Elements of a tensor of this shape; nil for one that no memory holds, which a file can still declare.
    static func elements<Shape: Sequence<Int>>(of shape: Shape) -> Int? {
        var count = 1
        for dimension in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
            guard !overflow, dimension >= 0 else { return nil }
            count = product
        }
        return count
    }
}

/// A value of an ONNX graph.
public enum ONNXValue: Hashable, Sendable {
    /// Elements in native byte order, row-major; a scalar has an empty shape.
    case tensor(ONNXElement, shape: [Int], bytes: [UInt8])
    /// Texts, row-major.
    case texts([String], shape: [Int])
    /// A list of values of one type.
    indirect case sequence([ONNXValue])
    /// Keys and values, as two tensors of one dimension.
    indirect case map(keys: ONNXValue, values: ONNXValue)
    /// An optional value that is not there.
    case none

    /// A tensor of plain numbers. `elements` must be as many as the shape holds.
    public static func tensor<Number: BitwiseCopyable>(
        _ element: ONNXElement, _ elements: [Number], shape: [Int]
    ) -> ONNXValue {
        .tensor(element, shape: shape, bytes: elements.withUnsafeBytes { [UInt8]($0) })
    }

    /// The elements of a tensor of this type; nil if it is none, or if its bytes are no whole number of them.
    public func elements<Number: BitwiseCopyable>(as type: Number.Type, _ element: ONNXElement) -> [Number]? {
        guard case .tensor(element, _, let bytes) = self, bytes.count % MemoryLayout<Number>.stride == 0 else {
            return nil
        }
        return bytes.withUnsafeBytes { raw in
            (0..<raw.count / MemoryLayout<Number>.stride).map { index in
                raw.loadUnaligned(fromByteOffset: index * MemoryLayout<Number>.stride, as: type)
            }
        }
    }
}

/// An input or output of an ONNX graph.
public struct ONNXPort: Hashable, Sendable, CustomStringConvertible {
    /// What kind of value it takes or gives.
    public enum Kind: Int32, Sendable {
        case unknown = 0
        case tensor = 1
        case sequence = 2
        case map = 3
        case opaque = 4
        case sparseTensor = 5
        case optional = 6
    }

    public let name: String
    public let kind: Kind
    /// Of a tensor, what its elements are.
    public let element: ONNXElement?
    /// Of a tensor, its dimensions as declared; -1 where the model leaves them open.
    public let shape: [Int]

    public var description: String {
        guard let element else { return "\"\(name)\": \(kind)" }
        return "\"\(name)\": \(element) [\(shape.map { $0 < 0 ? "?" : "\($0)" }.joined(separator: ", "))]"
    }
}
