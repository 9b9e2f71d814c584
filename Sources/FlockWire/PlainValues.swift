// Flockwork · Apache-2.0 · see LICENSE

// Arrays of numbers and strings do not go through `Codable` element by element: their types are compared here, and
// their memory is copied as a whole.

extension EncodingState {
    /// Encodes an array of numbers or a string behind the head at `head`; false if the value is neither.
    @inline(__always)
    func encodePlain<T: Encodable>(_ value: T, head: Int) throws -> Bool {
        if MemoryLayout<T>.size == MemoryLayout<[Float]>.size { return try encodeArray(value, head: head) }
        if T.self == String.self {
            try setKind(WireFormat.text, at: head, body: writer.count)
            try writeText(unsafeBitCast(value, to: String.self))
            return true
        }
        return false
    }

    private func encodeArray<T: Encodable>(_ value: T, head: Int) throws -> Bool {
        func packed<Number: PackedNumber>(_ type: [Number].Type) throws -> Bool {
            try encodePacked(unsafeBitCast(value, to: type), head: head)
            return true
        }
        if T.self == [Float].self { return try packed([Float].self) }
        if T.self == [Double].self { return try packed([Double].self) }
        if T.self == [Int].self { return try packed([Int].self) }
        if T.self == [UInt8].self { return try packed([UInt8].self) }
        if T.self == [Int32].self { return try packed([Int32].self) }
        if T.self == [Int64].self { return try packed([Int64].self) }
        if T.self == [UInt64].self { return try packed([UInt64].self) }
        if T.self == [UInt32].self { return try packed([UInt32].self) }
        if T.self == [UInt16].self { return try packed([UInt16].self) }
        if T.self == [Int16].self { return try packed([Int16].self) }
        if T.self == [Int8].self { return try packed([Int8].self) }
        if T.self == [UInt].self { return try packed([UInt].self) }
        return false
    }

    func encodePacked<Number: PackedNumber>(_ numbers: [Number], head: Int) throws {
        try setKind(WireFormat.packed, at: head, body: writer.count)
        writer.write(Number.elementType)
        writer.writeVarint(UInt64(numbers.count))
        numbers.withUnsafeBytes { writer.write($0) }
    }
}

extension DecodingState {
    /// Decodes packed numbers into an array of just that type; nil if `T` is another type.
    @inline(never)
    func decodeArray<T>(_ type: T.Type, _ value: WireValue) throws -> T? {
        func packed<Number: PackedNumber>(_ type: [Number].Type) throws -> T? {
            let (elementType, count, start) = try packedHeader(value.body)
            guard elementType == Number.elementType else { return nil }
            let numbers = [Number](unsafeUninitializedCapacity: count) { target, used in
                let size = count * MemoryLayout<Number>.stride
                if size > 0 { UnsafeMutableRawBufferPointer(target).copyMemory(from: slice(start, size)) }
                used = count
            }
            lastEnd = start + count * MemoryLayout<Number>.stride
            return unsafeBitCast(numbers, to: T.self)
        }
        if T.self == [Float].self { return try packed([Float].self) }
        if T.self == [Double].self { return try packed([Double].self) }
        if T.self == [Int].self { return try packed([Int].self) }
        if T.self == [UInt8].self { return try packed([UInt8].self) }
        if T.self == [Int32].self { return try packed([Int32].self) }
        if T.self == [Int64].self { return try packed([Int64].self) }
        if T.self == [UInt64].self { return try packed([UInt64].self) }
        if T.self == [UInt32].self { return try packed([UInt32].self) }
        if T.self == [UInt16].self { return try packed([UInt16].self) }
        if T.self == [Int16].self { return try packed([Int16].self) }
        if T.self == [Int8].self { return try packed([Int8].self) }
        if T.self == [UInt].self { return try packed([UInt].self) }
        return nil
    }
}
