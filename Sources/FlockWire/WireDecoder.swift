// Flockwork · Apache-2.0 · see LICENSE

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
        return try state.keyedContainer(type, body, nesting: Int(nesting))
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
