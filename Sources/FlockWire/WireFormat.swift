// Flockwork · Apache-2.0 · see LICENSE

// The format of `WireCoder`. A value is a head and a body. The low four bits of the head's first byte are the kind:
//
//   0 end of a container     1 nil            2 false          3 true
//   4 varint v (LEB128)      5 varint v, the value is -1 - v   6 Float, 4 bytes    7 Double, 8 bytes
//   8 text: varint length, UTF-8              9 keyed: fields, then the byte 0
//  10 list: elements, then the byte 0        11 packed numbers: element type, varint count, the elements
//  12 tensor                 13 rows         14 bytes: varint length, the bytes
//  15 absent: no body; a key that was left out (an optional without a value), so that its reader need not search
//
// Element types: 1 Float, 2 Double, 3 Int32, 4 Int64 and Int, 5 UInt8, 6 Int8, 7 Int16, 8 UInt16, 9 UInt32,
// 10 UInt64 and UInt. All numbers are little-endian.
//
// Head of a list element, of a single value and of the whole value: the kind, one byte. Head of a field:
//
//   named    kind | 0x10 (one byte), then the key as text
//   hashed   u32: kind | hash << 5, the hash being 27 bits of the key's UTF-8 (`WireFormat.hash`)
//
// The first field of a container is named, and so is every field whose key type is not a plain enum (the keys of a
// dictionary): those are what a reader asks `allKeys` for. Other fields are hashed: 4 bytes for any name. Fields are
// found by key, in any order; those that nobody asks for are skipped; the order in which they were written is the
// fast one. Two keys of one type have the same hash with a chance of 1 in 134 million, and are confused only where one
// of them was not written.
//
// Tensors and rows: element type, then varint dimensions and shape, or varint count and width; then one byte n < 16
// and n zero bytes, so that the elements that follow start at a multiple of 16 from the start of the writer. They stay
// where they were read; only if they lie at an unaligned address are they copied.
//
// The same value gives the same bytes (a dictionary or set: in its own order). Every length is checked against what is
// left before anything is allocated; depth and elements are bounded by `Limits`.

/// The kinds, element types and key hash of the coder's format.
enum WireFormat {
    static let end: UInt8 = 0
    static let null: UInt8 = 1
    static let no: UInt8 = 2
    static let yes: UInt8 = 3
    static let unsigned: UInt8 = 4
    static let negative: UInt8 = 5
    static let float: UInt8 = 6
    static let double: UInt8 = 7
    static let text: UInt8 = 8
    static let keyed: UInt8 = 9
    static let list: UInt8 = 10
    static let packed: UInt8 = 11
    static let tensor: UInt8 = 12
    static let rows: UInt8 = 13
    static let bytes: UInt8 = 14
    static let absent: UInt8 = 15

    static let kindMask: UInt8 = 0x0F
    static let named: UInt8 = 0x10
    /// Added to an element type, it is the kind of an element of packed numbers (never on the wire).
    static let element: UInt8 = 0x20

    /// What kinds are called in errors.
    static func name(of kind: UInt8) -> String {
        let names = [
            "end", "nil", "false", "true", "integer", "integer", "Float", "Double", "text", "keyed container", "list",
            "numbers", "tensor", "rows", "bytes", "absent",
        ]
        return kind < 16 ? names[Int(kind)] : "number"
    }

    /// 27 bits, shifted left by five, of a key: words of 8 bytes are mixed in one after another, the last one being
    /// the last 8 bytes; a key under 8 bytes is one word (first and last four bytes, or first, middle and last byte).
    @inline(__always)
    static func hash(_ utf8: UnsafeBufferPointer<UInt8>) -> UInt32 {
        let count = utf8.count
        guard let base = UnsafeRawPointer(utf8.baseAddress), count > 0 else { return 0 }
        func word<Integer: FixedWidthInteger & UnsignedInteger>(_ at: Int, _ type: Integer.Type) -> UInt64 {
            UInt64(Integer(littleEndian: base.loadUnaligned(fromByteOffset: at, as: Integer.self)))
        }
        var state = UInt64(truncatingIfNeeded: count)
        func mix(_ word: UInt64) {
            state = (state ^ word) &* 0x9E37_79B9_7F4A_7C15
            state ^= state >> 32
        }
        if count >= 8 {
            var at = 0
            while at < count - 8 {
                mix(word(at, UInt64.self))
                at += 8
            }
            mix(word(count - 8, UInt64.self))
        } else if count >= 4 {
            mix(word(0, UInt32.self) | word(count - 4, UInt32.self) << 32)
        } else {
            mix(word(0, UInt8.self) | word(count / 2, UInt8.self) << 8 | word(count - 1, UInt8.self) << 16)
        }
        mix(0)
        return UInt32(truncatingIfNeeded: state >> 37) << 5
    }

    @inline(__always)
    static func hash(_ key: String) -> UInt32 {
        var key = key
        return key.withUTF8 { hash($0) }
    }
}

/// A number that lists are packed of. `RowElement` has those that tensors may hold.
protocol PackedNumber: BitwiseCopyable {
    static var elementType: UInt8 { get }
}

extension Float: PackedNumber { static var elementType: UInt8 { 1 } }
extension Double: PackedNumber { static var elementType: UInt8 { 2 } }
extension Int32: PackedNumber { static var elementType: UInt8 { 3 } }
extension Int64: PackedNumber { static var elementType: UInt8 { 4 } }
extension Int: PackedNumber { static var elementType: UInt8 { 4 } }
extension UInt8: PackedNumber { static var elementType: UInt8 { 5 } }
extension Int8: PackedNumber { static var elementType: UInt8 { 6 } }
extension Int16: PackedNumber { static var elementType: UInt8 { 7 } }
extension UInt16: PackedNumber { static var elementType: UInt8 { 8 } }
extension UInt32: PackedNumber { static var elementType: UInt8 { 9 } }
extension UInt64: PackedNumber { static var elementType: UInt8 { 10 } }
extension UInt: PackedNumber { static var elementType: UInt8 { 10 } }

extension WireFormat {
    /// Bytes of an element of packed numbers; nil for an unknown type.
    static func size(ofElementType type: UInt8) -> Int? {
        switch type {
        case 1, 3, 9: 4
        case 2, 4, 10: 8
        case 5, 6: 1
        case 7, 8: 2
        default: nil
        }
    }
}
