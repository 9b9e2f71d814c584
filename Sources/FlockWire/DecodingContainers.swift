// Flockwork · Apache-2.0 · see LICENSE

// The three kinds of container that `Codable` reads from. Where a keyed container or a list stands is kept in the
// decoding state, because containers are copied and read without being mutated.

/// Fields, found by key.
struct KeyedDecoding<Key: CodingKey>: KeyedDecodingContainerProtocol {
    // The box that `Codable` puts a container in copies it for every field; counting references would double the time
    // of a field. The decoder, which lives as long as its `init(from:)` runs, holds the state; who keeps a container
    // for longer makes the state stay (`DecodingState.mustStay`).
    private let reference: Unmanaged<DecodingState>
    let level: Int
    private let table: KeyTable?
    private var state: DecodingState { reference.takeUnretainedValue() }
    var codingPath: [any CodingKey] { [] }

    init(state: DecodingState, level: Int) {
        reference = .passUnretained(state)
        self.level = level
        table = WireFormat.table(of: Key.self)
    }

    var allKeys: [Key] { state.names(in: level, fixedKeys: MemoryLayout<Key>.size <= 1, make: Key.init(stringValue:)) }

    /// The value of `key`; nil if it was not written.
    @inline(__always)
    private func find(_ key: Key, _ state: DecodingState) throws -> WireValue? {
        if let value = try state.next(WireFormat.hash(of: key, table), in: level) { return value }
        if let name = table?.name(of: key), let value = state.first(name, in: level) { return value }
        return try state.search(key.stringValue, in: level)
    }

    /// Reads a number of fixed size if it is the next field, and goes on behind it.
    @inline(__always)
    private func quick<Bits: FixedWidthInteger>(_ key: Key, _ kind: UInt8, _ type: Bits.Type) -> Bits? {
        guard let table else { return nil }
        let hash = table.knownHash(of: key)
        guard hash != 0 else { return nil }
        return reference._withUnsafeGuaranteedRef { state in
            let size = MemoryLayout<Bits>.size
            guard let body = state.takeNext(hash | UInt32(kind), size: size, in: level) else { return nil }
            return Bits(littleEndian: body.loadUnaligned(as: Bits.self))
        }
    }

    private func value(_ key: Key) throws -> WireValue {
        guard let value = try find(key, state) else { throw missing(key) }
        return value
    }

    @inline(never)
    private func missing(_ key: Key) -> DecodingError {
        .keyNotFound(key, .init(codingPath: [], debugDescription: "no field \(key.stringValue)"))
    }

    func contains(_ key: Key) -> Bool {
        // A malformed container is reported by the decoding call that follows, which fails on the same bytes.
        do { return try find(key, state) != nil } catch { return false }
    }

    func decodeNil(forKey key: Key) throws -> Bool { try value(key).kind == WireFormat.null }

    /// Reads a value where it was found and goes on behind it.
    @inline(__always)
    private func read<T>(_ key: Key, _ body: (DecodingState, WireValue) throws -> T) throws -> T {
        try reference._withUnsafeGuaranteedRef { state in
            guard let value = try find(key, state) else { throw missing(key) }
            do {
                let result = try body(state, value)
                state.goOn(in: level, at: state.lastEnd)
                return result
            } catch { throw state.failed(error, key.stringValue) }
        }
    }

    @inline(never)
    private func slowly<T>(_ key: Key, _ body: (DecodingState, WireValue) throws -> T) throws -> T {
        try read(key, body)
    }

    func decode(_: Bool.Type, forKey key: Key) throws -> Bool { try read(key) { try $0.bool($1) } }
    func decode(_: String.Type, forKey key: Key) throws -> String { try read(key) { try $0.text($1) } }
    func decode(_: Double.Type, forKey key: Key) throws -> Double {
        if let bits = quick(key, WireFormat.double, UInt64.self) { return Double(bitPattern: bits) }
        return try slowly(key) { try $0.double($1) }
    }
    func decode(_: Float.Type, forKey key: Key) throws -> Float {
        if let bits = quick(key, WireFormat.float, UInt32.self) { return Float(bitPattern: bits) }
        return try slowly(key) { try $0.float($1) }
    }
    func decode(_: Int.Type, forKey key: Key) throws -> Int { try read(key) { try $0.integer($1) } }
    func decode(_: Int8.Type, forKey key: Key) throws -> Int8 { try read(key) { try $0.integer($1) } }
    func decode(_: Int16.Type, forKey key: Key) throws -> Int16 { try read(key) { try $0.integer($1) } }
    func decode(_: Int32.Type, forKey key: Key) throws -> Int32 { try read(key) { try $0.integer($1) } }
    func decode(_: Int64.Type, forKey key: Key) throws -> Int64 { try read(key) { try $0.integer($1) } }
    func decode(_: UInt.Type, forKey key: Key) throws -> UInt { try read(key) { try $0.integer($1) } }
    func decode(_: UInt8.Type, forKey key: Key) throws -> UInt8 { try read(key) { try $0.integer($1) } }
    func decode(_: UInt16.Type, forKey key: Key) throws -> UInt16 { try read(key) { try $0.integer($1) } }
    func decode(_: UInt32.Type, forKey key: Key) throws -> UInt32 { try read(key) { try $0.integer($1) } }
    func decode(_: UInt64.Type, forKey key: Key) throws -> UInt64 { try read(key) { try $0.integer($1) } }
    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
        try read(key) { try $0.decode(type, $1) }
    }

    @inline(__always)
    private func ifPresent<T>(_ key: Key, _ body: (DecodingState, WireValue) throws -> T) throws -> T? {
        try reference._withUnsafeGuaranteedRef { state in
            guard let value = try find(key, state) else { return nil }
            guard value.kind != WireFormat.null else {
                state.goOn(in: level, at: value.body)
                return nil
            }
            do {
                let result = try body(state, value)
                state.goOn(in: level, at: state.lastEnd)
                return result
            } catch { throw state.failed(error, key.stringValue) }
        }
    }

    func decodeIfPresent(_: Bool.Type, forKey key: Key) throws -> Bool? {
        try ifPresent(key) { try $0.bool($1) }
    }
    func decodeIfPresent(_: String.Type, forKey key: Key) throws -> String? {
        try ifPresent(key) { try $0.text($1) }
    }
    func decodeIfPresent(_: Double.Type, forKey key: Key) throws -> Double? {
        try ifPresent(key) { try $0.double($1) }
    }
    func decodeIfPresent(_: Float.Type, forKey key: Key) throws -> Float? {
        try ifPresent(key) { try $0.float($1) }
    }
    func decodeIfPresent(_: Int.Type, forKey key: Key) throws -> Int? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: Int8.Type, forKey key: Key) throws -> Int8? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: Int16.Type, forKey key: Key) throws -> Int16? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: Int32.Type, forKey key: Key) throws -> Int32? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: Int64.Type, forKey key: Key) throws -> Int64? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: UInt.Type, forKey key: Key) throws -> UInt? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: UInt8.Type, forKey key: Key) throws -> UInt8? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: UInt16.Type, forKey key: Key) throws -> UInt16? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: UInt32.Type, forKey key: Key) throws -> UInt32? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent(_: UInt64.Type, forKey key: Key) throws -> UInt64? {
        try ifPresent(key) { try $0.integer($1) }
    }
    func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
        try ifPresent(key) { try $0.decode(type, $1) }
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy keyType: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try state.decoder(value(key), under: level).container(keyedBy: keyType)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try state.decoder(value(key), under: level).unkeyedContainer()
    }

    func superDecoder() throws -> any Decoder {
        guard let value = try state.search("super", in: level) else {
            throw DecodingError.valueNotFound(
                (any Decoder).self, .init(codingPath: [], debugDescription: "no field super"))
        }
        return state.decoder(value, under: level)
    }

    func superDecoder(forKey key: Key) throws -> any Decoder { try state.decoder(value(key), under: level) }
}

/// Elements, one after another: of a list, or of packed numbers.
struct ListDecoding: UnkeyedDecodingContainer {
    let state: DecodingState
    let level: Int
    /// Elements of packed numbers; a list ends with a byte, its length is not known before.
    let count: Int?
    /// The kind of packed numbers' elements; 0 in a list.
    let packed: UInt8
    var currentIndex = 0
    var codingPath: [any CodingKey] { [] }

    init(state: DecodingState, level: Int, count: Int?, packed: UInt8) {
        self.state = state
        self.level = level
        self.count = count
        self.packed = packed
    }

    var isAtEnd: Bool {
        if let count { return currentIndex >= count || state.isBroken }
        return state.isAtListEnd(level)
    }

    @inline(__always)
    private func peek() throws -> WireValue {
        guard !isAtEnd else {
            throw DecodingError.valueNotFound(
                Any.self, .init(codingPath: [], debugDescription: "no element \(currentIndex)"))
        }
        return packed == 0 ? try state.element(level) : WireValue(kind: packed, body: state.place(level))
    }

    mutating func decodeNil() throws -> Bool {
        let value = try peek()
        guard value.kind == WireFormat.null || value.kind == WireFormat.absent else { return false }
        goOn(value.body)
        return true
    }

    @inline(__always)
    private mutating func goOn(_ place: Int) {
        state.goOn(in: level, at: place)
        currentIndex += 1
    }

    @inline(__always)
    private mutating func read<T>(_ body: (DecodingState, WireValue) throws -> T) throws -> T {
        let value = try peek()
        do {
            if packed == 0 { try state.countElement() }
            let result = try body(state, value)
            goOn(state.lastEnd)
            return result
        } catch { throw state.failed(error, "[\(currentIndex)]") }
    }

    mutating func decode(_: Bool.Type) throws -> Bool { try read { try $0.bool($1) } }
    mutating func decode(_: String.Type) throws -> String { try read { try $0.text($1) } }
    mutating func decode(_: Double.Type) throws -> Double { try read { try $0.double($1) } }
    mutating func decode(_: Float.Type) throws -> Float { try read { try $0.float($1) } }
    mutating func decode(_: Int.Type) throws -> Int { try read { try $0.integer($1) } }
    mutating func decode(_: Int8.Type) throws -> Int8 { try read { try $0.integer($1) } }
    mutating func decode(_: Int16.Type) throws -> Int16 { try read { try $0.integer($1) } }
    mutating func decode(_: Int32.Type) throws -> Int32 { try read { try $0.integer($1) } }
    mutating func decode(_: Int64.Type) throws -> Int64 { try read { try $0.integer($1) } }
    mutating func decode(_: UInt.Type) throws -> UInt { try read { try $0.integer($1) } }
    mutating func decode(_: UInt8.Type) throws -> UInt8 { try read { try $0.integer($1) } }
    mutating func decode(_: UInt16.Type) throws -> UInt16 { try read { try $0.integer($1) } }
    mutating func decode(_: UInt32.Type) throws -> UInt32 { try read { try $0.integer($1) } }
    mutating func decode(_: UInt64.Type) throws -> UInt64 { try read { try $0.integer($1) } }
    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T { try read { try $0.decode(type, $1) } }

    /// A decoder of the next element, whose place this list leaves at once.
    private mutating func nested() throws -> WireDecoder {
        let level = level
        return try read {
            $0.lastEnd = try $0.skip($1, depth: 0)
            return $0.decoder($1, under: level)
        }
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy keyType: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> {
        try nested().container(keyedBy: keyType)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try nested().unkeyedContainer() }

    mutating func superDecoder() throws -> any Decoder { try nested() }
}

/// One value.
struct SingleDecoding: SingleValueDecodingContainer {
    let decoder: WireDecoder
    private var state: DecodingState { decoder.state }
    var codingPath: [any CodingKey] { [] }

    init(decoder: WireDecoder) { self.decoder = decoder }

    @inline(__always)
    private func read<T>(_ body: (WireValue) throws -> T) throws -> T {
        let result = try body(decoder.value)
        state.lastStart = decoder.value.body
        return result
    }

    func decodeNil() -> Bool {
        guard decoder.value.kind == WireFormat.null || decoder.value.kind == WireFormat.absent else { return false }
        state.lastStart = decoder.value.body
        state.lastEnd = decoder.value.body
        return true
    }

    func decode(_: Bool.Type) throws -> Bool { try read { try state.bool($0) } }
    func decode(_: String.Type) throws -> String { try read { try state.text($0) } }
    func decode(_: Double.Type) throws -> Double { try read { try state.double($0) } }
    func decode(_: Float.Type) throws -> Float { try read { try state.float($0) } }
    func decode(_: Int.Type) throws -> Int { try read { try state.integer($0) } }
    func decode(_: Int8.Type) throws -> Int8 { try read { try state.integer($0) } }
    func decode(_: Int16.Type) throws -> Int16 { try read { try state.integer($0) } }
    func decode(_: Int32.Type) throws -> Int32 { try read { try state.integer($0) } }
    func decode(_: Int64.Type) throws -> Int64 { try read { try state.integer($0) } }
    func decode(_: UInt.Type) throws -> UInt { try read { try state.integer($0) } }
    func decode(_: UInt8.Type) throws -> UInt8 { try read { try state.integer($0) } }
    func decode(_: UInt16.Type) throws -> UInt16 { try read { try state.integer($0) } }
    func decode(_: UInt32.Type) throws -> UInt32 { try read { try state.integer($0) } }
    func decode(_: UInt64.Type) throws -> UInt64 { try read { try state.integer($0) } }
    func decode<T: Decodable>(_ type: T.Type) throws -> T { try read { try state.decode(type, $0) } }
}
