// Flockwork · Apache-2.0 · see LICENSE

// One encoding: the writer, the containers that are open, and what is counted against the limits. `Codable` hands
// encoders and containers around as values, so they share this one object; it takes the caller's writer for the time
// of the encoding, so an encoder that a type keeps for later can do no harm.

/// What the encoders and containers of one encoding share.
final class EncodingState {
    // Checked exclusivity costs more than the writes; nothing here calls out while one of these is being changed.
    @exclusivity(unchecked) var writer: ByteWriter
    /// The innermost open container; -1 without one. It is named by where its content starts, or `whole`.
    @exclusivity(unchecked) private(set) var top = -1
    /// Where the innermost open container's content starts.
    @exclusivity(unchecked) private(set) var topStart = -1
    @exclusivity(unchecked) private var open = 0
    @exclusivity(unchecked) private var starts: UnsafeMutablePointer<Int>
    @exclusivity(unchecked) private var capacity = 8
    @exclusivity(unchecked) private var depth = 0
    @exclusivity(unchecked) private var elementsLeft: Int
    @exclusivity(unchecked) private var failure: (any Error)?
    @exclusivity(unchecked) private var path = CodingTrail()
    /// The name of the kept container, wherever the value starts: below -1, and another one after each that was shared.
    @exclusivity(unchecked) private var whole = -2
    @exclusivity(unchecked) private var wholeStart = -1
    @exclusivity(unchecked) private var kept: KeptContainer?
    private let keepsContainer: Bool
    private let elementLimit: Int
    private let depthLimit: Int
    private let byteLimit: Int

    /// With `keepsContainer`, the fields of one value after another are written to one container, until
    /// `forgetContainer()`, which the caller owes.
    init(limits: Limits, keepsContainer: Bool = false) {
        writer = ByteWriter.placeholder()
        starts = .allocate(capacity: 8)
        elementLimit = limits.codingElements
        elementsLeft = elementLimit
        depthLimit = limits.codingDepth
        byteLimit = limits.frameBytes
        self.keepsContainer = keepsContainer
    }

    deinit { starts.deallocate() }

    /// Encodes a whole value. After a failure this object encodes no other.
    func encodeRoot<T: Encodable>(_ value: T) throws {
        defer { checkKept() }
        let first = writer.count
        wholeStart = first + 1
        elementsLeft = elementLimit
        writer.write(WireFormat.absent)
        try encode(value, head: first)
        if let failure { throw failure }
        guard writer.count - first <= byteLimit else {
            throw WireError.overLimit(.frameBytes, "\(writer.count - first) bytes of at most \(byteLimit)")
        }
    }

    /// Encodes a value behind a head of unknown kind, which was just written at `head`.
    func encode<T: Encodable>(_ value: T, head: Int) throws {
        if try encodePlain(value, head: head) { return }
        guard depth < depthLimit else { throw WireError.overLimit(.codingDepth, "nesting of at most \(depthLimit)") }
        let body = writer.count
        let outer = open
        depth += 1
        defer { depth -= 1 }
        do {
            try value.encode(to: WireEncoder(state: self, head: head, body: body))
        } catch {
            close(to: outer, marked: false)
            throw error
        }
        close(to: outer, marked: true)
        if writer.byte(at: head) & WireFormat.kindMask == WireFormat.absent {
            try setKind(WireFormat.keyed, at: head, body: body)
            writer.write(WireFormat.end)
        }
    }

    // MARK: Containers

    /// Opens a container behind a head, or goes on in the one that was opened there.
    func openContainer(_ kind: UInt8, head: Int, body: Int, name: Int) {
        let present = writer.byte(at: head) & WireFormat.kindMask
        if present == kind, top == name { return }
        guard present == WireFormat.absent, writer.count == body, open < depthLimit else {
            noteFailure {
                guard open < depthLimit else {
                    throw WireError.overLimit(.codingDepth, "nesting of at most \(depthLimit)")
                }
                throw WireError.malformed("two containers for one value")
            }
            return
        }
        writer.setKind(kind, at: head)
        if open == capacity {
            let bigger = UnsafeMutablePointer<Int>.allocate(capacity: capacity * 2)
            bigger.update(from: starts, count: open)
            starts.deallocate()
            starts = bigger
            capacity *= 2
        }
        starts[open] = name
        open += 1
        top = name
        topStart = body
    }

    @inline(__always)
    func keyedContainer<Key: CodingKey>(_ type: Key.Type, head: Int, body: Int) -> KeyedEncodingContainer<Key> {
        guard keepsContainer, body == wholeStart else {
            openContainer(WireFormat.keyed, head: head, body: body, name: body)
            return KeyedEncodingContainer(KeyedEncoding<Key>(state: self, start: body))
        }
        openContainer(WireFormat.keyed, head: head, body: body, name: whole)
        if let kept = kept?.typed(KeyedEncodingContainer<Key>.self, keys: type) { return kept.get() }
        let container = KeyedEncodingContainer(KeyedEncoding<Key>(state: self, start: whole))
        kept = .of(container, keys: type)
        return container
    }

    @inline(__always)
    private func checkKept() {
        if let kept, !kept.isUnshared {
            self.kept = nil
            whole -= 1
        }
    }

    /// Ends the cycle of references between this object and the container that it keeps.
    func forgetContainer() { kept = nil }

    private func close(to outer: Int, marked: Bool) {
        while open > outer {
            open -= 1
            if marked { writer.write(WireFormat.end) }
        }
        top = open > 0 ? starts[open - 1] : -1
        topStart = top < -1 ? wholeStart : top
    }

    /// Ends the containers that were opened inside the one that starts at `start`.
    @inline(never)
    func goOn(_ start: Int) throws {
        var level = open
        while level > 0, starts[level - 1] != start { level -= 1 }
        guard level > 0 else {
            throw WireError.malformed("a nested container was written to after its parent went on")
        }
        close(to: level, marked: true)
    }

    // MARK: Parts

    @inline(__always)
    func setKind(_ kind: UInt8, at head: Int, body: Int) throws {
        guard writer.count == body, writer.byte(at: head) & WireFormat.kindMask == WireFormat.absent else {
            throw twice
        }
        writer.setKind(kind, at: head)
    }

    var twice: WireError { .malformed("a single value was written twice") }

    func writeText(_ text: String) throws {
        guard text.utf8.count <= byteLimit else {
            throw WireError.overLimit(.frameBytes, "text of \(text.utf8.count) bytes")
        }
        writer.writeText(text)
    }

    func writeName(_ name: String, _ kind: UInt8, counted: Bool) throws {
        if counted { try countElement() }
        writer.write(kind | WireFormat.named)
        try writeText(name)
    }

    @inline(__always)
    func countElement() throws {
        elementsLeft -= 1
        if elementsLeft < 0 { throw WireError.overLimit(.codingElements, "elements") }
    }

    // MARK: Failures

    /// Remembers the first failure of a call that cannot throw; the encoding fails with it at its end.
    func noteFailure(_ body: () throws -> Void) {
        do { try body() } catch { if failure == nil { failure = error } }
    }

    /// Takes back what a failed value wrote, and notes where it was.
    func failed(_ error: any Error, at offset: Int, _ key: String) -> any Error {
        writer.truncate(to: offset)
        path.add(key, depth: depth)
        return error
    }

    var place: String { path.description }
}

/// The `Encoder` that a value is encoded to.
struct WireEncoder: Encoder {
    let state: EncodingState
    /// Where the value's head is, and where its body starts.
    let head: Int
    let body: Int

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        state.keyedContainer(type, head: head, body: body)
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        state.openContainer(WireFormat.list, head: head, body: body, name: body)
        return ListEncoding(state: state, start: body)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { SingleEncoding(encoder: self) }
}

/// The keys on the way to an error, gathered while it is thrown outwards.
struct CodingTrail: CustomStringConvertible {
    private var keys: [(key: String, depth: Int)] = []

    mutating func add(_ key: String, depth: Int) {
        // An error that was caught on its way left keys behind; they are at least as deep as the new one.
        if let last = keys.last, last.depth <= depth { keys.removeAll() }
        keys.append((key, depth))
    }

    var description: String {
        keys.reversed().map(\.key).joined(separator: ".").replacing(".[", with: "[")
    }
}

extension String {
    fileprivate func replacing(_ text: String, with other: String) -> String {
        var result = ""
        var rest = self[...]
        while let first = rest.first {
            if rest.hasPrefix(text) {
                result += other
                rest = rest.dropFirst(text.count)
            } else {
                result.append(first)
                rest = rest.dropFirst()
            }
        }
        return result
    }
}
