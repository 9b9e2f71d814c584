// Flockwork · Apache-2.0 · see LICENSE

// One decoding: the bytes, the place where each container stands, and what is counted against the limits. Nothing is
// copied out of the bytes but the values themselves.

/// A value found: its kind, and where its body starts.
struct WireValue {
    let kind: UInt8
    let body: Int
}

/// What the decoders and containers of one decoding share.
final class DecodingState {
    /// Where a keyed container or a list stands: the next head.
    private struct Level {
        let start: Int
        var place: Int
        let nesting: Int
    }

    /// Something in the bytes was found to be malformed.
    var isBroken: Bool { failure != nil }

    let bytes: Bytes
    // The memory of `bytes`, which keeps it alive.
    fileprivate let base: UnsafeRawPointer
    fileprivate let end: Int
    private let limits: Limits
    var tensorDimensions: Int { limits.tensorDimensions }
    // Checked exclusivity costs more than the reads; nothing here calls out while one of these is being changed.
    @exclusivity(unchecked) private var levels: UnsafeMutablePointer<Level>
    @exclusivity(unchecked) private var levelCount = 0
    @exclusivity(unchecked) private var levelCapacity = 8
    @exclusivity(unchecked) private var depth = 0
    @exclusivity(unchecked) private var elementsLeft: Int
    @exclusivity(unchecked) private var path = CodingTrail()
    @exclusivity(unchecked) private var failure: (any Error)?
    /// Where the value read last ends, and where the single value read last began.
    @exclusivity(unchecked) var lastEnd = 0
    @exclusivity(unchecked) var lastStart = -1

    init(_ bytes: Bytes, limits: Limits) {
        self.bytes = bytes
        self.limits = limits
        base = bytes.memory
        end = bytes.count
        levels = .allocate(capacity: 8)
        elementsLeft = limits.codingElements
    }

    deinit { levels.deallocate() }

    /// Decodes the whole value that starts at `start`; `lastEnd` is where it ends.
    func decodeRoot<T: Decodable>(_ type: T.Type, at start: Int) throws -> T {
        let result = try decode(type, element(at: start))
        if let failure { throw failure }
        return result
    }

    /// Decodes a value; `lastEnd` is where it ends, whatever the type read of it.
    func decode<T: Decodable>(_ type: T.Type, _ value: WireValue) throws -> T {
        if value.kind == WireFormat.packed, let array = try decodeArray(type, value) { return array }
        if T.self == String.self { return try unsafeBitCast(text(value), to: T.self) }
        guard depth < limits.codingDepth else {
            throw WireError.overLimit(.codingDepth, "nesting of at most \(limits.codingDepth)")
        }
        let outer = levelCount
        depth += 1
        lastStart = -1
        defer {
            depth -= 1
            levelCount = outer
        }
        let result = try T(from: WireDecoder(state: self, body: value.body, kind: value.kind, nesting: Int32(depth)))
        lastEnd = try end(of: value, firstLevel: outer)
        return result
    }

    private func end(of value: WireValue, firstLevel: Int) throws -> Int {
        if levelCount > firstLevel, levels[firstLevel].start == value.body,
            value.kind == WireFormat.keyed || value.kind == WireFormat.list
        {
            return try skipContainer(value.kind, from: levels[firstLevel].place, depth: depth)
        }
        return lastStart == value.body ? lastEnd : try skip(value, depth: depth)
    }

    // MARK: Containers

    func decoder(_ value: WireValue, under level: Int) -> WireDecoder {
        WireDecoder(state: self, body: value.body, kind: value.kind, nesting: Int32(levels[level].nesting + 1))
    }

    func openLevel(_ start: Int, nesting: Int) throws -> Int {
        guard nesting <= limits.codingDepth else {
            throw WireError.overLimit(.codingDepth, "nesting of at most \(limits.codingDepth)")
        }
        if levelCount == levelCapacity {
            let bigger = UnsafeMutablePointer<Level>.allocate(capacity: levelCapacity * 2)
            bigger.moveInitialize(from: levels, count: levelCount)
            levels.deallocate()
            levels = bigger
            levelCapacity *= 2
        }
        (levels + levelCount).initialize(to: Level(start: start, place: start, nesting: nesting))
        levelCount += 1
        return levelCount - 1
    }

    /// The index of a level that is still there: a container that a type keeps for later finds nothing.
    @inline(__always)
    private func check(_ level: Int) throws {
        if level >= levelCount { throw WireError.malformed("a container was used after its value was decoded") }
    }

    @inline(__always)
    func place(_ level: Int) -> Int { level < levelCount ? levels[level].place : end }

    @inline(__always)
    func goOn(in level: Int, at place: Int) {
        if level < levelCount { levels[level].place = place }
    }

    func isAtListEnd(_ level: Int) -> Bool {
        // A malformed list ends here for its reader, which may swallow errors in a loop; the decoding fails later.
        let place = place(level)
        return failure != nil || place >= end || byte(place) == WireFormat.end || byte(place) > WireFormat.absent
    }

    func element(_ level: Int) throws -> WireValue { try element(at: place(level)) }

    private func element(at place: Int) throws -> WireValue {
        guard place < end else { throw WireError.truncated }
        let kind = byte(place)
        guard kind <= WireFormat.absent, kind != WireFormat.end else { throw WireError.malformed("kind of a value") }
        return WireValue(kind: kind, body: place + 1)
    }

    /// The next field, if that is the one with this hash: the fast way.
    @inline(__always)
    func next(_ hash: UInt32, in level: Int) throws -> WireValue? {
        try check(level)
        let place = levels[level].place
        if place != levels[level].start, end - place >= 4 {
            let head = word(place)
            if head & ~15 == hash, head & 15 != UInt32(WireFormat.absent) {
                return WireValue(kind: UInt8(truncatingIfNeeded: head & 15), body: place + 4)
            }
        }
        return nil
    }

    /// The field of `key`, looked for from where the container stands on, and then from its start on.
    @inline(never)
    func search(_ key: String, in level: Int) throws -> WireValue? {
        var key = key
        let hash = WireFormat.hash(key)
        return try key.withUTF8 { name in
            let first = levels[level].place
            var place = first
            var wrapped = false
            while !wrapped || place < first {
                guard let (field, matches) = try field(at: place, name: name, hash: hash) else {
                    if wrapped { return nil }
                    wrapped = true
                    place = levels[level].start
                    continue
                }
                if matches {
                    if field.kind == WireFormat.absent {
                        levels[level].place = field.body
                        return nil
                    }
                    return field
                }
                place = try skip(field, depth: depth)
            }
            return nil
        }
    }

    /// The field at `place` and whether its key is the one looked for; nil at the end of the container.
    @inline(__always)
    private func field(
        at place: Int, name: UnsafeBufferPointer<UInt8>, hash: UInt32
    ) throws -> (WireValue, Bool)? {
        guard place < end else { throw WireError.truncated }
        let first = byte(place)
        let kind = first & WireFormat.kindMask
        guard kind != WireFormat.end else {
            guard first == WireFormat.end else { throw WireError.malformed("kind of a field") }
            return nil
        }
        if first & WireFormat.named != 0 {
            guard first == kind | WireFormat.named else { throw WireError.malformed("kind of a field") }
            let (count, start) = try length(place + 1)
            let matches = count == name.count && name.elementsEqual(slice(start, count))
            return (WireValue(kind: kind, body: start + count), matches)
        }
        guard end - place >= 4 else { throw WireError.truncated }
        return (WireValue(kind: kind, body: place + 4), word(place) & ~15 == hash)
    }

    /// The keys of a container, as far as they can be known: hashed ones cannot.
    func names<Key>(in level: Int, fixedKeys: Bool, make: (String) -> Key?) -> [Key] {
        var keys: [Key] = []
        do {
            try check(level)
            var place = levels[level].start
            let none = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
            while let (field, _) = try field(at: place, name: none, hash: 0) {
                if byte(place) & WireFormat.named != 0 {
                    if !fixedKeys { try countElement() }
                    let (count, start) = try length(place + 1)
                    guard let name = String(validating: slice(start, count), as: UTF8.self) else {
                        throw WireError.malformed("key: not UTF-8")
                    }
                    if field.kind != WireFormat.absent, let key = make(name) { keys.append(key) }
                } else if field.kind != WireFormat.absent {
                    throw WireError.malformed("allKeys of an enum of keys with more than one key written")
                }
                place = try skip(field, depth: depth)
            }
        } catch {
            if failure == nil { failure = error }
        }
        return keys
    }

    // MARK: Skipping

    /// Where a value ends.
    func skip(_ value: WireValue, depth: Int) throws -> Int {
        switch value.kind {
        case WireFormat.null, WireFormat.no, WireFormat.yes, WireFormat.absent: return value.body
        case WireFormat.unsigned, WireFormat.negative: return try varint(value.body).end
        case WireFormat.float: return try after(value.body, 4)
        case WireFormat.double: return try after(value.body, 8)
        case WireFormat.text, WireFormat.bytes:
            let (count, start) = try length(value.body)
            return start + count
        case WireFormat.keyed, WireFormat.list: return try skipContainer(value.kind, from: value.body, depth: depth)
        case WireFormat.packed:
            let (type, count, start) = try packedHeader(value.body)
            return start + count * (WireFormat.size(ofElementType: type) ?? 0)
        case WireFormat.tensor: return try tensorParts(value.body).end
        case WireFormat.rows: return try rowsParts(value.body).end
        default:
            guard value.kind & WireFormat.element != 0,
                let size = WireFormat.size(ofElementType: value.kind & ~WireFormat.element)
            else { throw WireError.malformed("kind of a value") }
            return try after(value.body, size)
        }
    }

    private func skipContainer(_ kind: UInt8, from start: Int, depth: Int) throws -> Int {
        guard depth <= limits.codingDepth else {
            throw WireError.overLimit(.codingDepth, "nesting of at most \(limits.codingDepth)")
        }
        let none = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        var place = start
        while true {
            guard place < end else { throw WireError.truncated }
            if byte(place) == WireFormat.end { return place + 1 }
            if kind == WireFormat.list {
                place = try skip(element(at: place), depth: depth + 1)
            } else if let (field, _) = try field(at: place, name: none, hash: 0) {
                place = try skip(field, depth: depth + 1)
            }
        }
    }

    // MARK: Failures and counts

    @inline(__always)
    func countElement() throws {
        elementsLeft -= 1
        if elementsLeft < 0 { throw WireError.overLimit(.codingElements, "elements: at most \(limits.codingElements)") }
    }

    /// Notes where an error was. One of the format stays, even if the type that is decoded swallows it.
    func failed(_ error: any Error, _ key: String) -> any Error {
        if error is WireError, failure == nil { failure = error }
        path.add(key, depth: depth)
        return error
    }

    var place: String { path.description }
}

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

/// The `Decoder` that a value is decoded from.
struct WireDecoder: Decoder {
    let state: DecodingState
    let body: Int
    let kind: UInt8
    let nesting: Int32

    var value: WireValue { WireValue(kind: kind, body: body) }
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard kind == WireFormat.keyed else { throw state.mismatch([String: Any].self, value) }
        let level = try state.openLevel(body, nesting: Int(nesting))
        return KeyedDecodingContainer(KeyedDecoding<Key>(state: state, level: level))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        if kind == WireFormat.packed {
            let (type, count, start) = try state.packedHeader(body)
            let level = try state.openLevel(start, nesting: Int(nesting))
            return ListDecoding(state: state, level: level, count: count, packed: WireFormat.element | type)
        }
        guard kind == WireFormat.list else { throw state.mismatch([Any].self, value) }
        let level = try state.openLevel(body, nesting: Int(nesting))
        return ListDecoding(state: state, level: level, count: nil, packed: 0)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { SingleDecoding(decoder: self) }
}
