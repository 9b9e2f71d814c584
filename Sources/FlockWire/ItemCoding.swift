// Flockwork · Apache-2.0 · see LICENSE

// A run of values in one go: one object, one writer and, for their fields, one container for all of them. Encoding or
// decoding them one by one spends half of its time on making and freeing these.

extension ItemBuffer {
    /// Encodes each value by itself, as `WireCoder.encode` does.
    ///
    /// Throws `tooLarge` when a limit is exceeded and `invalidInput` when a value cannot be encoded; both name the
    /// type and the place in it.
    public init<T: Encodable>(encoding values: [T], limits: Limits) throws {
        let state = EncodingState(limits: limits, keepsContainer: true)
        defer { state.forgetContainer() }
        state.writer = ByteWriter(capacity: values.count * 64)
        let table = ByteStorage(capacity: (values.count + 1) * 4)
        table.base.storeBytes(of: 0, as: UInt32.self)
        for index in 0..<values.count {
            do { try state.encodeRoot(values[index]) } catch {
                throw WireCoder.described(error, "encode", T.self, at: state.place)
            }
            guard let end = UInt32(exactly: state.writer.count) else {
                throw WireError.overLimit(.batchBytes, "batch over 4 GiB")
            }
            table.base.storeBytes(of: end.littleEndian, toByteOffset: (index + 1) * 4, as: UInt32.self)
        }
        let count = values.count
        self.init(
            variable: state.writer.take(next: 0), offsets: Bytes(storage: table, start: 0, count: table.capacity),
            count: count)
    }

    /// Decodes each item by itself, as `WireCoder.decode` does.
    ///
    /// Throws `invalidInput` that names the type and the place in it, never the bytes.
    public func decode<T: Decodable>(_ type: T.Type, limits: Limits) throws -> [T] {
        guard layout == .variable else {
            throw FlockError(.invalidInput, "cannot decode \(type): items of a fixed size are no encoded values")
        }
        var state = DecodingState(data, limits: limits, keepsContainer: true)
        defer { state.release() }
        return try [T](unsafeUninitializedCapacity: count) { values, done in
            guard let first = values.baseAddress else { return }
            while done < count {
                if state.mustStay {
                    state.release()
                    state = DecodingState(data, limits: limits, keepsContainer: true)
                }
                do {
                    let value = try state.decodeRoot(type, from: offset(done), to: offset(done + 1))
                    (first + done).initialize(to: value)
                } catch { throw WireCoder.described(error, "decode", T.self, at: state.place) }
                done += 1
            }
        }
    }
}
