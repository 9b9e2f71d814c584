// Flockwork · Apache-2.0 · see LICENSE

// Hashing the name of a key costs more than writing the value behind it. Most key types are enums of one byte, so a
// key's hash is kept under that byte, in one table per type. The tables are found without a lock and never freed: the
// types of a program are few, and there is a bound on how many get one.

internal import Synchronization

/// The hashes of the keys of one type, under the one byte that such a key is.
struct KeyTable {
    /// 256 hashes; 0 is one that was not needed yet.
    private let words: UnsafeMutablePointer<Atomic<UInt32>>

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
        let words = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 256)
        for index in 0..<256 { (words + index).initialize(to: Atomic(0)) }
        slot.pointee.words.store(UInt(bitPattern: words), ordering: .releasing)
        return KeyTable(words: words)
    }

    /// The hash of `key`, which is one byte.
    @inline(__always)
    func hash<Key: CodingKey>(of key: Key) -> UInt32 {
        let byte = unsafeBitCast(key, to: UInt8.self)
        let known = words[Int(byte)].load(ordering: .relaxed)
        if known != 0 { return known }
        let hash = WireFormat.hash(key.stringValue)
        words[Int(byte)].store(hash, ordering: .relaxed)
        return hash
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
