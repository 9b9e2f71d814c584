// Flockwork · Apache-2.0 · see LICENSE

// Little-endian fixed-width integers, LEB128 varints, and aligned blocks. Fixed widths where a header must be patched
// or read in place, varints where values are mostly small.

/// Builds bytes in one growing storage, handed out without a copy by `finish()`.
public struct ByteWriter: ~Copyable {
    @usableFromInline var storage: ByteStorage
    // Kept beside the storage: a write then needs no reference to it.
    @usableFromInline var base: UnsafeMutableRawPointer
    @usableFromInline var capacity: Int
    /// Bytes written so far.
    public internal(set) var count: Int {
        @inlinable get { written }
        set { written = newValue }
    }
    @usableFromInline var written = 0

    public init(capacity: Int = 256) {
        self.init(storage: ByteStorage(capacity: max(capacity, 16)))
    }

    private init(storage: ByteStorage) {
        self.storage = storage
        base = storage.base
        capacity = storage.capacity
    }

    /// A writer without memory of its own, until something is written.
    static func placeholder() -> ByteWriter { ByteWriter(storage: Bytes.emptyStorage) }

    @inline(never) @usableFromInline
    mutating func grow(for additional: Int) {
        let needed = count + additional
        guard needed > capacity else { return }
        let bigger = ByteStorage(capacity: max(needed, capacity * 2))
        bigger.base.copyMemory(from: base, byteCount: count)
        adopt(bigger)
    }

    private mutating func adopt(_ fresh: ByteStorage) {
        storage = fresh
        base = fresh.base
        capacity = fresh.capacity
    }

    /// Appends a fixed-width integer, little-endian.
    @inlinable @inline(__always)
    public mutating func write<Integer: FixedWidthInteger>(_ value: Integer) {
        let width = MemoryLayout<Integer>.size
        if capacity - written < width { grow(for: width) }
        (base + written).storeBytes(of: value.littleEndian, as: Integer.self)
        written += width
    }

    /// Appends two fixed-width integers, with one look at the room.
    @inline(__always)
    mutating func write<First: FixedWidthInteger, Second: FixedWidthInteger>(_ first: First, _ second: Second) {
        let width = MemoryLayout<First>.size + MemoryLayout<Second>.size
        if capacity - written < width { grow(for: width) }
        (base + written).storeBytes(of: first.littleEndian, as: First.self)
        (base + written + MemoryLayout<First>.size).storeBytes(of: second.littleEndian, as: Second.self)
        written += width
    }

    /// LEB128, at most 10 bytes.
    public mutating func writeVarint(_ value: UInt64) {
        if capacity - count < 10 { grow(for: 10) }
        var rest = value
        while rest >= 0x80 {
            base.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: count, as: UInt8.self)
            rest >>= 7
            count += 1
        }
        base.storeBytes(of: UInt8(rest), toByteOffset: count, as: UInt8.self)
        count += 1
    }

    /// Appends memory.
    @inlinable
    public mutating func write(_ source: UnsafeRawBufferPointer) {
        guard let from = source.baseAddress, source.count > 0 else { return }
        if capacity - written < source.count { grow(for: source.count) }
        (base + written).copyMemory(from: from, byteCount: source.count)
        written += source.count
    }

    /// Appends bytes.
    public mutating func write(_ bytes: Bytes) {
        bytes.storageIfAny { write($0) }
    }

    /// A varint length, then the bytes.
    public mutating func writeBlock(_ bytes: Bytes) {
        writeVarint(UInt64(bytes.count))
        write(bytes)
    }

    /// A varint length, then the UTF-8.
    public mutating func writeText(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            writeVarint(UInt64(utf8.count))
            write(UnsafeRawBufferPointer(utf8))
        }
    }

    /// Zero bytes up to a multiple of `alignment` (from the start of what this writer wrote).
    public mutating func align(to alignment: Int) {
        writeZeros((alignment - count % alignment) % alignment)
    }

    mutating func writeZeros(_ zeros: Int) {
        guard zeros > 0 else { return }
        if capacity - count < zeros { grow(for: zeros) }
        (base + count).initializeMemory(as: UInt8.self, repeating: 0, count: zeros)
        count += zeros
    }

    /// Room for `count` bytes, filled by `fill`, which returns how many it used.
    public mutating func reserve<Failure: Error>(
        _ count: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
    ) throws(Failure) {
        precondition(count >= 0, "room for \(count) bytes")
        if capacity - self.count < count { grow(for: count) }
        let used = try fill(UnsafeMutableRawBufferPointer(start: base + self.count, count: count))
        precondition(used >= 0 && used <= count, "\(used) of \(count) reserved bytes used")
        self.count += used
    }

    /// Calls `body` with what was written so far, for a checksum over it.
    public borrowing func withWritten<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: base, count: count))
    }

    /// Overwrites a fixed-width integer written before.
    public mutating func patch<Integer: FixedWidthInteger>(_ value: Integer, at offset: Int) {
        precondition(offset >= 0 && offset + MemoryLayout<Integer>.size <= count, "patch at \(offset) of \(count)")
        (base + offset).storeBytes(of: value.littleEndian, as: Integer.self)
    }

    @inline(__always)
    func byte(at offset: Int) -> UInt8 {
        precondition(offset >= 0 && offset < count, "byte \(offset) of \(count)")
        return base.load(fromByteOffset: offset, as: UInt8.self)
    }

    /// Replaces the low four bits of a byte written before.
    @inline(__always)
    mutating func setKind(_ kind: UInt8, at offset: Int) {
        base.storeBytes(of: byte(at: offset) & 0xF0 | kind, toByteOffset: offset, as: UInt8.self)
    }

    /// Forgets what was written after `count` bytes.
    public mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count, "truncate \(self.count) bytes to \(count)")
        self.count = count
    }

    /// What was written.
    public consuming func finish() -> Bytes {
        Bytes(storage: storage, start: 0, count: count)
    }

    /// What was written since the last call; the writer goes on with a fresh storage of `capacity`.
    public mutating func take(next capacity: Int = 256) -> Bytes {
        let bytes = Bytes(storage: storage, start: 0, count: count)
        adopt(ByteStorage(capacity: max(capacity, 16)))
        count = 0
        return bytes
    }
}

extension Bytes {
    @inline(__always)
    fileprivate func storageIfAny(_ body: (UnsafeRawBufferPointer) -> Void) {
        if count > 0 { withUnsafeBytes(body) }
    }
}
