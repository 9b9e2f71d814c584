// Flockwork · Apache-2.0 · see LICENSE

// `Codable` values as compact bytes. The format is described in WireFormat.swift and in Docs/WIRE.md.

/// Encodes and decodes `Codable` values. Nothing that a peer sends makes it trap or allocate more than it sent,
/// but for the values themselves.
public enum WireCoder {
    /// Appends `value` to `writer`.
    ///
    /// Throws `tooLarge` when a limit is exceeded and `invalidInput` when the value cannot be encoded; both name the
    /// type and the place in it. What was written of the value is then taken back.
    public static func encode<T: Encodable>(_ value: T, into writer: inout ByteWriter, limits: Limits) throws {
        let state = EncodingState(limits: limits)
        let first = writer.count
        swap(&writer, &state.writer)
        defer { swap(&writer, &state.writer) }
        do { try state.encodeRoot(value) } catch {
            state.writer.truncate(to: first)
            throw described(error, "encode", T.self, at: state.place)
        }
    }

    /// Reads a value of `type` that `encode` wrote.
    ///
    /// Throws `invalidInput` that names the type and the place in it, never the bytes.
    public static func decode<T: Decodable>(_ type: T.Type, from reader: inout ByteReader, limits: Limits) throws -> T {
        let state = DecodingState(reader.bytes, limits: limits)
        defer { state.release() }
        do {
            let value = try state.decodeRoot(type, from: reader.position, to: reader.bytes.count)
            reader.advance(to: state.lastEnd)
            return value
        } catch { throw described(error, "decode", T.self, at: state.place) }
    }

    static func described(
        _ error: any Error, _ verb: String, _ type: Any.Type, at place: String
    ) -> FlockError {
        let reason: String
        var code = FlockError.Code.invalidInput
        switch error {
        case let error as FlockError: return error
        case WireError.truncated: reason = "the bytes end too early"
        case WireError.overLimit(_, let what):
            reason = "over a limit: \(what)"
            if verb == "encode" { code = .tooLarge }
        case WireError.malformed(let what): reason = what
        case DecodingError.keyNotFound(let key, _): reason = "no value for \(key.stringValue)"
        case DecodingError.valueNotFound(let type, _): reason = "no value of type \(type)"
        case DecodingError.typeMismatch(let type, _): reason = "no \(type)"
        case DecodingError.dataCorrupted: reason = "a value that its type does not allow"
        case EncodingError.invalidValue(_, let context): reason = context.debugDescription
        default: reason = "its own code threw \(Swift.type(of: error))"
        }
        let path = place.isEmpty ? "" : " at \(place)"
        return FlockError(code, "cannot \(verb) \(type)\(path): \(reason)", limit: Limit(of: error), cause: error)
    }
}
