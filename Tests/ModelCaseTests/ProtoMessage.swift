// Flockwork · Apache-2.0 · see LICENSE

// As much of protobuf and of ONNX's messages as the case files need.

import FlockModels
import Foundation

/// The fields of a protobuf message, in order.
struct ProtoMessage {
    enum Field {
        case number(UInt64)
        case fixed32(UInt32)
        case fixed64(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    struct Malformed: Error {}

    private(set) var fields: [(id: Int, value: Field)] = []

    init(_ bytes: ArraySlice<UInt8>) throws {
        var rest = bytes
        while !rest.isEmpty {
            let key = try Self.varint(&rest)
            switch key & 7 {
            case 0: fields.append((Int(key >> 3), .number(try Self.varint(&rest))))
            case 1: fields.append((Int(key >> 3), .fixed64(try Self.fixed(&rest))))
            case 2:
                let count = Int(try Self.varint(&rest))
                guard count <= rest.count else { throw Malformed() }
                fields.append((Int(key >> 3), .bytes(rest.prefix(count))))
                rest = rest.dropFirst(count)
            case 5: fields.append((Int(key >> 3), .fixed32(try Self.fixed(&rest))))
            default: throw Malformed()
            }
        }
    }

    private static func varint(_ rest: inout ArraySlice<UInt8>) throws -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = rest.popFirst() {
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        throw Malformed()
    }

    private static func fixed<Number: FixedWidthInteger>(_ rest: inout ArraySlice<UInt8>) throws -> Number {
        var value: Number = 0
        for index in 0..<MemoryLayout<Number>.size {
            guard let byte = rest.popFirst() else { throw Malformed() }
            value |= Number(byte) << Number(8 * index)
        }
        return value
    }

    /// A repeated field of whole numbers, packed or not.
    func numbers(_ id: Int) throws -> [Int64] {
        try fields.filter { $0.id == id }.flatMap { field -> [Int64] in
            switch field.value {
            case .number(let value): return [Int64(bitPattern: value)]
            case .bytes(var rest):
                var values: [Int64] = []
                while !rest.isEmpty { values.append(Int64(bitPattern: try Self.varint(&rest))) }
                return values
            default: throw Malformed()
            }
        }
    }

    /// The bytes of a repeated field of numbers of fixed size, packed or not.
    func fixedBytes(_ id: Int) -> [UInt8] {
        fields.filter { $0.id == id }.flatMap { field -> [UInt8] in
            switch field.value {
            case .fixed32(let value): withUnsafeBytes(of: value.littleEndian) { Array($0) }
            case .fixed64(let value): withUnsafeBytes(of: value.littleEndian) { Array($0) }
            case .bytes(let bytes): Array(bytes)
            case .number: []
            }
        }
    }

    func texts(_ id: Int) -> [ArraySlice<UInt8>] {
        fields.compactMap { field in
            if field.id == id, case .bytes(let bytes) = field.value { bytes } else { nil }
        }
    }

    func messages(_ id: Int) throws -> [ProtoMessage] { try texts(id).map { try ProtoMessage($0) } }
}

extension ONNXValue {
    /// Reads a file of a case: which message it is depends on what the graph takes.
    init(file: String, kind: ONNXPort.Kind) throws {
        let message = try ProtoMessage(ArraySlice(Data(contentsOf: URL(filePath: file))))
        switch kind {
        case .sequence: self = try Self.sequence(message)
        case .map: self = try Self.map(message)
        case .optional: self = try Self.optional(message)
        default: self = try Self.tensor(message)
        }
    }

    private static func tensor(_ message: ProtoMessage) throws -> ONNXValue {
        let shape = try message.numbers(1).map { Int($0) }
        let element = ONNXElement(rawValue: Int32(try message.numbers(2).first ?? 0))
        if element == .text {
            return .texts(message.texts(6).map { String(decoding: $0, as: UTF8.self) }, shape: shape)
        }
        if let raw = message.texts(9).first, !raw.isEmpty {
            return .tensor(element, shape: shape, bytes: Array(raw))
        }
        let bytes: [UInt8]
        switch element {
        case .float32, .complex64: bytes = message.fixedBytes(4)
        case .float64, .complex128: bytes = message.fixedBytes(10)
        case .int64: bytes = try message.numbers(7).flatMap { Self.bytes(UInt64(bitPattern: $0), 8) }
        case .uint64, .uint32:
            bytes = try message.numbers(11).flatMap { Self.bytes(UInt64(bitPattern: $0), element.bits / 8) }
        default:
            // Of numbers of less than a byte, each entry holds the bytes in which several lie.
            let size = max(element.bits / 8, 1)
            bytes = try message.numbers(5).flatMap { Self.bytes(UInt64(bitPattern: $0), size) }
        }
        return .tensor(element, shape: shape, bytes: bytes)
    }

    private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    private static func sequence(_ message: ProtoMessage) throws -> ONNXValue {
        var values: [ONNXValue] = []
        for field in message.fields {
            guard case .bytes(let bytes) = field.value else { continue }
            switch field.id {
            case 3: values.append(try tensor(ProtoMessage(bytes)))
            case 5: values.append(try sequence(ProtoMessage(bytes)))
            case 6: values.append(try map(ProtoMessage(bytes)))
            case 7: values.append(try optional(ProtoMessage(bytes)))
            default: break
            }
        }
        return .sequence(values)
    }

    private static func map(_ message: ProtoMessage) throws -> ONNXValue {
        let texts = message.texts(4).map { String(decoding: $0, as: UTF8.self) }
        let numbers = try message.numbers(3)
        let keys: ONNXValue =
            texts.isEmpty ? .tensor(.int64, numbers, shape: [numbers.count]) : .texts(texts, shape: [texts.count])
        guard let values = try message.messages(5).first else { throw ProtoMessage.Malformed() }
        return .map(keys: keys, values: try sequence(values))
    }

    private static func optional(_ message: ProtoMessage) throws -> ONNXValue {
        if let value = try message.messages(3).first { return try tensor(value) }
        if let value = try message.messages(5).first { return try sequence(value) }
        if let value = try message.messages(6).first { return try map(value) }
        return .none
    }
}
