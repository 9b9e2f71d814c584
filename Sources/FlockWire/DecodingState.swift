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
    let base: UnsafeRawPointer
    /// Where the value's bytes end.
    @exclusivity(unchecked) private(set) var end: Int
    private let elementLimit: Int
    let depthLimit: Int
    let tensorDimensions: Int
    // Checked exclusivity costs more than the reads; nothing here calls out while one of these is being changed.
    @exclusivity(unchecked) private var levels: UnsafeMutablePointer<Level>
    @exclusivity(unchecked) private var levelCount = 0
    @exclusivity(unchecked) private var levelCapacity = 8
    @exclusivity(unchecked) private(set) var depth = 0
    @exclusivity(unchecked) private var elementsLeft: Int
    @exclusivity(unchecked) private var path = CodingTrail()
    @exclusivity(unchecked) private(set) var failure: (any Error)?
    /// Where the value read last ends, and where the single value read last began.
    @exclusivity(unchecked) var lastEnd = 0
    @exclusivity(unchecked) var lastStart = -1
    @exclusivity(unchecked) private var kept: KeptContainer?
    private let keepsContainer: Bool
    /// A type has put its container aside. This object must then not decode another value, nor be freed.
    @exclusivity(unchecked) private(set) var mustStay = false
    /// The other keyed containers of the values that are being decoded, which do not hold this object.
    @exclusivity(unchecked) private var opened: [KeptContainer] = []

    /// With `keepsContainer`, the fields of one value after another are read from one container.
    init(_ bytes: Bytes, limits: Limits, keepsContainer: Bool = false) {
        self.bytes = bytes
        base = bytes.memory
        end = bytes.count
        levels = .allocate(capacity: 8)
        elementLimit = limits.codingElements
        elementsLeft = elementLimit
        depthLimit = limits.codingDepth
        tensorDimensions = limits.tensorDimensions
        self.keepsContainer = keepsContainer
    }

    deinit { levels.deallocate() }

    /// Decodes the whole value that lies in `start ..< end`; `lastEnd` is where it ends itself. After a failure this
    /// object decodes no other.
    func decodeRoot<T: Decodable>(_ type: T.Type, from start: Int, to end: Int) throws -> T {
        precondition(start >= 0 && start <= end && end <= bytes.count, "value at \(start) to \(end)")
        defer { if let kept, !kept.isUnshared { mustStay = true } }
        self.end = end
        elementsLeft = elementLimit
        let result = try decode(type, element(at: start))
        if let failure { throw failure }
        return result
    }

    /// Decodes a value; `lastEnd` is where it ends, whatever the type read of it.
    func decode<T: Decodable>(_ type: T.Type, _ value: WireValue) throws -> T {
        if value.kind == WireFormat.packed { return try decodePacked(type, value) }
        if T.self == String.self { return try unsafeBitCast(text(value), to: T.self) }
        return try decodeParts(type, value)
    }

    // On its own, as the type of its optional is looked up at run time.
    @inline(never)
    private func decodePacked<T: Decodable>(_ type: T.Type, _ value: WireValue) throws -> T {
        if let array = try decodeArray(type, value) { return array }
        if T.self == String.self { return try unsafeBitCast(text(value), to: T.self) }
        return try decodeParts(type, value)
    }

    /// Has the type decode itself.
    private func decodeParts<T: Decodable>(_ type: T.Type, _ value: WireValue) throws -> T {
        guard depth < depthLimit else { throw WireError.overLimit(.codingDepth, "nesting of at most \(depthLimit)") }
        let outer = levelCount
        let outerOpened = opened.count
        depth += 1
        lastStart = -1
        defer {
            depth -= 1
            levelCount = outer
            if opened.count > outerOpened { forget(downTo: outerOpened) }
        }
        let result = try T(from: WireDecoder(state: self, body: value.body, kind: value.kind, nesting: Int32(depth)))
        lastEnd = try end(of: value, firstLevel: outer)
        return result
    }

    private func forget(downTo count: Int) {
        while opened.count > count {
            if let container = opened.popLast(), !container.isUnshared { mustStay = true }
        }
    }

    /// Lets this object go, unless a type has put aside a container that points to it: then it stays for ever.
    func release() {
        if mustStay { _ = Unmanaged.passRetained(self) }
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

    /// The first field of a container that stands there, if that is the one with this name (and its length before it).
    @inline(__always)
    func first(_ name: UnsafeRawBufferPointer, in level: Int) -> WireValue? {
        guard level < levelCount, levels[level].place == levels[level].start else {
            return nil
        }
        let place = levels[level].place
        guard end - place > name.count else { return nil }
        let kind = byte(place) & WireFormat.kindMask
        guard byte(place) == kind | WireFormat.named, kind != WireFormat.end, kind != WireFormat.absent,
            name.elementsEqual(slice(place + 1, name.count))
        else { return nil }
        return WireValue(kind: kind, body: place + 1 + name.count)
    }

    func keyedContainer<Key: CodingKey>(
        _ type: Key.Type, _ body: Int, nesting: Int
    ) throws -> KeyedDecodingContainer<Key> {
        let level = try openLevel(body, nesting: nesting)
        guard keepsContainer, level == 0 else {
            let container = KeyedDecodingContainer(KeyedDecoding<Key>(state: self, level: level))
            opened.append(.of(container, keys: type))
            return container
        }
        if let kept = kept?.typed(KeyedDecodingContainer<Key>.self, keys: type) { return kept.get() }
        let container = KeyedDecodingContainer(KeyedDecoding<Key>(state: self, level: level))
        kept = .of(container, keys: type)
        return container
    }

    func openLevel(_ start: Int, nesting: Int) throws -> Int {
        guard nesting <= depthLimit else { throw WireError.overLimit(.codingDepth, "nesting of at most \(depthLimit)") }
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
    func check(_ level: Int) throws {
        if level >= levelCount { throw WireError.malformed("a container was used after its value was decoded") }
    }

    @inline(__always)
    func place(_ level: Int) -> Int { level < levelCount ? levels[level].place : end }

    @inline(__always)
    func start(_ level: Int) -> Int { level < levelCount ? levels[level].start : end }

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

    func element(at place: Int) throws -> WireValue {
        guard place < end else { throw WireError.truncated }
        let kind = byte(place)
        guard kind <= WireFormat.absent, kind != WireFormat.end else { throw WireError.malformed("kind of a value") }
        return WireValue(kind: kind, body: place + 1)
    }

    /// The body of the next field, if its head is just this and `size` bytes follow it, behind which the container then
    /// stands; else nil.
    @inline(__always)
    func takeNext(_ head: UInt32, size: Int, in level: Int) -> UnsafeRawPointer? {
        guard level < levelCount else { return nil }
        let stand = levels + level
        let place = stand.pointee.place
        // No place is below 0 or over the end, which is a count of bytes: nothing here can overflow.
        guard end &- place >= 4 &+ size, word(place) == head else { return nil }
        stand.pointee.place = place &+ 4 &+ size
        return base + (place &+ 4)
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

    // MARK: Failures and counts

    @inline(__always)
    func countElement() throws {
        elementsLeft -= 1
        if elementsLeft < 0 { throw WireError.overLimit(.codingElements, "elements: at most \(elementLimit)") }
    }

    /// Notes where an error was. One of the format stays, even if the type that is decoded swallows it.
    func failed(_ error: any Error, _ key: String) -> any Error {
        if error is WireError { note(error) }
        path.add(key, depth: depth)
        return error
    }

    /// Remembers a first failure, with which the decoding ends.
    func note(_ error: any Error) {
        if failure == nil { failure = error }
    }

    var place: String { path.description }
}
