// Flockwork · Apache-2.0 · see LICENSE

// Hashing the name of a key costs more than writing the value behind it. Most key types are enums of one byte, so a
// key's hash and name are kept under that byte, in one table per type. The tables are found without a lock and never
// freed: the types of a program are few, and there is a bound on how many get one.

internal import Synchronization

/// The hashes and names of the keys of one type, under the one byte that such a key is.
struct KeyTable {
    /// 256 hashes; 0 is one that was not needed yet. Then, in the same memory, the addresses of 256 names.
    private let words: UnsafeMutablePointer<Atomic<UInt32>>
    private static let bytes = 256 * (MemoryLayout<UInt32>.stride + MemoryLayout<UInt>.stride)
    private var names: UnsafeMutablePointer<Atomic<UInt>> {
        UnsafeMutableRawPointer(words + 256).assumingMemoryBound(to: Atomic<UInt>.self)
    }

    /// Types that get a table.
    private static let limit = 1024
    // Allocated once, never freed; what it points to is changed by atomic operations only.
    nonisolated(unsafe) private static let slots: UnsafeMutablePointer<Slot> = {
        let slots = UnsafeMutablePointer<Slot>.allocate(capacity: limit)
        for index in 0..<limit { (slots + index).initialize(to: Slot()) }
        return slots
    }()

    private struct Slot: ~Copyable {
        let type = Atomic<UInt>(0)
        let words = Atomic<UInt>(0)
    }

    /// The table of a key type whose values are one byte; nil if too many types have one.
    @inline(__always)
    static func of(_ type: any Any.Type) -> KeyTable? {
        let id = UInt(bitPattern: unsafeBitCast(type, to: Int.self))
        let index = Int(truncatingIfNeeded: ((id >> 4) &* 0x9E37_79B9_7F4A_7C15) >> 54)
        let slot = slots + index
        if slot.pointee.type.load(ordering: .acquiring) == id,
            let words = UnsafeMutablePointer<Atomic<UInt32>>(bitPattern: slot.pointee.words.load(ordering: .acquiring))
        {
            return KeyTable(words: words)
        }
        return make(id, in: slot)
    }

    /// Takes the slot if it is free. Of two types with one slot, the first one has the table.
    @inline(never)
    private static func make(_ id: UInt, in slot: UnsafeMutablePointer<Slot>) -> KeyTable? {
        guard slot.pointee.type.compareExchange(expected: 0, desired: id, ordering: .acquiringAndReleasing).exchanged
        else { return nil }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: MemoryLayout<UInt>.alignment)
        let words = memory.bindMemory(to: Atomic<UInt32>.self, capacity: 256)
        let names = UnsafeMutableRawPointer(words + 256).bindMemory(to: Atomic<UInt>.self, capacity: 256)
        for index in 0..<256 {
            (words + index).initialize(to: Atomic(0))
            (names + index).initialize(to: Atomic(0))
        }
        slot.pointee.words.store(UInt(bitPattern: words), ordering: .releasing)
        return KeyTable(words: words)
    }

    /// The hash of `key`, which is one byte, if it was needed before; else 0.
    @inline(__always)
    func knownHash<Key: CodingKey>(of key: Key) -> UInt32 {
        words[Int(unsafeBitCast(key, to: UInt8.self))].load(ordering: .relaxed)
    }

    /// The hash of `key`, which is one byte.
    @inline(__always)
    func hash<Key: CodingKey>(of key: Key) -> UInt32 {
        let known = knownHash(of: key)
        return known != 0 ? known : firstHash(of: key)
    }

    @inline(never)
    private func firstHash<Key: CodingKey>(of key: Key) -> UInt32 {
        let hash = WireFormat.hash(key.stringValue)
        words[Int(unsafeBitCast(key, to: UInt8.self))].store(hash, ordering: .relaxed)
        return hash
    }

    /// The length of the name of `key`, which is one byte, and the name, as it is written; nil if it is over 127 bytes.
    @inline(__always)
    func name<Key: CodingKey>(of key: Key) -> UnsafeRawBufferPointer? {
        let known = names[Int(unsafeBitCast(key, to: UInt8.self))].load(ordering: .acquiring)
        guard let name = UnsafeRawPointer(bitPattern: known) else { return firstName(of: key) }
        return UnsafeRawBufferPointer(start: name, count: Int(name.load(as: UInt8.self)) + 1)
    }

    @inline(never)
    private func firstName<Key: CodingKey>(of key: Key) -> UnsafeRawBufferPointer? {
        let text = Array(key.stringValue.utf8)
        guard text.count < 0x80 else { return nil }
        let name = UnsafeMutableRawBufferPointer.allocate(byteCount: text.count + 1, alignment: 1)
        name.copyBytes(from: [UInt8(text.count)] + text)
        let place = names + Int(unsafeBitCast(key, to: UInt8.self))
        let (isFirst, other) = place.pointee.compareExchange(
            expected: 0, desired: UInt(bitPattern: name.baseAddress), ordering: .acquiringAndReleasing)
        if isFirst { return UnsafeRawBufferPointer(name) }
        // Another thread was faster, with the same bytes.
        name.deallocate()
        return UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: other), count: text.count + 1)
    }
}

extension WireFormat {
    /// The hash of a key, from its type's table if there is one.
    @inline(__always)
    static func hash<Key: CodingKey>(of key: Key, _ table: KeyTable?) -> UInt32 {
        table?.hash(of: key) ?? hash(key.stringValue)
    }

    @inline(__always)
    static func table<Key: CodingKey>(of type: Key.Type) -> KeyTable? {
        MemoryLayout<Key>.size == 1 ? KeyTable.of(type) : nil
    }
}
