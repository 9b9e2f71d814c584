// Flockwork · Apache-2.0 · see LICENSE

// Fields are found by key: the next one at once, any other by a search; what nobody asks for is skipped.

extension DecodingState {
    /// The field of `key`, looked for from where the container stands on, and then from its start on.
    @inline(never)
    func search(_ key: String, in level: Int) throws -> WireValue? {
        var key = key
        let hash = WireFormat.hash(key)
        return try key.withUTF8 { name in
            let first = self.place(level)
            var place = first
            var wrapped = false
            while !wrapped || place < first {
                guard let (field, matches) = try field(at: place, name: name, hash: hash) else {
                    if wrapped { return nil }
                    wrapped = true
                    place = start(level)
                    continue
                }
                if matches {
                    if field.kind == WireFormat.absent {
                        goOn(in: level, at: field.body)
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
            var place = start(level)
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
            note(error)
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

    func skipContainer(_ kind: UInt8, from start: Int, depth: Int) throws -> Int {
        guard depth <= depthLimit else { throw WireError.overLimit(.codingDepth, "nesting of at most \(depthLimit)") }
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
}
