// Flockwork · Apache-2.0 · see LICENSE

// Bytes, numbers and texts as they are read: every access is checked against the end of the value's bytes.

extension DecodingState {
    // MARK: Bytes

    @inline(__always)
    func byte(_ place: Int) -> UInt8 { base.load(fromByteOffset: place, as: UInt8.self) }

    @inline(__always)
    func word(_ place: Int) -> UInt32 {
        UInt32(littleEndian: base.loadUnaligned(fromByteOffset: place, as: UInt32.self))
    }

    /// Memory that is known to lie within the bytes.
    @inline(__always)
    func slice(_ start: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + start, count: count)
    }

    @inline(__always)
    func after(_ place: Int, _ count: Int) throws -> Int {
        guard count <= end - place else { throw WireError.truncated }
        return place + count
    }

    @inline(__always)
    func load<Number: BitwiseCopyable>(_ place: Int, _ type: Number.Type) throws -> Number {
        lastEnd = try after(place, MemoryLayout<Number>.size)
        return base.loadUnaligned(fromByteOffset: place, as: Number.self)
    }

    @inline(__always)
    func varint(_ place: Int) throws -> (value: UInt64, end: Int) {
        if place < end, byte(place) < 0x80 { return (UInt64(byte(place)), place + 1) }
        return try longVarint(place)
    }

    private func longVarint(_ start: Int) throws -> (value: UInt64, end: Int) {
        var place = start
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while place < end {
            let byte = byte(place)
            place += 1
            if shift == 63, byte > 1 { throw WireError.malformed("varint over 64 bits") }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return (value, place) }
            shift += 7
        }
        throw WireError.truncated
    }

    /// A varint length of bytes that follow, and where they start.
    @inline(__always)
    func length(_ place: Int) throws -> (count: Int, start: Int) {
        let (value, start) = try varint(place)
        guard value <= UInt64(end - start) else { throw WireError.truncated }
        return (Int(value), start)
    }

    /// Element type and count of packed numbers, all of which follow from `start` on.
    func packedHeader(_ place: Int) throws -> (type: UInt8, count: Int, start: Int) {
        guard place < end else { throw WireError.truncated }
        let type = byte(place)
        guard let size = WireFormat.size(ofElementType: type) else { throw WireError.malformed("element type") }
        let (count, start) = try varint(place + 1)
        guard count <= UInt64((end - start) / size) else { throw WireError.truncated }
        return (type, Int(count), start)
    }

    // MARK: Numbers and texts

    @inline(never)
    func mismatch(_ type: Any.Type, _ value: WireValue) -> any Error {
        let text = "\(type) expected, \(WireFormat.name(of: value.kind)) found"
        return value.kind == WireFormat.null || value.kind == WireFormat.absent
            ? DecodingError.valueNotFound(type, .init(codingPath: [], debugDescription: text))
            : DecodingError.typeMismatch(type, .init(codingPath: [], debugDescription: text))
    }

    @inline(__always)
    func bool(_ value: WireValue) throws -> Bool {
        guard value.kind == WireFormat.yes || value.kind == WireFormat.no else { throw mismatch(Bool.self, value) }
        lastEnd = value.body
        return value.kind == WireFormat.yes
    }

    @inline(__always)
    func float(_ value: WireValue) throws -> Float {
        guard value.kind == WireFormat.float || value.kind == WireFormat.element | Float.elementType else {
            throw mismatch(Float.self, value)
        }
        return try load(value.body, Float.self)
    }

    @inline(__always)
    func double(_ value: WireValue) throws -> Double {
        if value.kind == WireFormat.double || value.kind == WireFormat.element | Double.elementType {
            return try load(value.body, Double.self)
        }
        guard value.kind == WireFormat.float || value.kind == WireFormat.element | Float.elementType else {
            throw mismatch(Double.self, value)
        }
        return Double(try load(value.body, Float.self))
    }

    func text(_ value: WireValue) throws -> String {
        guard value.kind == WireFormat.text else { throw mismatch(String.self, value) }
        let (count, start) = try length(value.body)
        guard let text = String(validating: slice(start, count), as: UTF8.self) else {
            throw WireError.malformed("text: not UTF-8")
        }
        lastEnd = start + count
        return text
    }

    @inline(__always)
    func integer<Integer: FixedWidthInteger>(_ value: WireValue) throws -> Integer {
        var result: Integer?
        switch value.kind {
        case WireFormat.unsigned, WireFormat.negative:
            let (magnitude, end) = try varint(value.body)
            lastEnd = end
            if value.kind == WireFormat.unsigned {
                result = Integer(exactly: magnitude)
            } else if magnitude <= UInt64(Int64.max) {
                result = Integer(exactly: ~Int64(magnitude))
            }
        case WireFormat.element...: result = try elementInteger(value)
        default: throw mismatch(Integer.self, value)
        }
        guard let result else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: [], debugDescription: "number does not fit \(Integer.self)"))
        }
        return result
    }

    private func elementInteger<Integer: FixedWidthInteger>(_ value: WireValue) throws -> Integer? {
        switch value.kind & ~WireFormat.element {
        case Int32.elementType: Integer(exactly: try load(value.body, Int32.self))
        case Int64.elementType: Integer(exactly: try load(value.body, Int64.self))
        case UInt8.elementType: Integer(exactly: try load(value.body, UInt8.self))
        case Int8.elementType: Integer(exactly: try load(value.body, Int8.self))
        case Int16.elementType: Integer(exactly: try load(value.body, Int16.self))
        case UInt16.elementType: Integer(exactly: try load(value.body, UInt16.self))
        case UInt32.elementType: Integer(exactly: try load(value.body, UInt32.self))
        case UInt64.elementType: Integer(exactly: try load(value.body, UInt64.self))
        default: throw mismatch(Integer.self, value)
        }
    }
}
