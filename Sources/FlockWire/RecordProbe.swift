// Flockwork · Apache-2.0 · see LICENSE

// A value of a type is needed to reflect on its properties. This decoder makes one: every number in it is zero.

/// A decoder whose every number is zero, every text empty and every list without elements.
struct RecordProbe: Decoder {
    /// A type that decodes itself for ever is stopped here.
    private static let depthLimit = 16
    var depth = 0
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedDecodingContainer<Key> {
        KeyedDecodingContainer(KeyedZeros<Key>(probe: self))
    }
    func unkeyedContainer() -> any UnkeyedDecodingContainer { ListOfZeros(probe: self) }
    func singleValueContainer() -> any SingleValueDecodingContainer { SingleZero(probe: self) }

    fileprivate func value<T: Decodable>(_ type: T.Type) throws -> T { try T(from: deeper()) }

    fileprivate func deeper() throws -> RecordProbe {
        guard depth < Self.depthLimit else { throw WireError.overLimit(.codingDepth, "nesting of a plain record") }
        return RecordProbe(depth: depth + 1)
    }
}

private struct KeyedZeros<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let probe: RecordProbe
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { [] }

    func contains(_ key: Key) -> Bool { true }
    func decodeNil(forKey key: Key) -> Bool { false }
    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T { try probe.value(type) }
    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try probe.deeper().container(keyedBy: type)
    }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try probe.deeper().unkeyedContainer()
    }
    func superDecoder() throws -> any Decoder { try probe.deeper() }
    func superDecoder(forKey key: Key) throws -> any Decoder { try probe.deeper() }
}

private struct ListOfZeros: UnkeyedDecodingContainer {
    let probe: RecordProbe
    var codingPath: [any CodingKey] { [] }
    var count: Int? { nil }
    // Lists end at once for who asks, and never for who knows how many elements there must be.
    var isAtEnd: Bool { true }
    var currentIndex = 0

    init(probe: RecordProbe) { self.probe = probe }

    mutating func decodeNil() -> Bool { false }
    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
        currentIndex += 1
        return try probe.value(type)
    }
    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> {
        try probe.deeper().container(keyedBy: type)
    }
    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
        try probe.deeper().unkeyedContainer()
    }
    mutating func superDecoder() throws -> any Decoder { try probe.deeper() }
}

private struct SingleZero: SingleValueDecodingContainer {
    let probe: RecordProbe
    var codingPath: [any CodingKey] { [] }

    func decodeNil() -> Bool { false }
    func decode(_: Bool.Type) -> Bool { false }
    func decode(_: String.Type) -> String { "" }
    func decode(_: Double.Type) -> Double { 0 }
    func decode(_: Float.Type) -> Float { 0 }
    func decode(_: Int.Type) -> Int { 0 }
    func decode(_: Int8.Type) -> Int8 { 0 }
    func decode(_: Int16.Type) -> Int16 { 0 }
    func decode(_: Int32.Type) -> Int32 { 0 }
    func decode(_: Int64.Type) -> Int64 { 0 }
    func decode(_: UInt.Type) -> UInt { 0 }
    func decode(_: UInt8.Type) -> UInt8 { 0 }
    func decode(_: UInt16.Type) -> UInt16 { 0 }
    func decode(_: UInt32.Type) -> UInt32 { 0 }
    func decode(_: UInt64.Type) -> UInt64 { 0 }
    func decode<T: Decodable>(_ type: T.Type) throws -> T { try probe.value(type) }
}
