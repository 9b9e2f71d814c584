// Flockwork · Apache-2.0 · see LICENSE

// One kind of memory for everything that crosses a thread or a socket: frames are read into it, rows are views on it,
// results are written into it and sent from it. A slice keeps its storage alive, so a slice never copies.

/// A fixed block of memory, 16-byte aligned, that is written once by its maker and then only read.
public final class ByteStorage: Sendable {
    // Written only before the storage is shared (by the code that allocated it), hence safe to read from anywhere.
    @usableFromInline nonisolated(unsafe) let base: UnsafeMutableRawPointer
    /// Bytes allocated.
    public let capacity: Int

    public init(capacity: Int) {
        precondition(capacity >= 0, "negative capacity \(capacity)")
        self.capacity = capacity
        base = .allocate(byteCount: max(capacity, 1), alignment: 16)
    }

    deinit { base.deallocate() }

    /// The memory, for its maker to fill before anybody else sees it.
    public func withMutableBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeMutableRawBufferPointer(start: base, count: capacity))
    }
}

/// A read-only slice of a `ByteStorage`.
public struct Bytes: Sendable {
    public let storage: ByteStorage
    @usableFromInline let start: Int
    /// Bytes.
    public let count: Int

    public var isEmpty: Bool { count == 0 }

    static let emptyStorage = ByteStorage(capacity: 0)
    /// No bytes.
    public static let empty = Bytes(storage: emptyStorage, start: 0, count: 0)

    /// The bytes `start ..< start + count` of a storage.
    public init(storage: ByteStorage, start: Int, count: Int) {
        precondition(
            start >= 0 && count >= 0 && start <= storage.capacity - count,
            "slice \(start)+\(count) outside \(storage.capacity) bytes")
        self.storage = storage
        self.start = start
        self.count = count
    }

    /// A storage of `count` bytes, filled by `fill`.
    public init<Failure: Error>(
        count: Int, filledBy fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let storage = ByteStorage(capacity: count)
        try storage.withMutableBytes(fill)
        self.init(storage: storage, start: 0, count: count)
    }

    /// A copy of other memory.
    public init(copying source: UnsafeRawBufferPointer) {
        self.init(count: source.count) { target in
            if let from = source.baseAddress, source.count > 0 {
                target.baseAddress?.copyMemory(from: from, byteCount: source.count)
            }
        }
    }

    public init(_ array: [UInt8]) {
        self = array.withUnsafeBytes { Bytes(copying: $0) }
    }

    public init(_ text: String) {
        self.init(Array(text.utf8))
    }

    /// The memory, valid during the call only.
    @inlinable @inline(__always)
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: UnsafeRawPointer(storage.base) + start, count: count))
    }

    /// The memory, valid as long as `storage` is kept.
    var memory: UnsafeRawPointer { UnsafeRawPointer(storage.base) + start }

    /// The bytes `offset ..< offset + count` of this slice, on the same storage.
    public func slice(from offset: Int, count: Int) -> Bytes {
        precondition(
            offset >= 0 && count >= 0 && offset <= self.count - count,
            "slice \(offset)+\(count) outside \(self.count) bytes")
        return Bytes(storage: storage, start: start + offset, count: count)
    }

    /// The address of the first byte modulo `alignment` is zero.
    public func isAligned(to alignment: Int) -> Bool {
        (Int(bitPattern: storage.base) + start) % alignment == 0
    }

    /// These bytes in a storage of their own if they pin one more than four times their size.
    ///
    /// A read buffer serves many small frames; keeping one of them for long would keep the whole buffer.
    public func unpinned() -> Bytes {
        storage.capacity <= 4 * count ? self : withUnsafeBytes { Bytes(copying: $0) }
    }

    public var array: [UInt8] { withUnsafeBytes { Array($0) } }
    /// The text, with U+FFFD for what is not UTF-8.
    public var text: String { withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
}

extension Bytes: Equatable {
    public static func == (left: Bytes, right: Bytes) -> Bool {
        left.count == right.count
            && left.withUnsafeBytes { a in right.withUnsafeBytes { b in a.elementsEqual(b) } }
    }
}
