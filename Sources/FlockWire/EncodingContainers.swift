// Flockwork · Apache-2.0 · see LICENSE

// The three kinds of container that `Codable` writes to. They hold no state but where they start: what is written goes
// straight to the end of the one writer.

/// Fields, found by key.
struct KeyedEncoding<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let state: EncodingState
    let start: Int
    private let table: KeyTable?
    var codingPath: [any CodingKey] { [] }

    init(state: EncodingState, start: Int) {
        self.state = state
        self.start = start
        table = WireFormat.table(of: Key.self)
    }

    @inline(__always)
    private func head(_ key: Key, _ kind: UInt8) throws {
        if state.top != start { try state.goOn(start) }
        if MemoryLayout<Key>.size <= 1, state.writer.count != state.topStart {
            state.writer.write(WireFormat.hash(of: key, table) | UInt32(kind))
        } else if let name = table?.name(of: key) {
            state.writer.write(kind | WireFormat.named)
            state.writer.write(name)
        } else {
            try state.writeName(key.stringValue, kind, counted: MemoryLayout<Key>.size > 1)
        }
    }

    /// The hash of a key if its head needs nothing but that: it is known, and not the first of the container. Else 0.
    @inline(__always)
    private func quickHash(_ key: Key) -> UInt32 {
        guard let table, state.top == start, state.writer.count != state.topStart else { return 0 }
        return table.knownHash(of: key)
    }

    @inline(never)
    private func slowly<Bits: FixedWidthInteger>(_ key: Key, _ kind: UInt8, _ bits: Bits) throws {
        try head(key, kind)
        state.writer.write(bits)
    }

    func encodeNil(forKey key: Key) throws { try head(key, WireFormat.null) }
    func encode(_ value: Bool, forKey key: Key) throws { try head(key, value ? WireFormat.yes : WireFormat.no) }
    func encode(_ value: String, forKey key: Key) throws {
        try head(key, WireFormat.text)
        try state.writeText(value)
    }
    func encode(_ value: Double, forKey key: Key) throws {
        let hash = quickHash(key)
        if hash != 0 { return state.writer.write(hash | UInt32(WireFormat.double), value.bitPattern) }
        try slowly(key, WireFormat.double, value.bitPattern)
    }
    func encode(_ value: Float, forKey key: Key) throws {
        let hash = quickHash(key)
        if hash != 0 { return state.writer.write(hash | UInt32(WireFormat.float), value.bitPattern) }
        try slowly(key, WireFormat.float, value.bitPattern)
    }
    @inline(__always)
    private func put<Integer: FixedWidthInteger>(_ value: Integer, _ key: Key) throws {
        try head(key, value < 0 ? WireFormat.negative : WireFormat.unsigned)
        state.writer.writeVarint(UInt64(truncatingIfNeeded: value < 0 ? ~value : value))
    }
    func encode(_ value: Int, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: Int8, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: Int16, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: Int32, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: Int64, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: UInt, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: UInt8, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: UInt16, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: UInt32, forKey key: Key) throws { try put(value, key) }
    func encode(_ value: UInt64, forKey key: Key) throws { try put(value, key) }

    func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
        if state.top != start { try state.goOn(start) }
        let offset = state.writer.count
        try head(key, WireFormat.absent)
        do { try state.encode(value, head: offset) } catch { throw state.failed(error, at: offset, key.stringValue) }
    }

    // An optional without a value is written as absent: its reader then finds every key where it expects it.
    @inline(__always)
    private func ifPresent<T>(_ value: T?, _ key: Key, _ put: (T) throws -> Void) throws {
        if let value { try put(value) } else { try head(key, WireFormat.absent) }
    }
    func encodeIfPresent(_ value: Bool?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: String?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Double?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Float?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Int?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Int8?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Int16?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Int32?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: Int64?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: UInt?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: UInt8?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: UInt16?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: UInt32?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent(_ value: UInt64?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }
    func encodeIfPresent<T: Encodable>(_ value: T?, forKey key: Key) throws {
        try ifPresent(value, key) { try encode($0, forKey: key) }
    }

    private func open(_ key: Key, _ kind: UInt8) -> WireEncoder {
        let offset = state.writer.count
        state.noteFailure { try head(key, kind) }
        return WireEncoder(state: state, head: offset, body: state.writer.count)
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy keyType: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> {
        goOn()
        return open(key, WireFormat.absent).container(keyedBy: keyType)
    }

    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        goOn()
        return open(key, WireFormat.absent).unkeyedContainer()
    }

    func superEncoder() -> any Encoder {
        goOn()
        let offset = state.writer.count
        state.noteFailure { try state.writeName("super", WireFormat.absent, counted: false) }
        return WireEncoder(state: state, head: offset, body: state.writer.count)
    }

    func superEncoder(forKey key: Key) -> any Encoder {
        goOn()
        return open(key, WireFormat.absent)
    }

    private func goOn() {
        if state.top != start { state.noteFailure { try state.goOn(start) } }
    }
}

/// Elements, one after another.
struct ListEncoding: UnkeyedEncodingContainer {
    let state: EncodingState
    let start: Int
    var count = 0
    var codingPath: [any CodingKey] { [] }

    init(state: EncodingState, start: Int) {
        self.state = state
        self.start = start
    }

    /// Goes on in this list; the offset at which the next element's head belongs.
    @inline(__always)
    private mutating func next() throws -> Int {
        if state.top != start { try state.goOn(start) }
        try state.countElement()
        count += 1
        return state.writer.count
    }

    @inline(__always)
    private mutating func head(_ kind: UInt8) throws {
        _ = try next()
        state.writer.write(kind)
    }

    mutating func encodeNil() throws { try head(WireFormat.null) }
    mutating func encode(_ value: Bool) throws { try head(value ? WireFormat.yes : WireFormat.no) }
    mutating func encode(_ value: String) throws {
        try head(WireFormat.text)
        try state.writeText(value)
    }
    mutating func encode(_ value: Double) throws {
        try head(WireFormat.double)
        state.writer.write(value.bitPattern)
    }
    mutating func encode(_ value: Float) throws {
        try head(WireFormat.float)
        state.writer.write(value.bitPattern)
    }
    @inline(__always)
    private mutating func put<Integer: FixedWidthInteger>(_ value: Integer) throws {
        try head(value < 0 ? WireFormat.negative : WireFormat.unsigned)
        state.writer.writeVarint(UInt64(truncatingIfNeeded: value < 0 ? ~value : value))
    }
    mutating func encode(_ value: Int) throws { try put(value) }
    mutating func encode(_ value: Int8) throws { try put(value) }
    mutating func encode(_ value: Int16) throws { try put(value) }
    mutating func encode(_ value: Int32) throws { try put(value) }
    mutating func encode(_ value: Int64) throws { try put(value) }
    mutating func encode(_ value: UInt) throws { try put(value) }
    mutating func encode(_ value: UInt8) throws { try put(value) }
    mutating func encode(_ value: UInt16) throws { try put(value) }
    mutating func encode(_ value: UInt32) throws { try put(value) }
    mutating func encode(_ value: UInt64) throws { try put(value) }

    mutating func encode<T: Encodable>(_ value: T) throws {
        let offset = try next()
        state.writer.write(WireFormat.absent)
        do { try state.encode(value, head: offset) } catch {
            throw state.failed(error, at: offset, "[\(count - 1)]")
        }
    }

    private mutating func open() -> WireEncoder {
        state.noteFailure { _ = try next() }
        let offset = state.writer.count
        state.writer.write(WireFormat.absent)
        return WireEncoder(state: state, head: offset, body: offset + 1)
    }

    mutating func nestedContainer<Nested: CodingKey>(keyedBy keyType: Nested.Type) -> KeyedEncodingContainer<Nested> {
        open().container(keyedBy: keyType)
    }

    mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { open().unkeyedContainer() }

    mutating func superEncoder() -> any Encoder { open() }
}

/// One value, which takes the head that its encoder was given.
struct SingleEncoding: SingleValueEncodingContainer {
    let encoder: WireEncoder
    var codingPath: [any CodingKey] { [] }

    @inline(__always)
    private func head(_ kind: UInt8) throws { try encoder.state.setKind(kind, at: encoder.head, body: encoder.body) }

    func encodeNil() throws { try head(WireFormat.null) }
    func encode(_ value: Bool) throws { try head(value ? WireFormat.yes : WireFormat.no) }
    func encode(_ value: String) throws {
        try head(WireFormat.text)
        try encoder.state.writeText(value)
    }
    func encode(_ value: Double) throws {
        try head(WireFormat.double)
        encoder.state.writer.write(value.bitPattern)
    }
    func encode(_ value: Float) throws {
        try head(WireFormat.float)
        encoder.state.writer.write(value.bitPattern)
    }
    @inline(__always)
    private func put<Integer: FixedWidthInteger>(_ value: Integer) throws {
        try head(value < 0 ? WireFormat.negative : WireFormat.unsigned)
        encoder.state.writer.writeVarint(UInt64(truncatingIfNeeded: value < 0 ? ~value : value))
    }
    func encode(_ value: Int) throws { try put(value) }
    func encode(_ value: Int8) throws { try put(value) }
    func encode(_ value: Int16) throws { try put(value) }
    func encode(_ value: Int32) throws { try put(value) }
    func encode(_ value: Int64) throws { try put(value) }
    func encode(_ value: UInt) throws { try put(value) }
    func encode(_ value: UInt8) throws { try put(value) }
    func encode(_ value: UInt16) throws { try put(value) }
    func encode(_ value: UInt32) throws { try put(value) }
    func encode(_ value: UInt64) throws { try put(value) }

    func encode<T: Encodable>(_ value: T) throws {
        guard encoder.state.writer.count == encoder.body else { throw encoder.state.twice }
        try encoder.state.encode(value, head: encoder.head)
    }
}
